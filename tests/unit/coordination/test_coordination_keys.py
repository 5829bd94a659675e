"""Key domains in the catalogue: one topic one key, and shredding in steps that may be repeated."""

import itertools
from uuid import UUID

import pytest

from appliance.coordination.catalog import Catalog
from appliance.coordination.commands import CommandRefused, CreateTopic, DeleteTopic
from appliance.coordination.key_commands import (
    AssignKeyDomain,
    BeginShred,
    CompleteShred,
    ConfirmShred,
    KeysChanged,
    LogEnd,
)
from appliance.errors import ErrorCode
from appliance.types import Index, KeyDomainId, NodeId, Offset, PartitionId, Position, Term, TopicId

TOPIC = TopicId(UUID(int=1))
LOG = PartitionId(UUID(int=10))
OLD, NEW = KeyDomainId(UUID(int=20)), KeyDomainId(UUID(int=21))
SHRED = UUID(int=30)
ONE, TWO = NodeId(1), NodeId(2)
END = LogEnd(LOG, Position(Term(3), Index(9)), Offset(7))

BEGIN = BeginShred(TOPIC, SHRED, 1000, (ONE, TWO))
CONFIRM_ONE = ConfirmShred(TOPIC, SHRED, ONE, (END,))
CONFIRM_TWO = ConfirmShred(TOPIC, SHRED, TWO, ())
COMPLETE = CompleteShred(TOPIC, SHRED, NEW, 2000)


@pytest.fixture
def catalog():
    held = Catalog()
    held.apply(CreateTopic(TOPIC, "orders", (LOG,)))
    held.apply(AssignKeyDomain(TOPIC, OLD))
    return held


def keys(catalog):
    return catalog.key_domains.topics[TOPIC]


def test_the_steps_lead_to_a_new_domain_and_keep_where_logs_ended(catalog):
    for command in (BEGIN, CONFIRM_ONE, CONFIRM_TWO):
        assert isinstance(catalog.apply(command), KeysChanged)
        assert keys(catalog).domain == OLD
        assert keys(catalog).shredding is not None
    catalog.apply(COMPLETE)
    held = keys(catalog)
    assert (held.domain, held.shredding, held.ends) == (NEW, None, (END,))
    assert (held.last.domain, held.last.confirmed, held.last.late) == (OLD, (ONE, TWO), ())


def test_every_order_of_repeated_steps_comes_to_the_same(catalog):
    for command in (BEGIN, CONFIRM_ONE, CONFIRM_ONE, CONFIRM_TWO, CONFIRM_ONE, COMPLETE, COMPLETE):
        assert isinstance(catalog.apply(command), KeysChanged)
    once = keys(catalog)
    other = Catalog()
    other.apply(CreateTopic(TOPIC, "orders", (LOG,)))
    other.apply(AssignKeyDomain(TOPIC, OLD))
    for command in (BEGIN, CONFIRM_TWO, CONFIRM_ONE, COMPLETE):
        other.apply(command)
    assert keys(other).ends == once.ends
    assert keys(other).domain == once.domain


def test_of_several_replicas_the_furthest_end_counts_whoever_confirms_first(catalog):
    behind = LogEnd(LOG, Position(Term(2), Index(50)), Offset(40))
    for first, second in ((END, behind), (behind, END)):
        held = Catalog()
        held.apply(CreateTopic(TOPIC, "orders", (LOG,)))
        held.apply(AssignKeyDomain(TOPIC, OLD))
        held.apply(BEGIN)
        held.apply(ConfirmShred(TOPIC, SHRED, ONE, (first,)))
        held.apply(ConfirmShred(TOPIC, SHRED, TWO, (second,)))
        assert keys(held).ends == (END,)


def test_no_step_can_be_skipped(catalog):
    steps = (BEGIN, CONFIRM_ONE, CONFIRM_TWO, COMPLETE)
    for chosen in itertools.chain.from_iterable(
        itertools.combinations(steps, count) for count in range(4)
    ):
        held = Catalog()
        held.apply(CreateTopic(TOPIC, "orders", (LOG,)))
        held.apply(AssignKeyDomain(TOPIC, OLD))
        for command in chosen:
            held.apply(command)
        assert keys(held).domain == OLD
        assert keys(held).last is None


def test_a_node_that_is_late_is_named(catalog):
    catalog.apply(BEGIN)
    catalog.apply(CONFIRM_ONE)
    assert isinstance(catalog.apply(COMPLETE), CommandRefused)
    late = CompleteShred(TOPIC, SHRED, NEW, 2000, late=(TWO,))
    assert isinstance(catalog.apply(late), KeysChanged)
    assert keys(catalog).last.late == (TWO,)


@pytest.mark.parametrize(
    "command",
    [
        AssignKeyDomain(TOPIC, NEW),
        ConfirmShred(TOPIC, SHRED, ONE, ()),
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
        CompleteShred(TOPIC, UUID(int=31), NEW, 2000, late=(ONE, TWO)),
        CompleteShred(TOPIC, SHRED, OLD, 2000, late=(ONE, TWO)),
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
