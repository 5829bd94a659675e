"""Only the gate mints proofs; one holds what is granted, by one policy, and can be taken back."""

import copy
import pickle
import sys
from uuid import UUID

import msgspec
import pytest

from appliance.authz.actions import Action, Resource, ResourceKind
from appliance.authz.decision import Decision, Denied
from appliance.authz.gate import Authorized, Gate, prove
from appliance.authz.peer_rows import ALL_ROWS
from appliance.authz.snapshot import Asker, PolicySnapshot
from appliance.errors import ConfigurationError, ErrorCode
from appliance.invariant import InvariantViolation
from appliance.types import Principal, PrincipalKind, TopicId
from appliance.wire import requests as wire

ALICE = Principal(PrincipalKind.USER, "alice")
SOME = """
p, User:alice, READ, TOPIC, demo, allow
p, User:alice, WRITE, TOPIC, demo, allow
p, User:alice, READ, GROUP, team-*, allow
"""


NO_IDEMPOTENCE = """
p, User:alice, WRITE, TOPIC, *, allow
p, User:alice, IDEMPOTENT_WRITE, CLUSTER, *, deny
"""


def fetch(*names: str) -> wire.Fetch:
    return wire.Fetch(0, 1, 1, 0, tuple(wire.FetchTopic(name, ()) for name in names))


def produce(*names: str) -> wire.Produce:
    return wire.Produce(-1, 1, tuple(wire.ProduceTopic(name, ()) for name in names))


# --- only the gate mints ---------------------------------------------------------------------


def test_nobody_else_builds_a_proof() -> None:
    snapshot = PolicySnapshot.of(1, "")
    asker = Asker(ALICE, "kafka", "::1")
    for token in (None, object(), True, "token"):
        with pytest.raises(InvariantViolation):
            Authorized(token, fetch("demo"), fetch("demo"), (), asker, snapshot)


def test_a_proof_is_not_subclassed_copied_or_pickled(bench) -> None:
    authorized = bench(SOME).judge("alice", fetch("demo"))
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(InvariantViolation):
            duplicate(authorized)
    for name in ("request", "asked", "refused", "principal", "policy_version"):
        with pytest.raises(AttributeError):
            setattr(authorized, name, None)


def test_dispatch_tells_a_proof_from_anything_else(bench) -> None:
    authorized = bench(SOME).judge("alice", fetch("demo"))
    prove(authorized)

    class Lookalike:
        _token = authorized._token

    empty = object.__new__(Authorized)
    for forged in (None, fetch("demo"), Lookalike(), empty, Authorized, Denied):
        with pytest.raises(InvariantViolation):
            prove(forged)


def test_a_request_without_a_row_is_a_fault_of_ours(bench) -> None:
    class Stray(wire.Request, frozen=True):
        pass

    with pytest.raises(InvariantViolation):
        bench(SOME).judge("alice", Stray())


def test_a_subclass_of_a_request_does_not_inherit_its_row(bench) -> None:
    class Wider(wire.Metadata, frozen=True, tag="WiderMetadata"):
        more: str = "secret"

    with pytest.raises(InvariantViolation):
        bench(SOME).judge("alice", Wider(()))


def test_a_decision_has_no_truth_of_its_own() -> None:
    for allowed in (True, False):
        with pytest.raises(TypeError):
            bool(Decision(allowed, "", "", 1))


# --- what a proof holds ------------------------------------------------------------------------


def test_granted_items_stay_and_the_others_are_told_with_their_reasons(bench, topic) -> None:
    authorized = bench(SOME).judge("alice", fetch("demo", "secret", "demo", "other"))
    assert [t.name for t in authorized.request.topics] == ["demo", "demo"]
    assert [r.resource for r in authorized.refused] == [topic("secret"), topic("other")]
    assert authorized.refused_codes(ResourceKind.TOPIC) == {
        "secret": ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        "other": ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    }
    assert authorized.refused_codes(ResourceKind.GROUP) == {}
    assert authorized.principal == ALICE
    assert authorized.policy_version == 1


