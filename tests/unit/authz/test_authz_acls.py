"""Kafka's rules and the policy's lines: each told as the other, without loss."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.authz.acls import acls_of, adding, line_of, matching, removing
from appliance.authz.actions import ACTIONS_ON, Action, ResourceKind
from appliance.authz.policy import parse
from appliance.authz.snapshot import Asker, PolicySnapshot
from appliance.errors import ConfigurationError, RequestError
from appliance.types import Principal, PrincipalKind
from appliance.wire.requests import Acl, AclFilter

EVERYTHING = AclFilter(1, None, 1, None, None, 1, 1)
POLICY = """# a comment
g, User:alice, role:team
p, role:team, READ, TOPIC, orders, allow
p, role:team, *, TOPIC, team-*, deny, 10.0.0.1

p, User:admin, *, *, *, allow
"""

KINDS = {ResourceKind.TOPIC: 2, ResourceKind.GROUP: 3, ResourceKind.TRANSACTIONAL_ID: 5}
NUMBERS = {action: number for number, action in enumerate(list(Action), 3)}


@st.composite
def rules(draw):
    kind = draw(st.sampled_from(sorted(KINDS)))
    actions = sorted(ACTIONS_ON[kind])
    return Acl(
        KINDS[kind],
        draw(st.sampled_from(["orders", "team-a", "x"])),
        draw(st.sampled_from([3, 4])),
        draw(st.sampled_from(["User:alice", "User:bob", "role:team"])),
        draw(st.sampled_from(["*", "10.0.0.1", "::1"])),
        draw(st.sampled_from([2, *(NUMBERS[action] for action in actions)])),
        draw(st.sampled_from([2, 3])),
    )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(rules(), max_size=8))
def test_rules_become_lines_and_come_back_as_they_were(acls):
    text = adding("", [line_of(acl) for acl in acls])
    assert matching(EVERYTHING, text) == tuple(dict.fromkeys(acls))
    assert [acl for line in parse(text).lines for acl in acls_of(line)] == list(dict.fromkeys(acls))
    assert adding(text, [line_of(acl) for acl in acls]) == text


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(rules(), min_size=1, max_size=8, unique=True), st.data())
def test_what_is_removed_is_gone_and_nothing_else(acls, data):
    text = adding(POLICY, [line_of(acl) for acl in acls])
    one = data.draw(st.sampled_from(acls))
    exact = AclFilter(
        one.kind, one.name, one.pattern, one.principal, one.host, one.operation, one.permission
    )
    left, removed = removing(text, [exact])
    assert removed == [(one,)]
    before, after = matching(EVERYTHING, text), matching(EVERYTHING, left)
    assert after == tuple(acl for acl in before if acl != one)
    assert left.startswith("# a comment\ng, User:alice, role:team\n")


def test_a_line_about_every_kind_is_told_kind_by_kind_and_loses_only_what_is_removed():
    told = matching(AclFilter(1, None, 1, "User:admin", None, 1, 1), POLICY)
    assert sorted(acl.kind for acl in told) == [2, 3, 4, 5]
    left, (removed,) = removing(POLICY, [AclFilter(2, None, 1, "User:admin", None, 1, 1)])
    assert [acl.kind for acl in removed] == [2]
    snapshot = PolicySnapshot.of(1, left)
    admin = Asker(Principal(PrincipalKind.USER, "admin"), "kafka", "::1")
    assert not snapshot.decide(admin, Action.READ, ResourceKind.TOPIC, "orders").allowed
    for kind, name in [
        (ResourceKind.GROUP, "g"),
        (ResourceKind.CLUSTER, "kafka-cluster"),
        (ResourceKind.TRANSACTIONAL_ID, "t"),
        (ResourceKind.POLICY, "policy"),
    ]:
        assert snapshot.decide(admin, Action.DESCRIBE, kind, name).allowed, kind
    none, _ = removing(left, [EVERYTHING])
    assert "p, User:admin, *, POLICY, *, allow" in none


def test_a_line_that_reaches_the_cluster_by_a_prefix_keeps_doing_so():
    text = "p, User:a, *, *, kafka-*, deny\n"
    left, _ = removing(text, [AclFilter(2, None, 1, None, None, 1, 1)])
    assert "p, User:a, *, CLUSTER, kafka-cluster, deny" in left
    parse(left)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (AclFilter(2, "team-a", 2, None, None, 1, 1), {"team-", "*"}),
        (AclFilter(2, "orders", 2, None, None, 1, 1), {"orders", "*"}),
        (AclFilter(2, "orders", 3, None, None, 1, 1), {"orders"}),
        (AclFilter(2, "team-", 4, None, None, 1, 1), {"team-"}),
        (AclFilter(2, "team-", 1, None, None, 1, 1), {"team-"}),
        (AclFilter(2, "absent", 3, None, None, 1, 1), set()),
        (AclFilter(2, None, 1, None, "10.0.0.1", 1, 1), {"team-"}),
        (AclFilter(2, None, 1, None, None, 3, 1), {"orders"}),
        (AclFilter(2, None, 1, None, None, 1, 2), {"team-"}),
        (AclFilter(6, None, 1, None, None, 1, 1), set()),
    ],
)
def test_filters_mean_what_they_mean_in_kafka(wanted, names):
    assert {acl.name for acl in matching(wanted, POLICY)} == names


GOOD = {
    "kind": 2, "name": "orders", "pattern": 3, "principal": "User:a", "host": "*",
    "operation": 3, "permission": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": 0},
        {"kind": 1},
        {"kind": 6},
        {"kind": 4},
        {"name": ""},
        {"name": "a*b"},
        {"name": "a, allow\np, User:a, *, *, *, allow"},
        {"name": "a\nb"},
        {"name": "", "pattern": 4},
        {"pattern": 1},
        {"pattern": 2},
        {"principal": "User:*"},
        {"principal": "alice"},
        {"principal": "Group:x"},
        {"host": "example.com"},
        {"host": "1.1.1.1, x"},
        {"operation": 0},
        {"operation": 1},
        {"operation": 9},
        {"operation": 13},
        {"permission": 1},
        {"permission": 0},
    ],
)
def test_a_rule_that_no_line_can_say_is_refused(fault):
    line_of(Acl(**GOOD))
    with pytest.raises(RequestError):
        line_of(Acl(**GOOD | fault))


def test_the_last_line_of_a_role_with_members_is_not_taken_away_unnoticed():
    left, _ = removing(POLICY, [AclFilter(1, None, 1, "role:team", None, 1, 1)])
    with pytest.raises(ConfigurationError, match="role:team"):
        parse(left)


@pytest.mark.parametrize("wrong", [{"pattern": 0}, {"permission": 9}, {"operation": 99}])
def test_a_filter_that_means_nothing_is_refused(wrong):
    fields = {name: getattr(EVERYTHING, name) for name in EVERYTHING.__struct_fields__}
    with pytest.raises(RequestError):
        matching(AclFilter(**fields | wrong), POLICY)


@pytest.mark.parametrize("kind", [-1, 0, 8, 99])
def test_what_is_to_be_removed_is_of_a_kind_that_there_is(kind):
    with pytest.raises(RequestError, match="no such kind"):
        removing(POLICY, [AclFilter(kind, None, 1, None, None, 1, 1)])
    for none in (6, 7):  # Kafka's, of which there are no rules
        left, (removed,) = removing(POLICY, [AclFilter(none, None, 1, None, None, 1, 1)])
        assert (left, removed) == (POLICY, ())
