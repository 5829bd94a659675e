"""A policy's text is data: what is not plainly right is refused with the number of its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.authz.enforcer import check
from appliance.authz.policy import MAX_ROLE_DEPTH, MAX_ROLES_PER_SUBJECT, canonical_host, parse
from appliance.errors import ConfigurationError
from appliance.limits import MAX_POLICY_BYTES

GOOD = "p, User:a, READ, TOPIC, demo, allow"


@pytest.mark.parametrize(
    "line",
    [
        "p, User:a, READ, TOPIC, demo",
        "p, User:a, READ, TOPIC, demo, allow, *, more",
        "p, User:a, READ, TOPIC, demo, Allow",
        "p, User:a, READ, TOPIC, demo, maybe",
        "p, User:a, read, TOPIC, demo, allow",
        "p, User:a, REED, TOPIC, demo, allow",
        "p, User:a, READ, TOPICS, demo, allow",
        "p, User:a, READ, CLUSTER, *, allow",
        "p, User:a, WRITE, GROUP, *, allow",
        "p, User:a, CREATE, CLUSTER, cluster, allow",
        "p, User:a, ALTER, POLICY, pol*, allow",
        "p, a, READ, TOPIC, demo, allow",
        "p, *, READ, TOPIC, demo, allow",
        "p, User:*, READ, TOPIC, demo, allow",
        "p, User:, READ, TOPIC, demo, allow",
        "p, Node:1, READ, TOPIC, demo, allow",
        "p, user:a, READ, TOPIC, demo, allow",
        "p, User:a b, READ, TOPIC, demo, allow",
        "p, User:a, READ, TOPIC, , allow",
        "p, User:a, READ, TOPIC, de*mo, allow",
        "p, User:a, READ, TOPIC, *demo, allow",
        "p, User:a, READ, TOPIC, demo**, allow",
        "p, User:a, READ, TOPIC, ^demo.$, allow",
        "p, User:a, READ, TOPIC, demo?, allow",
        "p, User:a, READ, TOPIC, [a-z], allow",
        "p, User:a, READ, TOPIC, a|b, allow",
        'p, User:a, READ, TOPIC, "demo", allow',
        "p, User:a, READ, TOPIC, 'demo', allow",
        "p, User:a, READ, TOPIC, demo\\, allow",
        "p, User:a, READ, TOPIC, dеmo, allow",  # noqa: RUF001 - a Cyrillic letter
        "p, User:a, READ, TOPIC, demo\u200b, allow",
        "p, User:a, READ, TOPIC, demo\x00, allow",
        "p, User:a, READ, TOPIC, demo\rp, User:b",
        "p, User:a, READ, TOPIC, " + "x" * 256 + ", allow",
        "p, User:a, READ, TOPIC, demo, allow, 10.0.0.0/8",
        "p, User:a, READ, TOPIC, demo, allow, localhost",
        "p, User:a, READ, TOPIC, demo, allow, fe80::1%eth0",
        "p, User:a, READ, TOPIC, demo, allow # why",
        "g, User:a",
        "g, User:a, role:none",
        "g, User:a, User:b",
        "g, role:x, User:b",
        "g, User:a, admin",
        "p2, User:a, READ, TOPIC, demo, allow",
        "P, User:a, READ, TOPIC, demo, allow",
        "m = true",
        "e",
        ",",
        "# comment with a line\u2028p, User:evil, READ, TOPIC, x, allow",
        "# comment turned \u202e around",
    ],
)
def test_a_wrong_line_is_named(line: str) -> None:
    with pytest.raises(ConfigurationError, match="policy line 3:"):
        check(f"{GOOD}\n\n{line}\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "# only words: grün, 日本",
        GOOD,
        GOOD + "\r\n",
        "  p ,User:a,READ,TOPIC,demo,allow\t",
        "p, User:a, *, *, *, deny",
        "p, User:a, READ, TOPIC, demo-*, allow, *",
        "p, User:a, READ, TOPIC, demo-*, allow, 10.0.0.1\np, User:a, READ, TOPIC, demo-*, deny",
        "p, User:a, READ, TOPIC, demo, allow, ::1",
        "p, User:spiffe://x/user/a=1@b, READ, GROUP, a.b_c~d%e+f:g/h, allow",
        "g, User:a, role:r\np, role:r, READ, TOPIC, demo, allow",
    ],
)
def test_a_right_text_is_taken(text: str) -> None:
    check(text)


def test_a_line_that_is_there_twice_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"line 2: it repeats line 1"):
        check(f"{GOOD}\n{GOOD.replace(' ', '')}, *")
    with pytest.raises(ConfigurationError, match=r"line 3: it repeats line 2"):
        check("p, role:r, *, *, *, allow\ng, User:a, role:r\ng, User:a, role:r")


def test_a_policy_is_bounded_in_size() -> None:
    with pytest.raises(ConfigurationError):
        check("#" * (MAX_POLICY_BYTES + 1))
    with pytest.raises(ConfigurationError):
        check("# " + "日" * (MAX_POLICY_BYTES // 3 + 1))


def chain(length: int) -> str:
    links = "\n".join(f"g, role:r{n}, role:r{n + 1}" for n in range(1, length))
    return f"g, User:a, role:r1\n{links}\np, role:r{length}, READ, TOPIC, demo, allow"


def test_roles_are_bounded_in_depth(bench) -> None:
    assert bench(chain(MAX_ROLE_DEPTH)).decide("a", "READ", "TOPIC", "demo").allowed
    with pytest.raises(ConfigurationError, match="beyond"):
        check(chain(MAX_ROLE_DEPTH + 1))


@pytest.mark.parametrize("length", [1, 2, 5, MAX_ROLE_DEPTH, MAX_ROLE_DEPTH + 3])
def test_roles_in_a_circle_are_refused(length: int) -> None:
    links = "\n".join(f"g, role:r{n}, role:r{(n + 1) % length}" for n in range(length))
    with pytest.raises(ConfigurationError, match=r"itself|beyond"):
        check(f"p, role:r0, READ, TOPIC, demo, allow\n{links}")


def test_roles_of_one_member_are_bounded() -> None:
    def wide(count: int) -> str:
        return "\n".join(
            f"g, User:a, role:r{n}\np, role:r{n}, READ, TOPIC, t, allow" for n in range(count)
        )

    check(wide(MAX_ROLES_PER_SUBJECT))
    with pytest.raises(ConfigurationError, match="more than"):
        check(wide(MAX_ROLES_PER_SUBJECT + 1))


@given(st.text(max_size=200))
def test_any_text_is_taken_or_refused_with_its_line(text: str) -> None:
    try:
        check(text)
    except ConfigurationError as error:
        assert str(error).startswith("policy")  # noqa: PT017


@given(
    st.lists(
        st.text(alphabet="pg,*:\n\r#ab \"'\\\x00\u2028", max_size=12) | st.just(GOOD), max_size=6
    )
)
def test_no_line_smuggles_in_another(parts: list[str]) -> None:
    text = ",".join(parts)
    try:
        policy = parse(text)
    except ConfigurationError:
        return
    written = [row.strip() for row in text.split("\n")]
    assert len(policy.lines) <= len([row for row in written if row.startswith("p")])


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("", None),
        ("unix", None),
        ("127.0.0.1:99", None),
        ("0127.0.0.1", None),
    ],
)
def test_an_address_has_one_spelling(address: str, host: str | None) -> None:
    assert canonical_host(address) == host
