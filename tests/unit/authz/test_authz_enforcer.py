"""Deny wins, names are plain data, and index, Casbin and a plain reading of the lines agree."""

import logging
import sys

import casbin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.authz import enforcer as module
from appliance.authz.actions import GRANTED_BY, Action, ResourceKind
from appliance.authz.enforcer import CompiledPolicy, check
from appliance.authz.index import brings, covers, reaches
from appliance.authz.policy import Effect, parse
from appliance.errors import ConfigurationError

TOPIC = ResourceKind.TOPIC
USERS = ("User:a", "User:b")
SUBJECTS = (*USERS, "role:x", "role:y")
PATTERNS = ("*", "a*", "ab*", "a", "ab", "abc", "b")
NAMES = ("a", "ab", "abc", "abcd", "b", "", "*", "a*", "A")
ACTIONS = ("*", "READ", "WRITE", "DESCRIBE", "DELETE")
HOSTS = ("*", "10.0.0.1", "10.0.0.2")

line_fields = st.tuples(
    st.sampled_from(SUBJECTS),
    st.sampled_from(ACTIONS),
    st.sampled_from(("*", "TOPIC", "GROUP")),
    st.sampled_from(PATTERNS),
    st.sampled_from(("allow", "allow", "deny")),
    st.sampled_from(HOSTS),
)
memberships = st.sets(
    st.sampled_from((("User:a", "role:x"), ("User:b", "role:y"), ("role:x", "role:y")))
)


def written(lines: set[tuple[str, ...]], links: set[tuple[str, str]]) -> str:
    """A policy text of these lines; what is not possible (WRITE on a group) is left out."""
    rows = [
        f"p, {', '.join(f)}" for f in sorted(lines) if not (f[1] == "WRITE" and f[2] != "TOPIC")
    ]
    with_lines = {f.split(", ")[1] for f in rows}
    rows += [f"g, {m}, {r}" for m, r in sorted(links) if r in with_lines]
    return "\n".join(rows)


def plain_reading(text: str, subject: str, host: str, action: str, kind: str, name: str) -> bool:
    """What a person would read out of the lines: written again, without index or Casbin."""
    rows = [[f.strip() for f in row.split(",")] for row in text.split("\n") if row]
    subjects = {subject}
    for _ in range(3):
        subjects |= {row[2] for row in rows if row[0] == "g" and row[1] in subjects}
    allowed = False
    for _, who, what, on, pattern, effect, *where in (row for row in rows if row[0] == "p"):
        covered = name.startswith(pattern[:-1]) if pattern[-1] == "*" else pattern == name
        acts = {"*", action}
        if effect == "allow" and action == "DESCRIBE":
            acts |= {"READ", "WRITE", "DELETE", "ALTER"}
        place = not where or where[0] in {"*", host}
        if who in subjects and what in acts and on in {"*", kind} and covered and place:
            if effect == "deny":
                return False
            allowed = True
    return allowed


def every_question():
    for subject in USERS:
        for action in (Action.READ, Action.WRITE, Action.DESCRIBE):
            for name in NAMES:
                yield subject, "10.0.0.1", action, TOPIC, name


@settings(max_examples=60, deadline=None)
@given(st.sets(line_fields, max_size=10), memberships)
def test_index_and_casbin_say_what_a_plain_reading_says(lines, links) -> None:
    text = written(lines, links)
    policy = CompiledPolicy(parse(text))
    for question in every_question():
        line = policy.ruling(*question)
        allowed = line is not None and line.effect is Effect.ALLOW
        assert allowed is plain_reading(text, *question)


@settings(max_examples=15, deadline=None)
@given(st.sets(line_fields, min_size=1, max_size=8), memberships)
def test_casbin_over_all_lines_says_the_same_as_over_the_index(lines, links) -> None:
    parsed = parse(written(lines, links))
    policy = CompiledPolicy(parsed)
    whole = module._Casbin(parsed.links)
    for subject, host, action, kind, name in every_question():
        line = policy.ruling(subject, host, action, kind, name)
        allowed = line is not None and line.effect is Effect.ALLOW
        if parsed.lines:
            question = (subject, action.value, kind.value, name, host)
            assert whole.enforce(parsed.lines, question) is allowed


