"""A broker of a few lines behind the real wire: frames, codec and batches are the true ones.

It keeps batches by partition, remembers producers' sequences as a broker must, and does what a
test scripts for the next produces: lose the connection before or after storing, or refuse.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
import trio
import trio.testing

from appliance.client.frames import FrameReader
from appliance.client.profile import Address
from appliance.errors import ApplianceError, ErrorCode
from appliance.types import (
    EntryHeader,
    EntryKind,
    Index,
    Offset,
    ProducerEpoch,
    ProducerId,
    Term,
    TimestampMs,
    TopicId,
    TopicName,
)
from appliance.wire.kafka.records import Record, decode_batch, read_header, stamp
from appliance.wire.native import codec
from appliance.wire.requests import (
    AnyRequest,
    AnyResponse,
    Broker,
    CreatedTopic,
    CreateTopics,
    CreateTopicsResult,
    DescribePolicy,
    DescribePolicyResult,
    Fetch,
    FetchedPartition,
    FetchedTopic,
    FetchResult,
    InitProducerId,
    InitProducerIdResult,
    ListedOffset,
    ListedOffsetsTopic,
    ListOffsets,
    ListOffsetsResult,
    Metadata,
    MetadataResult,
    PartitionMetadata,
    Produce,
    ProducedPartition,
    ProducedTopic,
    ProduceResult,
    Refused,
    ReplacePolicy,
    ReplacePolicyResult,
    TopicMetadata,
)

LOSE_BEFORE = "lose the connection before storing"
LOSE_AFTER = "lose the connection after storing"

Override = Callable[[int, AnyRequest], list[bytes] | None]


class ConnectionLost(Exception):
    pass


class FakeBroker:
    address = Address("broker.test", 9193)

    def __init__(self) -> None:
        self.logs: dict[tuple[str, int], list[bytes]] = {}
        self.script: deque[str | ErrorCode] = deque()
        self.partition_count = 1
        self.connections = 0
        self.override: Override | None = None
        self.held: trio.Event | None = None
        self.news = trio.Event()
        self._sequences: dict[tuple[int, str, int], list[tuple[int, int, int]]] = {}
        self._producers = 0
        self._nursery: trio.Nursery | None = None

    def run(self, client: Callable[[], Awaitable[None]]) -> None:
        """Runs a client against this broker; waits cost no real time."""
        raised: list[ApplianceError] = []

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await client()
                except ApplianceError as error:
                    raised.append(error)
                nursery.cancel_scope.cancel()

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        if raised:
            raise raised[0]

    async def dial(self, address: Address) -> trio.abc.Stream:
        assert address == self.address
        assert self._nursery is not None
        ours, theirs = trio.testing.memory_stream_pair()
        self.connections += 1
        self._nursery.start_soon(self._serve, theirs)
        return ours

    def create(self, topic: str) -> None:
        for index in range(self.partition_count):
            self.logs.setdefault((topic, index), [])

    def records(self, topic: str, partition: int = 0) -> list[Record]:
        return [
            record
            for batch in self.logs[topic, partition]
            for record in decode_batch(memoryview(batch), max_decompressed_bytes=1 << 26)
        ]

    def end(self, topic: str, partition: int) -> int:
        batches = self.logs[topic, partition]
        return read_header(memoryview(batches[-1])).next_offset if batches else 0

    async def _serve(self, stream: trio.abc.Stream) -> None:
        reader = FrameReader(stream)
        try:
            while (frame := await reader.next_frame(lambda: 1 << 27)) is not None:
                if self.held is not None:
                    await self.held.wait()
                call = codec.decode(frame)
                if isinstance(call.request, Fetch):
                    await self._wait_for_news(call.request)
                raw = self.override(call.correlation_id, call.request) if self.override else None
                if raw is None:
                    raw = [bytes(part) for part in codec.encode(call, self._answer(call.request))]
                for part in raw:
                    await stream.send_all(part)
        except (ConnectionLost, trio.BrokenResourceError):
            pass
        await stream.aclose()

    async def _wait_for_news(self, request: Fetch) -> None:
        asked = request.topics[0]
        with trio.move_on_after(request.max_wait_ms / 1000):
            while all(self.end(asked.name, part.index) <= part.offset for part in asked.partitions):
                await self.news.wait()

    def _answer(self, request: AnyRequest) -> AnyResponse:
        match request:
            case Metadata():
                return self._metadata(request)
            case InitProducerId():
                self._producers += 1
                return InitProducerIdResult(
                    producer_id=ProducerId(self._producers), producer_epoch=ProducerEpoch(0)
                )
            case Produce():
                return self._produce(request)
            case Fetch():
                return self._fetch(request)
            case ListOffsets():
                return self._list_offsets(request)
            case CreateTopics():
                self.create(request.topics[0].name)
                return CreateTopicsResult((CreatedTopic(request.topics[0].name),))
            case DescribePolicy():
                return DescribePolicyResult(version=3, text="p, x\n")
            case ReplacePolicy():
                return ReplacePolicyResult(version=request.expected_version + 1)
            case _:
                return Refused(ErrorCode.INVALID_REQUEST, "not\x1b[2J here")

    def _metadata(self, request: Metadata) -> MetadataResult:
        names = (
            sorted({name for name, _ in self.logs}) if request.topics is None else request.topics
        )
        topics = []
        for name in names:
            if (name, 0) not in self.logs and request.allow_auto_topic_creation:
                self.create(name)
                topics.append(TopicMetadata(TopicName(name), ErrorCode.LEADER_NOT_AVAILABLE))
            elif (name, 0) not in self.logs:
                topics.append(TopicMetadata(TopicName(name), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
            else:
                parts = tuple(
                    PartitionMetadata(index, 1, 1, (1,), (1,))
                    for index in range(self.partition_count)
                )
                topics.append(
                    TopicMetadata(TopicName(name), topic_id=TopicId(UUID(int=1)), partitions=parts)
                )
        broker = Broker(1, self.address.host, self.address.port)
        return MetadataResult("cluster", 1, (broker,), tuple(topics))

    def _produce(self, request: Produce) -> ProduceResult:
        topic = request.topics[0]
        part = topic.partitions[0]
        action = self.script.popleft() if self.script else None
        if action == LOSE_BEFORE:
            raise ConnectionLost
        if isinstance(action, ErrorCode):
            produced = ProducedPartition(part.index, action)
        else:
            assert part.batch is not None
            produced = self._store(topic.name, part.index, part.batch)
        if action == LOSE_AFTER:
            raise ConnectionLost
        return ProduceResult((ProducedTopic(topic.name, (produced,)),))

    def _store(self, topic: str, index: int, batch: memoryview) -> ProducedPartition:
        header = read_header(batch)
        known = self._sequences.setdefault((header.producer_id, topic, index), [])
        for first, last, offset in known[-5:]:
            if (first, last) == (header.base_sequence, header.last_sequence):
                return ProducedPartition(index, base_offset=offset)
        if known and header.base_sequence != known[-1][1] + 1:
            return ProducedPartition(index, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
        base = Offset(self.end(topic, index))
        known.append((header.base_sequence, header.last_sequence, base))
        copy = bytearray(batch)
        stamp(memoryview(copy), _entry(base, header.last_offset_delta, len(copy)))
        self.logs[topic, index].append(bytes(copy))
        self.news.set()
        self.news = trio.Event()
        return ProducedPartition(index, base_offset=base)

    def _fetch(self, request: Fetch) -> FetchResult:
        topic = request.topics[0]
        parts = []
        for asked in topic.partitions:
            batches: list[memoryview] = []
            size = 0
            for batch in self.logs[topic.name, asked.index]:
                if read_header(memoryview(batch)).next_offset <= asked.offset:
                    continue
                if batches and size + len(batch) > asked.max_bytes:
                    break
                batches.append(memoryview(batch))
                size += len(batch)
            parts.append(FetchedPartition(asked.index, batches=tuple(batches)))
        return FetchResult((FetchedTopic(topic.name, tuple(parts)),))

    def _list_offsets(self, request: ListOffsets) -> ListOffsetsResult:
        topic = request.topics[0]
        listed = tuple(
            ListedOffset(
                part.index,
                offset=0 if part.timestamp_ms == -2 else self.end(topic.name, part.index),
            )
            for part in topic.partitions
        )
        return ListOffsetsResult((ListedOffsetsTopic(topic.name, listed),))


def _entry(base: Offset, delta: int, size: int) -> EntryHeader:
    return EntryHeader(EntryKind.BATCH, Index(1), Term(1), TimestampMs(0), base, delta, size)


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture(scope="session")
def make_broker() -> type[FakeBroker]:
    return FakeBroker
