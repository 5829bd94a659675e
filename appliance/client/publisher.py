"""Publishing records: gathered into batches, sent pipelined, each stored exactly once.

`send` waits only for room in the publisher's buffer: that is the backpressure. A record is safe
when its receipt gives an offset, or when `flush` returns. Leaving the block flushes.
"""

import time
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec
import trio

from appliance.client.batches import ProducerIdentity, Receipt, Room, size_of
from appliance.client.lane import Lane, Pace
from appliance.client.replies import refuse_error
from appliance.client.session import Session
from appliance.errors import ApplianceError, ErrorCode, RequestError
from appliance.limits import KIB, MAX_BATCH_BYTES, MIB
from appliance.types import PartitionIndex, TimestampMs, TopicName
from appliance.wire.kafka.records import Record
from appliance.wire.requests import InitProducerId, InitProducerIdResult

MAX_RECORD_BYTES = MAX_BATCH_BYTES - KIB

Headers = tuple[tuple[str, bytes | None], ...]


class PublisherSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a publisher gathers and sends; `buffer_bytes` bounds what waits in it."""

    pace: Pace = Pace()
    buffer_bytes: int = 32 * MIB
    create_topics: bool = True


class _Topic:
    """A topic's lanes, and which of them takes records without a key."""

    __slots__ = ("current", "lanes")

    def __init__(self, lanes: list[Lane]) -> None:
        self.lanes = lanes
        self.current = 0

    def choose(self, key: bytes | None, partition: PartitionIndex | None) -> Lane:
        """The lane of a partition, of a key, or the one that is being filled.

        Keys are placed by CRC-32, as librdkafka's default partitioner places them.
        """
        if partition is not None:
            return self.lanes[partition]
        if key:
            return self.lanes[zlib.crc32(key) % len(self.lanes)]
        return self.lanes[self.current]

    def turn(self) -> None:
        """Lets the next partition take records without a key."""
        self.current = (self.current + 1) % len(self.lanes)


class Publisher:
    """Accepts records for any topic; made by `open_publisher`."""

    def __init__(
        self,
        session: Session,
        nursery: trio.Nursery,
        identity: ProducerIdentity,
        settings: PublisherSettings,
    ) -> None:
        self._session = session
        self._nursery = nursery
        self._identity = identity
        self._settings = settings
        self._room = Room(settings.buffer_bytes)
        self._topics: dict[TopicName, _Topic] = {}
        self._failure: ApplianceError | None = None
        self._since_checkpoint = 0

    async def send(
        self,
        topic: TopicName,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers = (),
        partition: PartitionIndex | None = None,
        timestamp_ms: TimestampMs | None = None,
    ) -> Receipt:
        """Accepts one record, waiting for room; its receipt tells when it is durable.

        Raises RequestError if the topic or partition cannot take it, or the failure that ended
        the partition's stream.
        """
        lanes = await self._lanes(topic, partition)
        record = Record(
            key=key,
            value=value,
            headers=headers,
            timestamp_ms=_now_ms() if timestamp_ms is None else timestamp_ms,
        )
        return await self._place(lanes, record, partition)

    async def send_lines(
        self, topic: TopicName, records: Iterable[tuple[bytes | None, bytes]]
    ) -> None:
        """Accepts many (key, value) pairs that share one time stamp; raises as `send` does."""
        lanes = await self._lanes(topic, None)
        now_ms = _now_ms()
        for key, value in records:
            record = Record(key=key, value=value, headers=(), timestamp_ms=now_ms)
            await self._place(lanes, record, None)

    async def flush(self) -> None:
        """Returns when every record accepted so far is durable; raises the first failure."""
        lanes = [lane for topic in self._topics.values() for lane in topic.lanes]
        for lane in lanes:
            lane.hurry()
        for lane in lanes:
            if lane.last is not None:
                await lane.last.wait()
        if self._failure is not None:
            raise self._failure

    async def _place(
        self, topic: _Topic, record: Record, partition: PartitionIndex | None
    ) -> Receipt:
        """Finds room for a record, and its batch."""
        size_bytes = size_of(record)
        if size_bytes > MAX_RECORD_BYTES:
            raise RequestError(
                ErrorCode.MESSAGE_TOO_LARGE, f"a record of {size_bytes} bytes fits no batch"
            )
        await self._room.take(size_bytes)
        receipt = topic.choose(record.key, partition).add(record, size_bytes)
        self._since_checkpoint += size_bytes
        if self._since_checkpoint >= self._settings.pace.batch_bytes:
            self._since_checkpoint = 0
            topic.turn()
            await trio.lowlevel.checkpoint()
        return receipt

    async def _lanes(self, name: TopicName, partition: PartitionIndex | None) -> _Topic:
        """A topic's lanes, made when it is first used."""
        if self._failure is not None:
            raise self._failure
        topic = self._topics.get(name)
        if topic is None:
            found = await self._session.topic(name, create=self._settings.create_topics)
            topic = self._topics.setdefault(
                name, _Topic([self._lane(name, part.index) for part in found.partitions])
            )
        if partition is not None and not 0 <= partition < len(topic.lanes):
            raise RequestError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"topic {name} has {len(topic.lanes)} partitions, none is {partition}",
            )
        return topic

    def _lane(self, name: TopicName, partition: PartitionIndex) -> Lane:
        """A running lane."""
        lane = Lane(
            self._session,
            (name, partition),
            self._identity,
            self._settings.pace,
            room=self._room,
            on_failure=self._fail,
        )
        self._nursery.start_soon(lane.run)
        return lane

    def _fail(self, failure: ApplianceError) -> None:
        """Remembers the first failure, for the next `send` or `flush`."""
        self._failure = self._failure or failure
        self._room.close(self._failure)


@asynccontextmanager
async def open_publisher(
    session: Session, settings: PublisherSettings | None = None
) -> AsyncIterator[Publisher]:
    """A publisher with a producer id of its own; leaving the block without an error flushes.

    Raises RequestError if the principal may not produce at all. Errors of this package leave the
    block as they are, not in an exception group.
    """
    granted = await session.call(
        InitProducerId(transactional_id=None, transaction_timeout_ms=60_000), InitProducerIdResult
    )
    refuse_error(granted.error, "a producer id", None)
    identity = ProducerIdentity(granted.producer_id, granted.producer_epoch)
    failure: ApplianceError | None = None
    async with trio.open_nursery() as nursery:
        publisher = Publisher(session, nursery, identity, settings or PublisherSettings())
        try:
            yield publisher
            await publisher.flush()
        except ApplianceError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _now_ms() -> TimestampMs:
    """The time that a record gets if its sender gives none."""
    return TimestampMs(time.time_ns() // 1_000_000)
