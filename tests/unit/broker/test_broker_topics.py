"""Topics: names, settings, creation, deletion, and what a crash between leaves."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from appliance.broker.foundation import CATALOGUE_LOG, GROUPS_LOG
from appliance.broker.topic_names import check_topic_name
from appliance.broker.topic_settings import check_settings, meaning
from appliance.errors import ErrorCode, RequestError
from appliance.wire.requests import (
    CreateTopics,
    DeleteTopics,
    FindCoordinator,
    InitProducerId,
    Metadata,
    NewTopic,
)


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 249, "...", "__consumer_offsets"])
def test_legal_names(name):
    check_topic_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "x" * 250, "a b", "a/b", "../a", "a\0", "ä", "a\n", "a:b", "a*"]
)
def test_illegal_names(name):
    with pytest.raises(RequestError) as refused:
        check_topic_name(name)
    assert refused.value.code is ErrorCode.INVALID_TOPIC_EXCEPTION


@given(st.text(max_size=300))
def test_a_legal_name_is_plain_ascii_and_no_path(name):
    try:
        check_topic_name(name)
    except RequestError:
        return
    assert name.isascii()
    assert "/" not in name
    assert name not in {".", "..", ""}


@pytest.mark.parametrize(("name", "value"), [
    ("max.message.bytes", "100000"),
    ("compression.type", "producer"),
    ("message.timestamp.type", "CreateTime"),
    ("min.insync.replicas", "1"),
    ("min.insync.replicas", "7"),
    ("unclean.leader.election.enable", "false"),
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
])  # fmt: skip
def test_settings_that_are_honoured(name, value):
    assert check_settings([(name, value)]) == ((name, value),)
    with pytest.raises(RequestError, match="null is no value"):
        check_settings([(name, None)])


@pytest.mark.parametrize(("name", "value"), [
    ("max.message.bytes", "-1"),
    ("max.message.bytes", "9999999999"),
    ("max.message.bytes", "1e6"),
    ("max.message.bytes", "\u0661\u0660\u0660\u0660\u0660"),
    ("compression.type", "zstd"),
    ("message.timestamp.type", "LogAppendTime"),
    ("min.insync.replicas", "0"),
    ("min.insync.replicas", "8"),
    ("unclean.leader.election.enable", "true"),
    ("cleanup.policy", "compact,compact"),
    ("cleanup.policy", "keep"),
    ("min.cleanable.dirty.ratio", "1.5"),
    ("max.compaction.lag.ms", "1"),
    ("retention.ms", "-2"),
    ("segment.bytes", "1000000"),
    ("segment.ms", "0"),
    ("no.such.setting", "1"),
])  # fmt: skip
def test_settings_that_would_be_ignored_are_refused_by_name(name, value):
    with pytest.raises(RequestError, match=name) as refused:
        check_settings([(name, value)])
    assert refused.value.code is ErrorCode.INVALID_CONFIG


def test_settings_mean_what_they_say():
    kept = check_settings([("max.message.bytes", "5000"), ("message.timestamp.after.max.ms", "7")])
    assert meaning(kept).max_batch_bytes == 5000
    assert meaning(kept).timestamps.after_ms == 7


@pytest.mark.parametrize(("changes", "error"), [
    ({"name": "a/b"}, ErrorCode.INVALID_TOPIC_EXCEPTION),
    ({"partition_count": 0}, ErrorCode.INVALID_PARTITIONS),
    ({"partition_count": 1001}, ErrorCode.INVALID_PARTITIONS),
    ({"replication_factor": 3}, ErrorCode.INVALID_REPLICATION_FACTOR),
    ({"settings": (("retention.ms", "-5"),)}, ErrorCode.INVALID_CONFIG),
    ({"assignments": ((0, (1,)),)}, ErrorCode.NONE),
    ({"assignments": ((0, (2,)),)}, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ({"assignments": ((0, (1,)),), "partition_count": 1}, ErrorCode.INVALID_REQUEST),
    ({"name": "there"}, ErrorCode.TOPIC_ALREADY_EXISTS),
])  # fmt: skip
def test_creation_is_answered_item_by_item_and_validation_makes_nothing(world, run, changes, error):
    async def main():
        async with world.running() as broker:
            await broker.create("there")
            new = NewTopic(**({"name": "new"} | changes))
            for validate_only in (True, False):
                request = CreateTopics((new,), 1000, validate_only)
                (created,) = (await broker.ask("admin", request)).topics
                assert created.error is error
                expected = ("there",)
                if not validate_only and error is ErrorCode.NONE:
                    expected = ("new", "there")
                assert broker.node.policies.topic_names() == expected

    run(main)


def test_a_name_given_twice_is_refused_both_times(world, run):
    async def main():
        async with world.running() as broker:
            request = CreateTopics((NewTopic("a"), NewTopic("a")), 1000)
            result = await broker.ask("admin", request)
            assert {topic.error for topic in result.topics} == {ErrorCode.INVALID_REQUEST}
            assert broker.node.policies.topic_names() == ()

    run(main)


def test_a_deleted_topic_is_gone_with_its_logs_and_a_namesake_begins_empty(world, run):
    async def main():
        async with world.running() as broker:
            first = await broker.create()
            await broker.produce(world.batch(b"old"))
            log = broker.log_of()
            result = await broker.ask("admin", DeleteTopics(("orders", "absent"), 1000))
            assert [topic.error for topic in result.topics] == [
                ErrorCode.NONE,
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ]
            assert log not in broker.disk.logs
            assert (await broker.fetch()).error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            second = await broker.create()
            assert second.topic_id != first.topic_id
            assert (await broker.fetch()).high_watermark == 0

    run(main)


def test_logs_that_a_crash_left_behind_a_deletion_are_removed_at_the_next_start(world, run):
    async def main():
        disk = world.Disk()
        async with world.running(disk, crash=True) as broker:
            await broker.create()
            log = broker.log_of()
            topic = broker.node.policies.state.topics["orders"]
            await broker.node.policies.delete_topic(topic.topic)
            assert log in disk.logs
        async with world.running(disk) as broker:
            assert log not in disk.logs
            assert broker.disk.logs.keys() == {CATALOGUE_LOG, GROUPS_LOG}

    run(main)


def test_a_batch_under_way_when_its_topic_is_deleted_is_answered(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            gate = broker.disk.gates[broker.log_of()] = trio.Event()
            pending = await broker.begin("admin", world.produce_request(world.batch(b"a")))

            async def delete():
                await broker.ask("admin", DeleteTopics(("orders",), 1000))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(delete)
                await trio.testing.wait_all_tasks_blocked()
                late = await broker.ask("admin", world.produce_request(world.batch(b"b")))
                assert late.topics[0].partitions[0].error is (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
                gate.set()
            assert (await broker.resolved(pending)).topics[0].partitions[0].base_offset == 0

    run(main)


def test_internal_logs_are_no_topics(world, run):
    async def main():
        async with world.running() as broker:
            assert (await broker.ask("admin", Metadata(None))).topics == ()

    run(main)


@pytest.mark.parametrize(("listener", "host", "port"), [
    ("kafka", "k.example", 9093),
    ("native", "n.example", 9193),
])  # fmt: skip
def test_clients_are_told_the_address_of_the_listener_they_asked_on(
    world, run, listener, host, port
):
    async def main():
        async with world.running() as broker:
            await broker.create(partitions=2)
            result = await broker.ask("admin", Metadata(("orders",)), listener)
            (node,) = result.brokers
            assert (node.node_id, node.host, node.port) == (1, host, port)
            assert result.controller_id == 1
            assert [part.leader_id for part in result.topics[0].partitions] == [1, 1]
            found = await broker.ask("admin", FindCoordinator(0, ("readers",)), listener)
            (coordinator,) = found.coordinators
            assert (coordinator.host, coordinator.port) == (host, port)

    run(main)


def test_no_producer_id_is_given_twice_not_even_across_a_crash(world, run):
    async def main():
        disk = world.Disk()
        given_out = []
        for _ in range(3):
            async with world.running(disk, crash=True) as broker:
                for _ in range(3):
                    result = await broker.ask("admin", InitProducerId(None, 1000))
                    assert (result.error, result.producer_epoch) == (ErrorCode.NONE, 0)
                    given_out.append(result.producer_id)
        assert len(set(given_out)) == 9

    run(main)


@pytest.mark.parametrize("known", [(7, -1), (-1, 7)])
def test_a_producer_that_tells_half_of_what_it_has_is_refused(world, run, known):
    async def main():
        async with world.running() as broker:
            result = await broker.ask("admin", InitProducerId(None, 1000, *known))
            assert (result.error, result.producer_id) == (ErrorCode.INVALID_REQUEST, -1)
            whole = await broker.ask("admin", InitProducerId(None, 1000, 7, 7))
            assert whole.error is ErrorCode.NONE

    run(main)


def test_the_epoch_of_a_leader_that_is_told_never_goes_back_when_a_node_starts_again(world, run):
    async def main():
        disk = world.Disk()

        async def told(broker):
            asked = await broker.ask("admin", Metadata(("orders",)))
            return asked.topics[0].partitions[0].leader_epoch

        async with world.running(disk) as broker:
            await broker.create()
            await broker.produce(world.batch(b"a"))
            before = await told(broker)
            assert before > 0
        async with world.running(disk) as broker:
            assert await told(broker) == before  # its log is still closed
            await broker.produce(world.batch(b"b"))
            assert await told(broker) > before

    run(main)
