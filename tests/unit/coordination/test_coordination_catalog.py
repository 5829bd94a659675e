"""The catalogue: deterministic, and a refused command changes nothing."""

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.coordination.catalog import MAX_PRODUCER_ID, Catalog
from appliance.coordination.commands import (
    AllocateProducerIds,
    CatalogCommand,
    CommandRefused,
    CreateTopic,
    DeleteTopic,
    Endpoint,
    PolicySet,
    ProducerIds,
    RegisterNode,
    SetPolicy,
    TopicCreated,
    TopicDeleted,
)
from appliance.errors import ErrorCode
from appliance.limits import MAX_PARTITIONS_PER_TOPIC, MAX_POLICY_BYTES
from appliance.types import NodeId, PartitionId, TopicId, TopicName


def create(number: int, name: str = "orders", partitions: int = 1) -> CreateTopic:
    ids = tuple(PartitionId(UUID(int=number * 10_000 + index)) for index in range(partitions))
    return CreateTopic(TopicId(UUID(int=number)), TopicName(name), ids)


def test_a_topic_is_there_until_it_is_deleted() -> None:
    catalog = Catalog()
    created = catalog.apply(create(1, partitions=3))
    assert isinstance(created, TopicCreated)
    assert catalog.topics[TopicName("orders")] == created.topic
    deleted = catalog.apply(DeleteTopic(created.topic.topic))
    assert isinstance(deleted, TopicDeleted)
    assert deleted.topic.partitions == created.topic.partitions
    assert not catalog.topics
    assert not catalog.names


def test_a_name_is_taken_once() -> None:
    catalog = Catalog()
    first = catalog.apply(create(1))
    second = catalog.apply(create(2))
    assert isinstance(second, CommandRefused)
    assert second.error is ErrorCode.TOPIC_ALREADY_EXISTS
    assert isinstance(first, TopicCreated)
    assert list(catalog.names) == [first.topic.topic]


def test_deleting_by_id_leaves_a_namesake_alone() -> None:
    catalog = Catalog()
    catalog.apply(create(1))
    catalog.apply(DeleteTopic(TopicId(UUID(int=1))))
    catalog.apply(create(2))
    again = catalog.apply(DeleteTopic(TopicId(UUID(int=1))))
    assert isinstance(again, CommandRefused)
    assert TopicName("orders") in catalog.topics


@pytest.mark.parametrize("count", [0, MAX_PARTITIONS_PER_TOPIC + 1])
def test_a_topic_has_a_bounded_number_of_partitions(count: int) -> None:
    outcome = Catalog().apply(create(1, partitions=count))
    assert isinstance(outcome, CommandRefused)
    assert outcome.error is ErrorCode.INVALID_PARTITIONS


@given(st.lists(st.integers(1, 5_000), max_size=20))
def test_no_producer_id_is_given_twice(counts: list[int]) -> None:
    catalog = Catalog()
    given_out: set[int] = set()
    for count in counts:
        block = catalog.apply(AllocateProducerIds(NodeId(1), count))
        assert isinstance(block, ProducerIds)
        ids = set(range(block.first, block.first + block.count))
        assert not ids & given_out
        given_out |= ids


@pytest.mark.parametrize("count", [0, -1, MAX_PRODUCER_ID + 1])
def test_producer_ids_never_wrap(count: int) -> None:
    assert isinstance(Catalog().apply(AllocateProducerIds(NodeId(1), count)), CommandRefused)


def test_a_policy_replaces_only_the_one_it_was_written_against() -> None:
    catalog = Catalog()
    assert catalog.policy == (0, "")
    assert catalog.apply(SetPolicy("one", 0)) == PolicySet(1)
    late = catalog.apply(SetPolicy("two", 0))
    assert isinstance(late, CommandRefused)
    assert late.error is ErrorCode.INVALID_UPDATE_VERSION
    assert catalog.policy == (1, "one")


def test_a_policy_is_bounded() -> None:
    assert isinstance(Catalog().apply(SetPolicy("x" * (MAX_POLICY_BYTES + 1), 0)), CommandRefused)


COMMANDS = st.one_of(
    st.builds(create, st.integers(1, 5), st.sampled_from(["a", "b", "c"]), st.integers(0, 3)),
    st.builds(lambda number: DeleteTopic(TopicId(UUID(int=number))), st.integers(1, 5)),
    st.builds(lambda count: AllocateProducerIds(NodeId(1), count), st.integers(-1, 9)),
    st.builds(SetPolicy, st.sampled_from(["p", "q"]), st.integers(0, 3)),
    st.builds(
        lambda port: RegisterNode(NodeId(1), "h", None, (Endpoint("kafka", "h", port),)),
        st.integers(1, 9),
    ),
)


def state(catalog: Catalog) -> object:
    return dict(catalog.topics), dict(catalog.names), dict(catalog.nodes), catalog.policy


@given(st.lists(COMMANDS, max_size=30))
def test_replay_makes_the_same_catalogue(commands: list[CatalogCommand]) -> None:
    live, replayed = Catalog(), Catalog()
    outcomes = [live.apply(command) for command in commands]
    encoded = [msgspec.msgpack.encode(command) for command in commands]
    again = [replayed.apply(msgspec.msgpack.decode(each, type=CatalogCommand)) for each in encoded]
    assert again == outcomes
    assert state(live) == state(replayed)


@given(st.lists(COMMANDS, max_size=30))
def test_a_refused_command_changes_nothing(commands: list[CatalogCommand]) -> None:
    catalog = Catalog()
    for command in commands:
        before = state(catalog)
        if isinstance(catalog.apply(command), CommandRefused):
            assert state(catalog) == before
