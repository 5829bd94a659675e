"""Produce and fetch through the whole broker: order, visibility, durability, waiting."""

import pytest
import trio

from appliance.errors import ErrorCode, ProtocolViolation
from appliance.types import Offset
from appliance.wire.kafka.records import decode_batch, split
from appliance.wire.requests import (
    DeleteTopics,
    Fetch,
    FetchPartition,
    FetchTopic,
    ListOffsets,
    ListOffsetsPartition,
    ListOffsetsTopic,
    Produce,
    ProducePartition,
    ProduceTopic,
)


def records(part):
    return [
        record
        for chunk in part.batches
        for each in split(memoryview(chunk))
        for record in decode_batch(each, max_decompressed_bytes=1 << 20)
    ]


def test_what_is_produced_is_fetched_in_order_with_its_offsets(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            parts = await broker.produce(world.batch(b"a", b"b"), world.batch(b"c"))
            assert [part.base_offset for part in parts] == [0, 2]
            part = await broker.fetch()
            assert [(r.offset, r.value) for r in records(part)] == [(0, b"a"), (1, b"b"), (2, b"c")]
            assert part.high_watermark == part.last_stable_offset == 3
            assert [r.value for r in records(await broker.fetch(2))] == [b"c"]

    run(main)


def test_no_acknowledgement_before_durable_and_nothing_visible_above_the_high_watermark(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            await broker.produce(world.batch(b"seen"))
            gate = broker.disk.gates[broker.log_of()] = trio.Event()
            pending = await broker.begin("admin", world.produce_request(world.batch(b"unseen")))
            await trio.sleep(60)
            assert pending.response is None
            part = await broker.fetch()
            assert part.high_watermark == 1
            assert [r.value for r in records(part)] == [b"seen"]
            assert (await broker.fetch(1)).error is ErrorCode.NONE
            gate.set()
            response = await broker.resolved(pending)
            assert response.topics[0].partitions[0].base_offset == 1
            assert (await broker.fetch()).high_watermark == 2

    run(main)


def test_what_arrives_during_a_flush_shares_the_next_one(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            gate = broker.disk.gates[broker.log_of()] = trio.Event()
            waiting = [await broker.begin("admin", world.produce_request(world.batch(b"0")))]
            await trio.testing.wait_all_tasks_blocked()
            for value in (b"1", b"2", b"3"):
                request = world.produce_request(world.batch(value))
                waiting.append(await broker.begin("admin", request))
            before = broker.disk.flushes
            gate.set()
            replies = [await broker.resolved(each) for each in waiting]
            offsets = [reply.topics[0].partitions[0].base_offset for reply in replies]
            assert offsets == [0, 1, 2, 3]
            assert broker.disk.flushes - before <= 2

    run(main)


def test_what_a_lone_replica_is_given_during_a_flush_reaches_its_log_before_the_flush_ends(
    world, run
):
    async def main():
        async with world.running() as broker:
            await broker.create()
            gate = broker.disk.gates[broker.log_of()] = trio.Event()
            await broker.begin("admin", world.produce_request(world.batch(b"0")))
            await trio.testing.wait_all_tasks_blocked()
            log = broker.node._topics.find("orders").partitions[0].replica.log
            staged = log.last.index
            pending = await broker.begin("admin", world.produce_request(world.batch(b"1")))
            await trio.testing.wait_all_tasks_blocked()
            assert log.flushing
            assert log.last.index == staged + 1, "a large frame is sealed ahead, if it is there"
            gate.set()
            await broker.resolved(pending)

    run(main)


def test_an_idle_broker_runs_its_timer_tasks_and_nothing_else(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            await broker.produce(world.batch(b"a"))
            await trio.testing.wait_all_tasks_blocked()
            names = [task.name for task in broker.nursery.child_tasks]
            assert len(names) == 1
            assert names[0].endswith("BrokerNode._live")

    run(main)


def test_acknowledged_batches_and_topics_survive_a_crash(world, run):
    async def main():
        disk = world.Disk()
        async with world.running(disk, crash=True) as broker:
            await broker.create()
            await broker.produce(world.batch(b"a"), world.batch(b"b"))
            broker.disk.gates[broker.log_of()] = trio.Event()
            await broker.begin("admin", world.produce_request(world.batch(b"never acknowledged")))
        disk.gates.clear()
        async with world.running(disk) as broker:
            part = await broker.fetch()
            assert [r.value for r in records(part)] == [b"a", b"b"]
            (again,) = await broker.produce(world.batch(b"c"))
            assert again.base_offset == 2
            assert broker.disk.states[broker.log_of()].term == 2

    run(main)


def test_a_broken_disk_fails_who_waits_and_ends_leadership_but_not_reading(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            await broker.produce(world.batch(b"kept"))
            gate = broker.disk.gates[broker.log_of()] = trio.Event()
            waiting = [
                await broker.begin("admin", world.produce_request(world.batch(value)))
                for value in (b"lost", b"lost too")
            ]
            broker.disk.broken.add(broker.log_of())
            gate.set()
            for pending in waiting:
                response = await broker.resolved(pending)
                assert response.topics[0].partitions[0].error is ErrorCode.KAFKA_STORAGE_ERROR
            (late,) = await broker.produce(world.batch(b"late"))
            assert late.error is ErrorCode.KAFKA_STORAGE_ERROR
            part = await broker.fetch()
            assert [r.value for r in records(part)] == [b"kept"]

    run(main)


def test_a_full_log_holds_back_whoever_comes_next(world, run, monkeypatch):
    monkeypatch.setattr("appliance.broker.room.STAGING_BYTES", 4_000)

    async def main():
        async with world.running() as broker:
            await broker.create()
            gate = broker.disk.gates[broker.log_of()] = trio.Event()
            first = await broker.begin("admin", world.produce_request(world.batch(bytes(2_500))))
            second = []

            async def come_next():
                request = world.produce_request(world.batch(bytes(2_500)))
                second.append(await broker.begin("admin", request))

            broker.nursery.start_soon(come_next)
            await trio.sleep(30)
            assert not second
            gate.set()
            await broker.resolved(first)
            await trio.sleep(1)
            response = await broker.resolved(second[0])
            assert response.topics[0].partitions[0].base_offset == 1

    run(main)


def test_a_long_poll_is_woken_by_the_commit_that_brings_enough(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            size = len(world.batch(b"x"))
            got = []

            async def poll():
                got.append(await broker.fetch(wait_ms=60_000, min_bytes=2 * size))

            broker.nursery.start_soon(poll)
            await trio.sleep(1)
            await broker.produce(world.batch(b"x"))
            await trio.sleep(1)
            assert not got
            await broker.produce(world.batch(b"y"))
            await trio.testing.wait_all_tasks_blocked()
            assert [r.value for r in records(got[0])] == [b"x", b"y"]
            partition = await broker.node._topics.partition("orders", 0)
            assert len(partition.replica.readers) == 0

    run(main)


def test_a_long_poll_ends_when_its_time_is_up(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            start = trio.current_time()
            part = await broker.fetch(wait_ms=2_000)
            assert trio.current_time() - start == pytest.approx(2)
            assert (part.error, part.batches, part.high_watermark) == (ErrorCode.NONE, (), 0)

    run(main)


def test_a_long_poll_is_judged_again_before_its_reply(world, run):
    policy = "p, User:admin, *, *, *, allow\np, User:reader, READ, TOPIC, orders, allow\n"

    async def main():
        async with world.running(policy=policy) as broker:
            await broker.create()
            got = []

            async def poll():
                got.append(await broker.fetch(name="reader", wait_ms=60_000))

            broker.nursery.start_soon(poll)
            await trio.sleep(1)
            await broker.node.policies.set_policy(
                "p, User:admin, *, *, *, allow\n", expected_version=1
            )
            await broker.produce(world.batch(b"secret"))
            await trio.testing.wait_all_tasks_blocked()
            assert got[0].error is ErrorCode.TOPIC_AUTHORIZATION_FAILED
            assert got[0].batches == ()
            assert len(broker.sink.of("Denial")) == 1

    run(main)


def test_a_long_poll_ends_with_its_topic(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            got = []

            async def poll():
                got.append(await broker.fetch(wait_ms=60_000))

            broker.nursery.start_soon(poll)
            await trio.sleep(1)
            start = trio.current_time()
            await broker.ask("admin", DeleteTopics(("orders",), 1000))
            await trio.testing.wait_all_tasks_blocked()
            assert trio.current_time() - start < 1
            assert got[0].error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    run(main)


def test_the_first_batch_is_whole_whatever_the_limits_and_the_rest_fits(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create(partitions=2)
            for index in (0, 1):
                for _ in range(3):
                    await broker.ask(
                        "admin", world.produce_request(world.batch(bytes(1000)), index=index)
                    )
            part = await broker.fetch(part_bytes=1)
            assert len(records(part)) == 1
            parts = tuple(FetchPartition(index, Offset(0), 1 << 20) for index in (0, 1))
            limit = len(world.batch(bytes(1000))) * 4
            request = Fetch(0, 1, limit, 0, (FetchTopic("orders", parts),))
            result = await broker.ask("admin", request)
            counts = [len(records(part)) for part in result.topics[0].partitions]
            assert counts == [3, 1]
            small = Fetch(0, 1, 1, 0, (FetchTopic("orders", parts),))
            result = await broker.ask("admin", small)
            assert [len(records(part)) for part in result.topics[0].partitions] == [1, 0]

    run(main)


@pytest.mark.parametrize(("offset", "error"), [
    (-1, ErrorCode.OFFSET_OUT_OF_RANGE),
    (1, ErrorCode.NONE),
    (2, ErrorCode.OFFSET_OUT_OF_RANGE),
])  # fmt: skip
def test_offsets_outside_the_log_are_out_of_range(world, run, offset, error):
    async def main():
        async with world.running() as broker:
            await broker.create()
            await broker.produce(world.batch(b"a"))
            assert (await broker.fetch(offset)).error is error

    run(main)


@pytest.mark.parametrize(("epoch", "error"), [
    (-1, ErrorCode.NONE),
    (-2, ErrorCode.NONE),
    (0, ErrorCode.FENCED_LEADER_EPOCH),
    (1, ErrorCode.NONE),
    (2, ErrorCode.UNKNOWN_LEADER_EPOCH),
])  # fmt: skip
def test_kip_320_another_leaders_time_is_told_apart(world, run, epoch, error):
    async def main():
        async with world.running() as broker:
            await broker.create()
            part = FetchPartition(0, Offset(0), 100, epoch)
            request = Fetch(0, 1, 100, 0, (FetchTopic("orders", (part,)),))
            result = await broker.ask("admin", request)
            assert result.topics[0].partitions[0].error is error

    run(main)


def test_each_partition_of_a_produce_is_answered_by_itself(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create(partitions=2)
            corrupt = bytearray(world.batch(b"a"))
            corrupt[-1] ^= 1
            parts = (
                ProducePartition(0, world.batch(b"a")),
                ProducePartition(1, memoryview(corrupt)),
                ProducePartition(2, world.batch(b"a")),
                ProducePartition(1, None),
            )
            request = Produce(-1, 1000, (ProduceTopic("orders", parts),))
            result = await broker.ask("admin", request)
            assert [part.error for part in result.topics[0].partitions] == [
                ErrorCode.NONE,
                ErrorCode.CORRUPT_MESSAGE,
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode.INVALID_RECORD,
            ]

    run(main)


def test_a_topics_own_limit_holds(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create(settings=(("max.message.bytes", "2000"),))
            parts = await broker.produce(world.batch(bytes(1500)), world.batch(bytes(2500)))
            assert [part.error for part in parts] == [
                ErrorCode.NONE,
                ErrorCode.MESSAGE_TOO_LARGE,
            ]

    run(main)


def test_acks_0_has_no_reply_and_its_errors_close_the_connection(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            assert (
                await broker.begin("admin", world.produce_request(world.batch(b"a"), acks=0))
                is None
            )
            await trio.testing.wait_all_tasks_blocked()
            assert (await broker.fetch()).high_watermark == 1
            bad = world.produce_request(memoryview(bytes(10)), acks=0)
            with pytest.raises(ProtocolViolation):
                await broker.begin("admin", bad)
            with pytest.raises(ProtocolViolation):
                await broker.begin("nobody", world.produce_request(world.batch(b"a"), acks=0))

    run(main)


def test_other_acks_are_refused(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            (part,) = await broker.produce(world.batch(b"a"), acks=2)
            assert part.error is ErrorCode.INVALID_REQUIRED_ACKS

    run(main)


def test_offsets_are_found_by_time(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            base = 1_700_000_000_000
            await broker.produce(
                world.batch(b"a", b"b", now_ms=base),
                world.batch(b"c", b"d", now_ms=base + 100),
                world.batch(b"e", now_ms=base + 50),
            )

            async def find(time):
                part = ListOffsetsPartition(0, time)
                request = ListOffsets(0, (ListOffsetsTopic("orders", (part,)),))
                (found,) = (await broker.ask("admin", request)).topics[0].partitions
                assert found.error is ErrorCode.NONE
                return found.timestamp_ms, found.offset

            assert await find(-1) == (-1, 5)
            assert await find(-2) == (-1, 0)
            assert await find(-3) == (base + 101, 3)
            assert await find(base + 1) == (base + 1, 1)
            assert await find(base + 2) == (base + 100, 2)
            assert await find(base + 200) == (-1, -1)

    run(main)


def test_a_log_that_is_lost_is_not_made_anew(world, run):
    async def main():
        disk = world.Disk()
        async with world.running(disk) as broker:
            await broker.create()
            await broker.produce(world.batch(b"a"))
            lost = broker.log_of()
        del disk.logs[lost]
        async with world.running(disk) as broker:
            (part,) = await broker.produce(world.batch(b"b"))
            assert part.error is ErrorCode.KAFKA_STORAGE_ERROR
            assert lost not in disk.logs

    run(main)


def test_a_topic_whose_logs_were_not_made_before_a_crash_gets_them_at_first_use(world, run):
    async def main():
        disk = world.Disk()
        async with world.running(disk) as broker:
            await broker.create()
            log = broker.log_of()
        del disk.logs[log], disk.states[log]
        async with world.running(disk) as broker:
            (part,) = await broker.produce(world.batch(b"a"))
            assert part.base_offset == 0

    run(main)
