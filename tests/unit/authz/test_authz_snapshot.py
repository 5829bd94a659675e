"""The cache of decisions is bounded, complete in its key, and never changes an answer."""

import pytest

from appliance.authz import snapshot as module
from appliance.authz.actions import Action, ResourceKind
from appliance.authz.snapshot import Asker, PolicySnapshot
from appliance.types import Principal, PrincipalKind

TOPIC = ResourceKind.TOPIC


def asker(name: str, address: str = "10.0.0.1") -> Asker:
    return Asker(Principal(PrincipalKind.USER, name), "kafka", address)


def test_names_without_end_do_not_fill_memory(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED_DECISIONS", 100)
    snapshot = PolicySnapshot.of(1, "p, User:a, READ, TOPIC, *, allow")
    for number in range(1000):
        assert snapshot.decide(asker("a"), Action.READ, TOPIC, f"t{number}").allowed
        assert snapshot.cached_decisions <= 100


def test_principals_without_end_do_not_fill_memory(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED_DECISIONS", 100)
    snapshot = PolicySnapshot.of(1, "p, User:known, READ, TOPIC, *, allow")
    for number in range(1000):
        assert not snapshot.decide(asker(f"u{number}"), Action.READ, TOPIC, "t").allowed
    assert snapshot.cached_decisions <= 100
    policy = snapshot._policy
    assert policy._views == {}
    assert policy._answers == {}
    assert set(policy._casbin._enforcer.get_role_manager().all_roles) == set()


def test_a_long_name_is_kept_only_as_far_as_patterns_reach() -> None:
    text = "p, User:a, READ, TOPIC, " + "x" * 255 + "*, allow"
    snapshot = PolicySnapshot.of(1, text)
    assert snapshot.decide(asker("a"), Action.READ, TOPIC, "x" * 255).allowed
    assert snapshot.decide(asker("a"), Action.READ, TOPIC, "x" * 30_000).allowed
    assert not snapshot.decide(asker("a"), Action.READ, TOPIC, "x" * 254).allowed
    assert max(len(key[3]) for key in snapshot._recent) == 256


def test_a_long_name_is_not_taken_for_the_literal_it_starts_with() -> None:
    snapshot = PolicySnapshot.of(1, "p, User:a, READ, TOPIC, " + "x" * 255 + ", allow")
    assert snapshot.decide(asker("a"), Action.READ, TOPIC, "x" * 255).allowed
    for length in (254, 256, 257, 30_000):
        assert not snapshot.decide(asker("a"), Action.READ, TOPIC, "x" * length).allowed


def test_what_is_asked_often_stays(monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED_DECISIONS", 10)
    snapshot = PolicySnapshot.of(1, "p, User:a, READ, TOPIC, *, allow")
    for number in range(50):
        snapshot.decide(asker("a"), Action.READ, TOPIC, "hot")
        snapshot.decide(asker("a"), Action.READ, TOPIC, f"t{number}")
    keys = {*snapshot._recent, *snapshot._older}
    assert any(key[3] == "hot" for key in keys)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((asker("a"), Action.READ, TOPIC, "t"), (asker("b"), Action.READ, TOPIC, "t")),
        ((asker("a"), Action.READ, TOPIC, "t"), (asker("a"), Action.WRITE, TOPIC, "t")),
        ((asker("a"), Action.READ, TOPIC, "t"), (asker("a"), Action.READ, TOPIC, "u")),
        (
            (asker("a"), Action.READ, TOPIC, "t"),
            (asker("a"), Action.READ, ResourceKind.GROUP, "t"),
        ),
        (
            (asker("a"), Action.READ, TOPIC, "t"),
            (asker("a", "10.0.0.2"), Action.READ, TOPIC, "t"),
        ),
        (
            (asker("a"), Action.READ, TOPIC, "t"),
            (
                Asker(Principal(PrincipalKind.NODE, "a"), "kafka", "10.0.0.1"),
                Action.READ,
                TOPIC,
                "t",
            ),
        ),
    ],
)
def test_one_attribute_more_is_another_decision(one, other) -> None:
    for order in ((one, other, one, other), (other, one, other, one)):
        snapshot = PolicySnapshot.of(1, "p, User:a, READ, TOPIC, t, allow, 10.0.0.1")
        for question in order:
            assert snapshot.decide(*question).allowed is (question is one)


def test_a_reason_names_the_line_the_pattern_and_the_version() -> None:
    text = "# rules\n\np, User:a, READ, TOPIC, demo-*, allow\np, User:a, READ, TOPIC, demo-x, deny"
    snapshot = PolicySnapshot.of(7, text)
    granted = snapshot.decide(asker("a"), Action.DESCRIBE, TOPIC, "demo-1")
    assert granted.rule == "line 3: p, User:a, READ, TOPIC, demo-*, allow"
    assert (granted.pattern, granted.policy_version) == ("demo-*", 7)
    refused = snapshot.decide(asker("a"), Action.READ, TOPIC, "demo-x")
    assert refused.rule == "line 4: p, User:a, READ, TOPIC, demo-x, deny"
    assert refused.denied
    silent = snapshot.decide(asker("a"), Action.READ, TOPIC, "x")
    assert (silent.rule, silent.pattern, silent.denied) == (module.NO_LINE, "", False)
