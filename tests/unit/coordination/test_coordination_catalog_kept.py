"""A catalogue that is taken up from a snapshot goes on as one that applied every command."""

from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.coordination.catalog import Catalog, KeptCatalog
from appliance.coordination.catalog_changes import changes
from appliance.coordination.cluster_commands import (
    AdmitNode,
    AnnounceNode,
    AssignReplicas,
    DrainNode,
    NodesChanged,
    PlacePartitions,
    PlaceTopic,
    Reassigned,
    ReplicasMoved,
    RetireNode,
    SetFeatureLevel,
)
from appliance.coordination.commands import (
    AllocateProducerIds,
    CommandRefused,
    CreateTopic,
    DeleteTopic,
    Endpoint,
    SetPolicy,
    TopicCreated,
    TopicDeleted,
)
from appliance.coordination.credentials import RemoveScram, SetScram
from appliance.coordination.key_commands import (
    AssignKeyDomain,
    BeginShred,
    CompleteShred,
    ConfirmShred,
    KeysChanged,
    LogEnd,
    TopicShredded,
)
from appliance.coordination.quotas import SetQuotas
from appliance.coordination.topic_changes import AddPartitions, AlterTopic, TopicChanged
from appliance.types import Position

NODES = (1, 2, 3)


def log(topic, index, life=0):
    return UUID(int=1_000 * topic + 100 * life + index)


def logs(topic, count, life=0):
    return tuple(log(topic, index, life) for index in range(count))


def placed(topic, name, count, nodes):
    return PlaceTopic(UUID(int=topic), name, logs(topic, count), (nodes,) * count)


def more(topic, count, nodes):
    return PlacePartitions(UUID(int=topic), count, (log(topic, count),), (nodes,))


def confirmed(topic, shred, node, life, count):
    ends = tuple(LogEnd(each, Position(2, 5), 4, 2) for each in logs(topic, count, life))
    return ConfirmShred(UUID(int=topic), UUID(int=shred), node, ends)


topics, nodes, lives = st.integers(1, 3), st.sampled_from(NODES), st.integers(0, 2)
names, counts = st.sampled_from("abc"), st.integers(1, 2)
levels = st.sampled_from([(1, 2), (1, 3)])
holders = st.sampled_from([(1,), (1, 2), (2, 3), (1, 2, 3)])
ids = topics.map(lambda number: UUID(int=number))
groups = st.builds(log, topics, st.integers(0, 2), lives)
settings = st.sampled_from([(), (("retention.ms", "1"),)])

commands = st.one_of(
    st.builds(lambda t, n, c: CreateTopic(UUID(int=t), n, logs(t, c)), topics, names, counts),
    st.builds(placed, topics, names, counts, holders),
    st.builds(more, topics, counts, holders),
    st.builds(lambda t, c: AddPartitions(UUID(int=t), c, (log(t, c),)), topics, counts),
    st.builds(AlterTopic, ids, settings, settings),
    st.builds(DeleteTopic, ids),
    st.builds(AllocateProducerIds, nodes, st.integers(1, 9)),
    st.builds(SetPolicy, names, st.integers(0, 3)),
    st.builds(AdmitNode, nodes, st.builds(Endpoint, st.just("peer"), names, st.integers(1, 9))),
    st.builds(AnnounceNode, nodes, names, st.none(), st.just(()), levels),
    st.builds(DrainNode, nodes, st.booleans()),
    st.builds(RetireNode, nodes),
    st.builds(AssignReplicas, groups, holders),
    st.builds(ReplicasMoved, groups, holders),
    st.builds(SetFeatureLevel, st.integers(1, 3)),
    st.builds(SetScram, names, st.integers(1, 2), st.just(4096), *[st.binary(max_size=3)] * 4),
    st.builds(RemoveScram, names, st.integers(1, 2)),
    st.builds(
        SetQuotas,
        st.sampled_from([(("user", "a"),), (("user", None),)]),
        st.sampled_from([(("producer_byte_rate", 5.0),), (("producer_byte_rate", None),)]),
    ),
    st.builds(AssignKeyDomain, ids, st.integers(50, 52).map(lambda n: UUID(int=n))),
    st.builds(lambda t, s: BeginShred(t, UUID(int=s), 1, (1, 2)), ids, st.integers(60, 61)),
    st.builds(confirmed, topics, st.integers(60, 61), st.sampled_from((1, 2)), lives, counts),
    st.builds(
        lambda t, s, life, c: CompleteShred(
            UUID(int=t), UUID(int=s), UUID(int=50 + life), logs(t, c, life), 2
        ),
        topics, st.integers(60, 61), lives, counts,
    ),
)  # fmt: skip
FIRST = [
    *(AdmitNode(node, Endpoint("peer", "h", node)) for node in NODES),
    placed(1, "a", 1, (1, 2)),
    AssignKeyDomain(UUID(int=1), UUID(int=50)),
]
"""So that most of what is drawn finds something to change."""
histories = st.lists(commands, max_size=25).map(lambda drawn: FIRST + drawn)