@settings(max_examples=60, deadline=None)
@given(st.sets(line_fields, max_size=8), memberships, st.sampled_from(NAMES), st.integers(0, 99))
def test_deny_wins_wherever_it_stands(lines, links, name, place) -> None:
    deny = ("User:a", "READ", "TOPIC", "*", "deny", "*")
    rows = [row for row in written(lines - {deny}, links).split("\n") if row]
    rows.insert(place % (len(rows) + 1), f"p, {', '.join(deny[:-1])}")
    line = CompiledPolicy(parse("\n".join(rows))).ruling(
        "User:a", "10.0.0.1", Action.READ, TOPIC, name
    )
    assert line is not None
    assert line.effect is Effect.DENY


@settings(max_examples=40, deadline=None)
@given(st.sets(line_fields, max_size=8), line_fields, memberships)
def test_one_more_deny_never_grants_and_one_more_allow_never_refuses(lines, extra, links) -> None:
    before = CompiledPolicy(parse(written(lines, links)))
    after = CompiledPolicy(parse(written(lines | {extra}, links)))
    if written(lines, links).count("g,") != written(lines | {extra}, links).count("g,"):
        return
    for question in every_question():
        was, now = before.ruling(*question), after.ruling(*question)
        granted = was is not None and was.effect is Effect.ALLOW
        grants = now is not None and now.effect is Effect.ALLOW
        assert (grants <= granted) if extra[4] == "deny" else (granted <= grants)


@pytest.mark.parametrize(
    "name",
    [
        "*", "demo*", "demo-?", "demo-[a]", "demo.*", "^.*$", "(a+)+$", "demo-1\n", "demo-1\r\n",
        "demo-1,allow", 'demo-1"', "demo-1'", "demo-1\\", "demo-1 ", " demo-1", "DEMO-1",
        "demo\u20101", "d\u0435mo-1", "demo-1\x00", "demo-1\u200b", "p.name", "r.name",
        "eval(p.sub)", "%2a", "", "{{1}}", "demo-1;p, User:a, READ, TOPIC, *, allow",
    ],
)  # fmt: skip
def test_a_name_never_acts_as_a_pattern(name: str) -> None:
    policy = CompiledPolicy(parse("p, User:a, READ, TOPIC, demo-1, allow"))
    assert policy.ruling("User:a", "", Action.READ, TOPIC, "demo-1") is not None
    assert policy.ruling("User:a", "", Action.READ, TOPIC, name) is None


@pytest.mark.parametrize(
    "name", ["demo-1\n", "demo-\x00", "demo-,x", 'demo-"', "demo-*", "demo-\u202e", "demo-" * 5000]
)
def test_a_hostile_name_does_not_escape_a_prefix_that_denies(name: str) -> None:
    policy = CompiledPolicy(
        parse("p, User:a, READ, TOPIC, *, allow\np, User:a, READ, TOPIC, demo-*, deny")
    )
    line = policy.ruling("User:a", "", Action.READ, TOPIC, name)
    assert line is not None
    assert line.effect is Effect.DENY


@pytest.mark.parametrize("subject", ["role:x", "User:a,role:x", "User:A", "User:a ", "*", "", "p"])
def test_a_principal_cannot_take_a_role_by_its_name(subject: str) -> None:
    policy = CompiledPolicy(parse("g, User:a, role:x\np, role:x, READ, TOPIC, *, allow"))
    assert policy.ruling("User:" + subject, "", Action.READ, TOPIC, "demo") is None


def steps(question) -> int:
    """Calls of Python functions, a measure that no other load on the machine changes."""
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        question()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("effect", ["allow", "deny"])
def test_steps_are_bounded_whatever_patterns_and_names_say(effect: str) -> None:
    prefixes = "\n".join(f"p, User:a, READ, TOPIC, {'a' * n}*, {effect}" for n in range(1, 255))
    few = CompiledPolicy(parse(f"p, User:a, READ, TOPIC, *, {effect}\n{prefixes}"))
    counts = {
        length: steps(lambda n=length: few.ruling("User:a", "", Action.READ, TOPIC, "a" * n))
        for length in (300, 32_000)
    }
    assert counts[300] < 20_000
    assert counts[32_000] <= counts[300]