def test_all_else_of_a_request_is_kept(bench) -> None:
    asked = wire.Fetch(7, 8, 9, 1, fetch("demo", "x").topics, 3, 4, "rack")
    narrowed = bench(SOME).judge("alice", asked).request
    assert narrowed == wire.Fetch(7, 8, 9, 1, fetch("demo").topics, 3, 4, "rack")


def test_offsets_are_narrowed_by_group_and_by_topic(bench) -> None:
    rig = bench(SOME)
    group = wire.OffsetFetchGroup
    both = (("demo", (0,)), ("secret", (0, 1)))
    asked = wire.OffsetFetch((group("team-a", both), group("rivals", both), group("team-b", None)))
    authorized = rig.judge("alice", asked)
    assert authorized.request == wire.OffsetFetch(
        (group("team-a", (("demo", (0,)),)), group("team-b", None))
    )
    assert authorized.refused_codes(ResourceKind.GROUP) == {
        "rivals": ErrorCode.GROUP_AUTHORIZATION_FAILED
    }
    assert authorized.refused_codes(ResourceKind.TOPIC) == {
        "secret": ErrorCode.TOPIC_AUTHORIZATION_FAILED
    }


def test_a_commit_needs_the_group_and_each_topic(bench) -> None:
    rig = bench(SOME)
    topics = (wire.CommitTopic("demo", ()), wire.CommitTopic("secret", ()))
    authorized = rig.judge("alice", wire.OffsetCommit("team-a", 1, "", topics))
    assert authorized.request.topics == topics[:1]
    denied = rig.judge("alice", wire.OffsetCommit("rivals", 1, "", topics))
    assert isinstance(denied, Denied)
    assert denied.resource == Resource(ResourceKind.GROUP, "rivals")


def test_whoever_may_write_to_some_topic_may_have_a_producer_id(bench) -> None:
    rig = bench(SOME)
    assert isinstance(rig.judge("alice", wire.InitProducerId(None, 1)), Authorized)
    assert isinstance(rig.judge("bob", wire.InitProducerId(None, 1)), Denied)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("p, User:alice, WRITE, TOPIC, *, allow", True),
        ("p, User:alice, WRITE, TOPIC, a-*, allow\np, User:alice, WRITE, TOPIC, a-b, deny", True),
        ("p, User:alice, WRITE, TOPIC, a-b, allow\np, User:alice, WRITE, TOPIC, a-*, deny", False),
        ("p, User:alice, WRITE, TOPIC, *, allow\np, User:alice, WRITE, TOPIC, *, deny", False),
        ("p, User:alice, WRITE, TOPIC, a-*, allow\np, User:alice, WRITE, TOPIC, a*, deny", False),
        ("p, User:alice, READ, TOPIC, *, allow", False),
        (NO_IDEMPOTENCE, False),
    ],
)
def test_some_topic_means_one_that_no_line_denies(bench, text, allowed) -> None:
    ruling = bench(text).judge("alice", wire.InitProducerId(None, 1))
    assert isinstance(ruling, Authorized) is allowed


def test_creating_in_the_cluster_creates_each_topic_that_is_not_denied(bench) -> None:
    text = "p, User:a, CREATE, CLUSTER, *, allow\np, User:a, CREATE, TOPIC, secret-*, deny"
    asked = wire.CreateTopics((wire.NewTopic("demo"), wire.NewTopic("secret-1")), 1)
    authorized = bench(text).judge("a", asked)
    assert [t.name for t in authorized.request.topics] == ["demo"]
    assert authorized.permits(Action.CREATE, Resource(ResourceKind.TOPIC, "new")).allowed
    assert authorized.permits(Action.CREATE, Resource(ResourceKind.TOPIC, "secret-2")).denied


# --- listing, and what does not exist ----------------------------------------------------------


def test_a_listing_hides_what_may_not_be_described(bench) -> None:
    authorized = bench(SOME).judge("alice", wire.Metadata(None))
    assert authorized.request.topics == ("demo",)
    assert authorized.refused == ()
    assert bench(SOME).judge("bob", wire.Metadata(None)).request.topics == ()


