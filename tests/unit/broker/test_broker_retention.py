"""Where a log begins: planned as Kafka does, decided by the group, refused without DELETE."""

import pytest

from appliance.broker.retention import new_start
from appliance.errors import ErrorCode
from appliance.ports import SegmentInfo
from appliance.types import PartitionIndex
from appliance.wire.requests import (
    DeleteRecords,
    DeleteRecordsPartition,
    DeleteRecordsTopic,
    ListOffsets,
    ListOffsetsPartition,
    ListOffsetsTopic,
)

SEGMENTS = tuple(
    SegmentInfo(10 * n + 1, 100 * n, 100 * n + 100, 1000, 5000 + 1000 * n) for n in range(4)
)
"""Four files of 100 records and 1000 bytes; the newest batch of each a second after the last."""


@pytest.mark.parametrize(("now_ms", "retention_ms", "high_watermark", "expected"), [
    (99_999, -1, 400, 0),
    (6_000, 1000, 400, 0),
    (6_001, 1000, 400, 100),
    (7_500, 1000, 400, 200),
    (7_500, 1000, 199, 100),
    (7_500, 1000, 99, 0),
    (99_999, 1000, 400, 400),
    (99_999, 1000, 399, 300),
    (99_999, 0, 0, 0),
])  # fmt: skip
def test_files_go_by_time_once_their_newest_batch_is_too_old(
    now_ms, retention_ms, high_watermark, expected
):
    assert expected == new_start(
        SEGMENTS,
        start=0,
        high_watermark=high_watermark,
        now_ms=now_ms,
        retention_ms=retention_ms,
        retention_bytes=-1,
    )


@pytest.mark.parametrize(("retention_bytes", "high_watermark", "expected"), [
    (4000, 400, 0),
    (3001, 400, 0),
    (3000, 400, 100),
    (1999, 400, 200),
    (1000, 400, 300),
    (0, 400, 300),
    (0, 250, 200),
])  # fmt: skip
def test_files_go_by_size_while_those_after_them_still_hold_enough(
    retention_bytes, high_watermark, expected
):
    assert expected == new_start(
        SEGMENTS,
        start=0,
        high_watermark=high_watermark,
        now_ms=0,
        retention_ms=-1,
        retention_bytes=retention_bytes,
    )


def test_a_start_that_lies_further_up_stays_there():
    assert new_start(
        SEGMENTS, start=150, high_watermark=400, now_ms=6_001, retention_ms=1000, retention_bytes=-1
    ) == 150  # fmt: skip


def delete(offset, topic="orders"):
    part = DeleteRecordsPartition(PartitionIndex(0), offset)
    return DeleteRecords((DeleteRecordsTopic(topic, (part,)),), 1000)


async def deleted(broker, offset, name="admin", topic="orders"):
    reply = await broker.ask(name, delete(offset, topic))
    (part,) = reply.topics[0].partitions
    return part.error, part.low_watermark


async def listed(broker, timestamp_ms):
    request = ListOffsets(
        0, (ListOffsetsTopic("orders", (ListOffsetsPartition(0, timestamp_ms),)),)
    )
    return (await broker.ask("admin", request)).topics[0].partitions[0]


def test_deleted_records_are_gone_for_everyone_and_after_a_restart(world, run):
    disk = world.Disk()

    async def before():
        async with world.running(disk) as broker:
            await broker.create()
            await broker.produce(*(world.batch(b"a", b"b") for _ in range(4)))
            assert await deleted(broker, 3) == (ErrorCode.NONE, 3)
            assert await deleted(broker, 1) == (ErrorCode.NONE, 3)
            assert await deleted(broker, 9) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
            assert await deleted(broker, -2) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
            assert (await broker.fetch(2)).error is ErrorCode.OFFSET_OUT_OF_RANGE
            assert (await broker.fetch(3)).error is ErrorCode.NONE
            assert (await listed(broker, -2)).offset == 3
            assert (await broker.fetch(4)).log_start_offset == 3

    async def after():
        async with world.running(disk) as broker:
            assert (await broker.fetch(2)).error is ErrorCode.OFFSET_OUT_OF_RANGE
            assert await deleted(broker, -1) == (ErrorCode.NONE, 8)
            assert (await listed(broker, -2)).offset == 8
            assert (await broker.produce(world.batch(b"c")))[0].base_offset == 8

    run(before)
    run(after)


def test_a_deletion_is_recorded_before_it_is_made_and_refused_if_it_cannot_be(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            await broker.produce(world.batch(b"a", b"b"))
            broker.sink.broken = True
            assert (await deleted(broker, 1))[0] is ErrorCode.KAFKA_STORAGE_ERROR
            broker.sink.broken = False
            assert (await listed(broker, -2)).offset == 0
            await deleted(broker, 1)
            (event,) = [e for e in broker.sink.of("Mutation") if e.request == "DeleteRecords"]
            assert event.resources == ("orders-0",)
            assert event.detail == "records below offset 1"

    run(main)


@pytest.mark.parametrize("name", ["reader", "writer", "maker", "nobody"])
def test_who_may_read_or_write_a_topic_may_not_delete_its_records(world, run, name):
    async def main():
        async with world.running() as broker:
            await broker.create()
            await broker.produce(world.batch(b"a"))
            error, _ = await deleted(broker, 1, name)
            assert error is ErrorCode.TOPIC_AUTHORIZATION_FAILED
            assert (await listed(broker, -2)).offset == 0

    run(main)


def test_a_topic_that_is_not_there_has_no_records_to_delete(world, run):
    async def main():
        async with world.running() as broker:
            error, _ = await deleted(broker, 0, topic="absent")
            assert error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    run(main)


def test_housekeeping_lets_go_of_what_has_expired(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create("orders", settings=(("retention.ms", "60000"),))
            await broker.create("kept", settings=(("retention.ms", "-1"),))
            await broker.produce(*(world.batch(b"a") for _ in range(3)))
            await broker.produce(world.batch(b"a"), topic="kept")
            await world.sleep(301)
            assert (await listed(broker, -2)).offset == 3
            assert (await broker.fetch(0, topic="kept")).error is ErrorCode.NONE
            assert (await broker.produce(world.batch(b"b")))[0].base_offset == 3

    run(main)


def test_a_full_disk_refuses_batches_serves_reads_and_is_forgotten_with_space(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            await broker.produce(world.batch(b"a"))
            broker.disk.full.add(broker.log_of())
            errors = [part.error for part in await broker.produce(*[world.batch(b"b")] * 2)]
            assert errors == [ErrorCode.KAFKA_STORAGE_ERROR] * 2
            assert (await broker.fetch(0)).high_watermark == 1
            assert (await broker.produce(world.batch(b"c"), name="admin"))[0].error is (
                ErrorCode.KAFKA_STORAGE_ERROR
            )
            broker.disk.full.clear()
            await world.sleep(2)
            (part,) = await broker.produce(world.batch(b"d"))
            assert part.error is ErrorCode.NONE
            assert part.base_offset == 2

    run(main)


def test_a_node_whose_disk_is_full_still_stops(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            broker.disk.full.add(broker.log_of())
            await broker.produce(world.batch(b"b"))

    run(main)
