"""A consumer gives every record once and in order, and believes no broker."""

import msgspec
import pytest
import trio

from appliance.client.admin import Admin
from appliance.client.consumer import Consumer, ConsumerSettings, Edge
from appliance.client.lane import Pace
from appliance.client.patience import Patience
from appliance.client.publisher import PublisherSettings, open_publisher
from appliance.client.session import open_session
from appliance.errors import ErrorCode, ProtocolViolation, RequestError, Shredded
from appliance.types import Offset, PartitionIndex, TopicName
from appliance.wire.kafka import codec as kafka
from appliance.wire.kafka.records import Record, encode_batch
from appliance.wire.native import codec
from appliance.wire.native.codec import NativeCall
from appliance.wire.requests import (
    ApiVersions,
    Fetch,
    FetchedPartition,
    FetchedTopic,
    FetchResult,
)

TOPIC = TopicName("lines")


def run(broker, action) -> None:
    async def with_session() -> None:
        patience = Patience(total_s=5)
        async with open_session(broker.dial, [broker.address], patience) as session:
            await action(session)

    broker.run(with_session)


async def fill(session, count: int) -> None:
    chosen = PublisherSettings(pace=Pace(batch_bytes=600))
    async with open_publisher(session, chosen) as publisher:
        for number in range(count):
            await publisher.send(TOPIC, b"%06d" % number)


async def read(session, where, **options) -> list[int]:
    small = ConsumerSettings(fetch_bytes=2_000, partition_bytes=2_000)
    consumer = Consumer(session, TOPIC, small)
    await consumer.start(where, stop_at_end=True, **options)
    found = []
    async for chunk in consumer:
        found += [int(record.value) for record in chunk.records]
    return found


@pytest.mark.parametrize("start", [0, 1, 17, 299, 300])
def test_every_record_from_an_offset_on(broker, start: int) -> None:
    async def action(session) -> None:
        await fill(session, 300)
        assert await read(session, Offset(start)) == list(range(start, 300))

    run(broker, action)


def test_edges(broker) -> None:
    async def action(session) -> None:
        await fill(session, 50)
        assert await read(session, Edge.EARLIEST) == list(range(50))
        assert await read(session, Edge.LATEST) == []

    run(broker, action)


def test_all_partitions_or_the_ones_asked_for(broker) -> None:
    async def action(session) -> None:
        await fill(session, 400)
        assert sorted(await read(session, Edge.EARLIEST)) == list(range(400))
        one = await read(session, Edge.EARLIEST, partitions=[PartitionIndex(1)])
        assert one == sorted(one)
        assert 0 < len(one) < 400
        with pytest.raises(RequestError, match="none is 3"):
            await read(session, Edge.EARLIEST, partitions=[PartitionIndex(3)])

    broker.partition_count = 3
    run(broker, action)


def test_following_sees_what_comes_later(broker) -> None:
    async def action(session) -> None:
        await fill(session, 5)
        consumer = Consumer(session, TOPIC)
        await consumer.start(Edge.LATEST)
        found: list[bytes] = []

        async def follow() -> None:
            async for chunk in consumer:
                found.extend(record.value for record in chunk.records)
                if len(found) >= 5:
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            nursery.start_soon(fill, session, 5)
        assert found == [b"%06d" % number for number in range(5)]

    run(broker, action)


def test_a_topic_that_is_not_there_is_refused_at_once(broker) -> None:
    async def action(session) -> None:
        with pytest.raises(RequestError) as caught:
            await read(session, Edge.EARLIEST)
        assert caught.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    run(broker, action)


def test_an_offset_out_of_range_is_final(broker) -> None:
    async def action(session) -> None:
        await fill(session, 5)
        broker.override = _answering(
            FetchResult(
                (_topic(FetchedPartition(PartitionIndex(0), ErrorCode.OFFSET_OUT_OF_RANGE)),)
            )
        )
        with pytest.raises(RequestError) as caught:
            await read(session, Edge.EARLIEST)
        assert caught.value.code is ErrorCode.OFFSET_OUT_OF_RANGE

    run(broker, action)