def test_no_narrowing_turns_some_topics_into_all(bench) -> None:
    for asked in (wire.Metadata(("secret",)), wire.Metadata(()), wire.Metadata(None)):
        assert bench(SOME).judge("bob", asked).request.topics == ()


def test_results_are_listed_by_the_same_decisions(bench) -> None:
    authorized = bench(SOME).judge("alice", wire.OffsetFetch(()))
    names = ("demo", "secret", "demo")
    assert authorized.granted(Action.DESCRIBE, ResourceKind.TOPIC, names) == ("demo", "demo")


def test_a_refused_topic_and_one_that_does_not_exist_get_the_same_answer(bench) -> None:
    for asked in (wire.Metadata(("other",)), fetch("other"), produce("other")):
        answers = set()
        for topics in ((), ("other",)):
            rig = bench(SOME)
            rig.topics = topics
            authorized = rig.judge("bob", asked)
            answers.add((repr(authorized.request), authorized.refused))
        assert len(answers) == 1


# --- one policy for one judgement, and taking back ----------------------------------------------


def test_the_policy_is_read_once_for_a_judgement(bench) -> None:
    rig = bench(SOME)
    before = rig.policies_read
    rig.judge("alice", fetch(*(f"t{n}" for n in range(50))))
    assert rig.policies_read == before + 1


def test_a_proof_keeps_its_policy_while_the_policy_changes(bench, topic) -> None:
    rig = bench(SOME)
    authorized = rig.judge("alice", fetch("demo"))
    rig.replace("")
    assert authorized.permits(Action.READ, topic("demo")).allowed
    assert authorized.permits(Action.READ, topic("demo")).policy_version == 1
    assert rig.judge("alice", fetch("demo")).policy_version == 2
    assert authorized.policy_version == 1


def test_a_policy_that_changes_in_the_middle_does_not_mix(bench) -> None:
    """The source changes under the gate's hands, as it does when a command is applied."""
    rig = bench(SOME)
    rig.topic_names = lambda: (rig.replace(""), rig.topics)[1]
    authorized = rig.judge("alice", wire.Metadata(None))
    assert authorized.policy_version == 1
    assert authorized.request.topics == ("demo",)
    assert rig.judge("alice", wire.Metadata(("demo",))).request.topics == ()


def test_no_decision_outlives_its_policy(bench) -> None:
    rig = bench(SOME)
    assert rig.judge("alice", fetch("demo")).refused == ()
    rig.replace("")
    assert len(rig.judge("alice", fetch("demo")).refused) == 1
    rig.replace(SOME)
    assert rig.judge("alice", fetch("demo")).refused == ()


def test_a_text_that_changes_without_its_version_is_a_new_policy(bench) -> None:
    rig = bench(SOME)
    assert rig.judge("alice", fetch("demo")).refused == ()
    rig.text = ""
    assert len(rig.judge("alice", fetch("demo")).refused) == 1


def test_a_parked_request_is_judged_again(bench) -> None:
    rig = bench(SOME + "p, User:alice, READ, TOPIC, other, allow")
    first = rig.judge("alice", fetch("demo", "other", "secret"))
    assert rig.gate.rejudge(first) is first
    rig.replace(SOME + "p, User:alice, READ, TOPIC, secret, allow")
    second = rig.gate.rejudge(first)
    assert [t.name for t in second.request.topics] == ["demo"]
    assert [r.resource.name for r in second.refused] == ["secret", "other"]
    assert second.asked is first.asked
    assert second.policy_version == 2


def test_a_parked_member_loses_its_group(bench) -> None:
    rig = bench(SOME)
    parked = rig.judge("alice", wire.JoinGroup("team-a", 1, 1, "", "consumer", ()))
    rig.replace("")
    denied = rig.gate.rejudge(parked)
    assert isinstance(denied, Denied)
    assert denied.code is ErrorCode.GROUP_AUTHORIZATION_FAILED


