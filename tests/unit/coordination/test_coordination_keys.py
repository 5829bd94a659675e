"""Key domains in the catalogue: one topic one key, and shredding in steps that may be repeated."""

import itertools
from uuid import UUID

import pytest

from appliance.coordination.catalog import Catalog
from appliance.coordination.cluster_commands import (
    AdmitNode,
    AssignReplicas,
    PlaceTopic,
    SetFeatureLevel,
)
from appliance.coordination.commands import CommandRefused, CreateTopic, DeleteTopic, Endpoint
from appliance.coordination.key_commands import (
    AssignKeyDomain,
    BeginShred,
    CompleteShred,
    ConfirmShred,
    KeysChanged,
    LogBegin,
    LogEnd,
    NoteKeyGone,
    TopicShredded,
)
from appliance.coordination.topic_changes import AddPartitions
from appliance.errors import ErrorCode
from appliance.types import Index, KeyDomainId, NodeId, Offset, PartitionId, Position, Term, TopicId

TOPIC = TopicId(UUID(int=1))
LOG, SUCCESSOR = PartitionId(UUID(int=10)), PartitionId(UUID(int=110))
OLD, NEW = KeyDomainId(UUID(int=20)), KeyDomainId(UUID(int=21))
SHRED = UUID(int=30)
ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)


def end(term, index, offset, *, known=0):
    return LogEnd(LOG, Position(Term(term), Index(index)), Offset(offset), Term(max(term, known)))


def confirm(node, *ends):
    return ConfirmShred(TOPIC, SHRED, node, ends)


END = end(3, 9, 7)
BEGIN = BeginShred(TOPIC, SHRED, 1000, (ONE, TWO))
CONFIRM_ONE, CONFIRM_TWO = confirm(ONE, END), confirm(TWO, END)
GONE = NoteKeyGone(TOPIC, SHRED)
COMPLETE = CompleteShred(TOPIC, SHRED, NEW, (SUCCESSOR,), 2000)


def held_by(*nodes):
    """A catalogue with a topic of its own key, whose log lies on these nodes."""
    held = Catalog()
    for node in (ONE, TWO, THREE):
        held.apply(AdmitNode(node, Endpoint("peer", f"n{node}", 9293)))
    held.apply(PlaceTopic(TOPIC, "orders", (LOG,), (nodes,)))
    held.apply(AssignKeyDomain(TOPIC, OLD))
    return held


@pytest.fixture
def catalog():
    return held_by(ONE, TWO)


def keys(catalog):
    return catalog.key_domains.topics[TOPIC]


def applied(catalog, *commands):
    return [catalog.apply(command) for command in commands][-1]


def test_the_steps_lead_to_a_new_domain_and_to_logs_that_begin_where_the_old_ones_ended(catalog):
    for command in (BEGIN, CONFIRM_ONE, CONFIRM_TWO):
        assert isinstance(catalog.apply(command), KeysChanged)
        assert keys(catalog).domain == OLD
        assert catalog.key_domains.is_shredding(TOPIC)
    outcome = catalog.apply(COMPLETE)
    assert isinstance(outcome, TopicShredded)
    held = keys(catalog)
    assert (held.domain, held.shredding) == (NEW, None)
    assert held.begins == (LogBegin(SUCCESSOR, END.position, END.offset),)
    assert (held.last.domain, held.last.confirmed, held.last.late) == (OLD, (ONE, TWO), ())
    topic = catalog.topics["orders"]
    assert (outcome.before.partitions, topic.partitions) == ((LOG,), (SUCCESSOR,))
    assert topic.topic == TOPIC
    assert catalog.membership.assignment(SUCCESSOR).replicas == (ONE, TWO)
    assert LOG not in catalog.membership.assignments


def test_every_order_of_repeated_steps_comes_to_the_same(catalog):
    for command in (BEGIN, CONFIRM_ONE, CONFIRM_ONE, CONFIRM_TWO, CONFIRM_ONE):
        assert isinstance(catalog.apply(command), KeysChanged)
    assert isinstance(catalog.apply(COMPLETE), TopicShredded)
    once = keys(catalog)
    assert isinstance(catalog.apply(COMPLETE), KeysChanged)
    assert keys(catalog) == once
    other = held_by(ONE, TWO)
    applied(other, BEGIN, CONFIRM_TWO, CONFIRM_ONE, COMPLETE)
    assert keys(other).begins == once.begins


def test_of_several_replicas_the_furthest_end_counts_whoever_confirms_first():
    behind = end(2, 50, 40)
    for first, second in ((END, behind), (behind, END)):
        held = held_by(ONE, TWO)
        applied(held, BEGIN, confirm(ONE, first), confirm(TWO, second), COMPLETE)
        assert keys(held).begins == (LogBegin(SUCCESSOR, END.position, END.offset),)


def test_leader_epochs_go_on_growing_after_a_term_that_left_no_entry(catalog):
    applied(catalog, BEGIN, CONFIRM_ONE, confirm(TWO, end(3, 9, 7, known=8)), COMPLETE)
    (begin,) = keys(catalog).begins
    assert begin.position == Position(Term(8), Index(9))