def test_shredded_records_are_called_so_in_our_own_dialect_alone(broker) -> None:
    told = FetchedPartition(PartitionIndex(0), ErrorCode.OFFSET_OUT_OF_RANGE, shredded=True)
    untold = msgspec.structs.replace(told, shredded=False)

    async def action(session) -> None:
        await fill(session, 5)
        broker.override = _answering(FetchResult((_topic(told),)))
        with pytest.raises(Shredded, match="shredded, for good") as caught:
            await read(session, Edge.EARLIEST)
        assert caught.value.code is ErrorCode.OFFSET_OUT_OF_RANGE

    run(broker, action)
    for version in range(4, 19):
        call = kafka.Call(1, version, 7, None, Fetch(0, 1, 1, 0, ()))
        answers = [kafka.encode(call, FetchResult((_topic(part),))) for part in (told, untold)]
        assert b"".join(answers[0]) == b"".join(answers[1])


def batch(base: int, count: int = 2, spoil: bool = False) -> memoryview:
    records = [Record(None, b"%d" % n) for n in range(count)]
    encoded = encode_batch(records, base_offset=base)
    if spoil:
        encoded[-1] ^= 1
    return memoryview(encoded)


HOSTILE = {
    "another topic": FetchResult(
        (FetchedTopic(TopicName("other"), (FetchedPartition(PartitionIndex(0)),)),)
    ),
    "another partition": FetchResult(
        (FetchedTopic(TOPIC, (FetchedPartition(PartitionIndex(1)),)),)
    ),
    "a partition twice": FetchResult(
        (FetchedTopic(TOPIC, (FetchedPartition(PartitionIndex(0)),) * 2),)
    ),
    "a batch below the position": FetchResult(
        (FetchedTopic(TOPIC, (FetchedPartition(PartitionIndex(0), batches=(batch(0),)),)),)
    ),
    "the same batch twice": FetchResult(
        (FetchedTopic(TOPIC, (FetchedPartition(PartitionIndex(0), batches=(batch(2),) * 2),)),)
    ),
    "a wrong checksum": FetchResult(
        (
            FetchedTopic(
                TOPIC, (FetchedPartition(PartitionIndex(0), batches=(batch(2, spoil=True),)),)
            ),
        )
    ),
    "half a batch": FetchResult(
        (FetchedTopic(TOPIC, (FetchedPartition(PartitionIndex(0), batches=(batch(2)[:30],)),)),)
    ),
}


@pytest.mark.parametrize("lie", HOSTILE)
def test_a_lying_broker_is_found_out(broker, lie: str) -> None:
    async def action(session) -> None:
        await fill(session, 5)
        broker.override = _answering(HOSTILE[lie])
        with pytest.raises(ProtocolViolation):
            await read(session, Offset(2))

    run(broker, action)


def test_administration_round_trip(broker) -> None:
    async def action(session) -> None:
        admin = Admin(session)
        await admin.create_topic(TOPIC)
        assert [topic.name for topic in await admin.list_topics()] == [TOPIC]
        assert len((await admin.describe_topic(TOPIC)).partitions) == 1
        assert await admin.policy() == (3, "p, x\n")
        assert await admin.replace_policy("p, y\n", 3) == 4
        with pytest.raises(RequestError, match="not"):
            await admin.delete_topic(TOPIC)

    run(broker, action)


def _topic(part: FetchedPartition) -> FetchedTopic:
    return FetchedTopic(TOPIC, (part,))


def _answering(result: FetchResult):
    def override(correlation, request):
        if isinstance(request, Fetch):
            return [
                bytes(part) for part in codec.encode(NativeCall(correlation, ApiVersions()), result)
            ]
        return None

    return override