def test_a_parked_request_is_refused_when_contact_was_lost(bench) -> None:
    rig = bench(SOME)
    parked = rig.judge("alice", fetch("demo"))
    rig.age_s = 6.0
    assert isinstance(rig.gate.rejudge(parked), Denied)


def test_only_proofs_are_judged_again(bench) -> None:
    with pytest.raises(InvariantViolation):
        bench(SOME).gate.rejudge(fetch("demo"))


def test_a_policy_that_cannot_be_read_refuses_everything(bench) -> None:
    rig = bench(SOME)
    rig.replace("p, User:alice, REED, TOPIC, demo, allow")
    assert len(rig.judge("alice", fetch("demo")).refused) == 1
    rig.replace(SOME)
    assert rig.judge("alice", fetch("demo")).refused == ()


def test_a_gate_does_not_start_on_a_policy_that_cannot_be_read(bench) -> None:
    with pytest.raises(ConfigurationError, match="line 1"):
        bench("nonsense")


def test_the_gate_names_its_policy(bench) -> None:
    gate = bench(SOME).gate
    assert isinstance(gate, Gate)
    assert gate.policy_version == 1
    assert gate.compiled_in_s == 0.0


def test_a_decision_that_was_made_before_costs_few_steps(bench) -> None:
    """Python calls stand for time, which the machine's other load would change."""
    rig = bench(SOME)
    request = produce("demo")
    rig.judge("alice", request)
    calls = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(counted)
    try:
        rig.gate.judge(ALICE, request, listener="native", address="127.0.0.1")
    finally:
        sys.setprofile(None)
    assert calls <= 16


# --- the short way of a request that names one thing -------------------------------------------

TRANSACTIONS = """
p, User:alice, WRITE, TOPIC, demo, allow
p, User:alice, WRITE, TOPIC, d*, deny, 10.0.0.9
p, User:bob, WRITE, TOPIC, *, allow
p, User:bob, WRITE, TRANSACTIONAL_ID, t-*, allow
"""
KNOWN = TopicId(UUID(int=1))


@pytest.mark.parametrize("who", ["alice", "bob", "mallory"])
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.9"])
@pytest.mark.parametrize("listener", ["kafka", "peer"])
@pytest.mark.parametrize("transaction", [None, "", "t-1", "u-1"])
@pytest.mark.parametrize("age_s", [0.0, 6.0])
def test_the_short_way_of_a_sole_topic_comes_to_what_the_long_way_does(
    bench, who: str, address: str, listener: str, transaction: str | None, age_s: float
) -> None:
    short = bench(TRANSACTIONS)
    row = msgspec.structs.replace(ALL_ROWS[wire.Produce], sole=None)
    long = bench(TRANSACTIONS, {**ALL_ROWS, wire.Produce: row})
    for rig in (short, long):
        rig.age_s = age_s
        rig.ids[KNOWN] = "demo"
    topics = [
        (),
        *((wire.ProduceTopic(name, ()),) for name in ("demo", "secret", "")),
        (wire.ProduceTopic("secret", (), KNOWN),),
        (wire.ProduceTopic("demo", (), TopicId(UUID(int=2))),),
        (wire.ProduceTopic("demo", ()), wire.ProduceTopic("secret", ())),
    ]
    for named in topics:
        asked = wire.Produce(-1, 1, named, transaction)
        rulings = [
            rig.judge(who, asked, listener=listener, address=address) for rig in (short, long)
        ]
        first, second = map(told, rulings)
        assert first == second


def told(ruling: object) -> object:
    if isinstance(ruling, Denied):
        return ruling
    prove(ruling)
    assert isinstance(ruling, Authorized)
    return ruling.request, ruling.asked, ruling.refused, ruling.policy_version


def test_a_sole_topic_is_refused_as_soon_as_the_policy_says_so(bench) -> None:
    rig = bench(SOME)
    assert isinstance(rig.judge("alice", produce("demo")), Authorized)
    rig.replace("p, User:alice, READ, TOPIC, demo, allow")
    ruling = rig.judge("alice", produce("demo"))
    assert [r.resource.name for r in ruling.refused] == ["demo"]
    assert ruling.request.topics == ()