def test_no_step_can_be_skipped():
    steps = (BEGIN, CONFIRM_ONE, CONFIRM_TWO, COMPLETE)
    for chosen in itertools.chain.from_iterable(
        itertools.combinations(steps, count) for count in range(4)
    ):
        held = held_by(ONE, TWO)
        for command in chosen:
            held.apply(command)
        assert keys(held).domain == OLD
        assert keys(held).last is None


def three():
    held = held_by(ONE, TWO, THREE)
    held.apply(BeginShred(TOPIC, SHRED, 1000, (ONE, TWO, THREE)))
    return held


def late(*nodes):
    return CompleteShred(TOPIC, SHRED, NEW, (SUCCESSOR,), 2000, nodes)


def test_a_node_that_is_late_is_named_once_the_key_is_gone():
    held = three()
    applied(held, CONFIRM_ONE, CONFIRM_TWO)
    assert isinstance(held.apply(COMPLETE), CommandRefused)
    assert isinstance(held.apply(late(THREE)), CommandRefused)
    applied(held, GONE)
    assert isinstance(held.apply(late(THREE)), TopicShredded)
    assert keys(held).last.late == (THREE,)


def test_less_than_a_majority_cannot_say_where_a_log_ended():
    for told in ((), (END,)):
        held = three()
        applied(held, confirm(ONE, *told), confirm(TWO), GONE)
        refused = held.apply(late(THREE))
        assert isinstance(refused, CommandRefused)
        assert "too few nodes" in refused.message


def test_while_a_group_moves_a_majority_of_either_set_has_to_say_where_it_ended():
    held = held_by(ONE)
    held.apply(SetFeatureLevel(1))
    held.apply(AssignReplicas(LOG, (TWO, THREE)))
    held.apply(BeginShred(TOPIC, SHRED, 1000, (ONE, TWO, THREE)))
    applied(held, confirm(ONE, END), GONE)
    assert held.judge_ends(held.topics["orders"], (SUCCESSOR,)) is None
    applied(held, confirm(TWO, END))
    assert held.judge_ends(held.topics["orders"], (SUCCESSOR,)) is None
    applied(held, confirm(THREE, END))
    assert isinstance(held.apply(COMPLETE), TopicShredded)
    assert held.membership.assignment(SUCCESSOR).target == (TWO, THREE)


def test_a_topic_gets_no_more_partitions_while_it_is_shredded(catalog):
    more = AddPartitions(TOPIC, 1, (PartitionId(UUID(int=11)),))
    catalog.apply(BEGIN)
    assert isinstance(catalog.apply(more), CommandRefused)
    wrong = CompleteShred(TOPIC, SHRED, NEW, (LOG,), 2000)
    assert isinstance(applied(catalog, CONFIRM_ONE, CONFIRM_TWO, wrong), CommandRefused)
    assert isinstance(catalog.apply(COMPLETE), TopicShredded)
    assert not isinstance(catalog.apply(more), CommandRefused)


@pytest.mark.parametrize(
    "command",
    [
        AssignKeyDomain(TOPIC, NEW),
        CONFIRM_ONE,
        GONE,
        COMPLETE,
    ],
    ids=lambda command: type(command).__name__,
)
def test_what_does_not_fit_changes_nothing(catalog, command):
    before = keys(catalog)
    outcome = catalog.apply(command)
    assert isinstance(outcome, CommandRefused)
    assert outcome.error is ErrorCode.INVALID_REQUEST
    assert keys(catalog) == before


def test_a_shredding_under_way_takes_its_own_steps_only(catalog):
    catalog.apply(BEGIN)
    for command in (
        BeginShred(TOPIC, UUID(int=31), 1000, (ONE,)),
        ConfirmShred(TOPIC, UUID(int=31), ONE, ()),
        ConfirmShred(TOPIC, SHRED, NodeId(9), ()),
        NoteKeyGone(TOPIC, UUID(int=31)),
        CompleteShred(TOPIC, UUID(int=31), NEW, (SUCCESSOR,), 2000, late=(ONE, TWO)),
        CompleteShred(TOPIC, SHRED, OLD, (SUCCESSOR,), 2000, late=(ONE, TWO)),
    ):
        assert isinstance(catalog.apply(command), CommandRefused)


def test_a_topic_in_the_clusters_domain_is_not_shredded():
    held = Catalog()
    held.apply(CreateTopic(TOPIC, "orders", (LOG,)))
    outcome = held.apply(BEGIN)
    assert isinstance(outcome, CommandRefused)
    assert "cluster" in outcome.message


def test_a_domain_is_no_other_topics(catalog):
    other = TopicId(UUID(int=2))
    catalog.apply(CreateTopic(other, "others", (PartitionId(UUID(int=11)),)))
    assert isinstance(catalog.apply(AssignKeyDomain(other, OLD)), CommandRefused)


def test_what_is_no_topic_has_no_keys_and_a_deleted_ones_are_forgotten(catalog):
    catalog.apply(DeleteTopic(TOPIC))
    assert not catalog.key_domains.topics
    outcome = catalog.apply(BEGIN)
    assert isinstance(outcome, CommandRefused)
    assert outcome.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