def applied(history, catalog=None):
    catalog = catalog or Catalog()
    return catalog, [catalog.apply(command) for command in history]


def through_a_snapshot(catalog):
    content = msgspec.msgpack.Encoder(uuid_format="bytes").encode(catalog.kept())
    taken_up = Catalog()
    taken_up.restore(msgspec.msgpack.decode(content, type=KeptCatalog))
    return taken_up


@given(histories, st.data())
def test_a_catalogue_taken_up_anywhere_goes_on_to_the_same(history, data):
    cut = data.draw(st.integers(0, len(history)))
    whole, outcomes = applied(history)
    taken_up, later = applied(history[cut:], through_a_snapshot(applied(history[:cut])[0]))
    assert later == outcomes[cut:]
    assert taken_up.kept() == whole.kept()
    assert taken_up.names == whole.names
    for mechanism in (1, 2):
        assert taken_up.credentials.shapes(mechanism) == whole.credentials.shapes(mechanism)


class Follower:
    """What somebody knows who is told of outcomes only."""

    def __init__(self, catalog):
        self.topics = {each.topic: each for each in catalog.topics.values()}
        self.keys = dict(catalog.key_domains.topics)
        self.assignments = dict(catalog.membership.assignments)
        self.removed = set()
        self.nodes = set()

    def told(self, outcome):
        match outcome:
            case TopicCreated() | TopicChanged():
                self.topics[outcome.topic.topic] = outcome.topic
            case TopicDeleted():
                self._gone(self.topics.pop(outcome.topic.topic).partitions)
                self.keys.pop(outcome.topic.topic, None)
            case TopicShredded():
                assert self.topics[outcome.topic.topic] == outcome.before
                assert self.keys[outcome.topic.topic].domain == outcome.keys.last.domain
                self.topics[outcome.topic.topic] = outcome.topic
                self._gone(outcome.before.partitions)
            case KeysChanged():
                self.keys[outcome.topic] = outcome.keys
            case Reassigned():
                self.assignments[outcome.group] = outcome.assignment
            case NodesChanged():
                self.nodes.add(outcome.node)

    def _gone(self, groups):
        self.removed.update(groups)
        for group in groups:
            self.assignments.pop(group, None)


@given(histories, st.data())
def test_who_follows_is_told_all_that_a_state_in_place_of_commands_has_changed(history, data):
    cut = data.draw(st.integers(0, len(history)))
    before, _ = applied(history[:cut])
    after, _ = applied(history)
    follower = Follower(before)
    for outcome in changes(before.kept(), after.kept()):
        follower.told(outcome)
    assert follower.topics == {each.topic: each for each in after.topics.values()}
    assert follower.keys == dict(after.key_domains.topics)
    assert follower.assignments == dict(after.membership.assignments)
    held = {group for each in before.topics.values() for group in each.partitions}
    assert follower.removed == held.difference(
        group for each in after.topics.values() for group in each.partitions
    )
    for node in {*before.membership.nodes, *after.membership.nodes}:
        if before.membership.nodes.get(node) != after.membership.nodes.get(node):
            assert node in follower.nodes


@given(histories)
def test_of_a_state_that_is_the_same_nobody_is_told_anything(history):
    catalog, _ = applied(history)
    assert not list(changes(catalog.kept(), through_a_snapshot(catalog).kept()))


def test_a_shredding_that_was_missed_is_told_of_the_key_that_was_known():
    first = UUID(int=1)
    history = [*FIRST]
    for life, shred in ((1, 60), (2, 61)):
        history += [
            BeginShred(first, UUID(int=shred), 1, (1, 2)),
            *(confirmed(1, shred, node, life - 1, 1) for node in (1, 2)),
            CompleteShred(first, UUID(int=shred), UUID(int=50 + life), logs(1, 1, life), 2),
        ]
    before, _ = applied(FIRST)
    after, outcomes = applied(history)
    assert not any(isinstance(each, CommandRefused) for each in outcomes)
    told = [each for each in changes(before.kept(), after.kept())
            if isinstance(each, TopicShredded)]  # fmt: skip
    (shredded,) = told
    assert shredded.before.partitions == logs(1, 1)
    assert shredded.topic.partitions == logs(1, 1, 2)
    assert shredded.keys.last.domain == UUID(int=50)
    assert shredded.keys.domain == UUID(int=52)


def test_what_is_kept_shows_no_secret():
    catalog, _ = applied([SetScram("a", 1, 4096, b"salt", b"stored", b"server", b"decoys")])
    shown = repr(catalog.kept())
    for secret in ("salt", "stored", "server", "decoys"):
        assert secret not in shown