def test_casbin_is_handed_a_bounded_number_of_lines() -> None:
    roles = "\n".join(
        f"g, User:a, role:r{n}\np, role:r{n}, READ, TOPIC, demo*, allow" for n in range(60)
    )
    policy = CompiledPolicy(parse(roles))
    handed: list[int] = []
    ask = policy._casbin.enforce

    class Watched:
        def enforce(self, lines, request) -> bool:
            handed.append(len(lines))
            return ask(lines, request)

    policy._casbin = Watched()
    assert policy.ruling("User:a", "", Action.READ, TOPIC, "demo-1") is not None
    assert policy.ruling("User:a", "", Action.READ, TOPIC, "demo-2") is not None
    assert handed == [module.MAX_ALLOWING_LINES]


def test_a_host_in_a_line_binds_it_to_that_address() -> None:
    policy = CompiledPolicy(parse("p, User:a, READ, TOPIC, *, allow, 10.0.0.1"))
    for address, granted in [
        ("10.0.0.1", True), ("::ffff:10.0.0.1", True), ("10.0.0.10", False), ("", False),
        ("unix", False), ("10.0.0.1:80", False),
    ]:  # fmt: skip
        line = policy.ruling("User:a", address, Action.READ, TOPIC, "demo")
        assert (line is not None) is granted, address


@pytest.mark.parametrize("address", ["10.0.0.1", "::ffff:10.0.0.1", "", "unix", "nonsense"])
def test_a_host_that_denies_also_denies_whoever_has_no_address(address: str) -> None:
    text = "p, User:a, READ, TOPIC, *, allow\np, User:a, READ, TOPIC, *, deny, 10.0.0.1"
    line = CompiledPolicy(parse(text)).ruling("User:a", address, Action.READ, TOPIC, "demo")
    assert line is not None
    assert line.effect is Effect.DENY


def test_reading_implies_describing_and_denying_it_does_not() -> None:
    assert brings("DESCRIBE", "READ", "allow")
    assert not brings("DESCRIBE", "READ", "deny")
    assert not brings("READ", "DESCRIBE", "allow")
    assert brings("READ", "*", "deny")
    for action, bringing in GRANTED_BY.items():
        assert action in bringing


def test_an_empty_host_is_nobody_for_lines_that_allow() -> None:
    assert not reaches("", "10.0.0.1", "allow")
    assert reaches("", "10.0.0.1", "deny")
    assert covers("", "*")
    assert not covers("", "a*")


def test_requests_names_do_not_reach_the_log(caplog) -> None:
    policy = CompiledPolicy(parse("p, User:a, READ, TOPIC, *, deny"))
    with caplog.at_level(logging.DEBUG):
        policy.ruling("User:a", "", Action.READ, TOPIC, "canary-name")
    assert "canary-name" not in caplog.text


def test_a_model_that_was_changed_is_not_loaded(monkeypatch) -> None:
    module._trusted_model.cache_clear()
    monkeypatch.setattr(module, "model_text", lambda: "m = true")
    try:
        with pytest.raises(ConfigurationError, match=r"model\.conf"):
            CompiledPolicy(parse(""))
    finally:
        module._trusted_model.cache_clear()


def test_without_lines_casbin_would_judge_empty_fields_so_it_is_not_asked() -> None:
    """Why the enforcer asks only with candidates: Casbin matches an empty policy against ''."""
    model = casbin.Model()
    model.load_model_from_text(module._trusted_model())
    bare = casbin.Enforcer(model)
    for function in (covers, brings, reaches):
        bare.add_function(function.__name__, function)
    assert bare.enforce("", "", "", "", "") is True
    assert CompiledPolicy(parse("")).ruling("", "", Action.READ, TOPIC, "") is None


def test_checking_a_text_makes_its_use_free() -> None:
    text = "p, User:a, READ, TOPIC, checked-*, allow"
    check(text)
    assert module.compiled(text) is module.compiled(text)
