"""Reading a topic: all its partitions or some, from an offset, to its end or as it grows.

One fetch is in flight to each leader while the records of the one before it are being used. What a
broker sends is checked before it is believed: only partitions that were asked for, sound batches
that lie where they were asked for and move the position on, decompression within a bound.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum

import msgspec
import trio

from appliance.client.connection import Connection, Reply
from appliance.client.fetched import open_batches, pair
from appliance.client.patience import Backoff
from appliance.client.replies import listed_offsets
from appliance.client.session import Session
from appliance.errors import ApplianceError, ErrorCode, RequestError
from appliance.limits import MIB
from appliance.types import Offset, PartitionIndex, TopicName
from appliance.wire.kafka.records import Record
from appliance.wire.requests import (
    Fetch,
    FetchPartition,
    FetchResult,
    FetchTopic,
    ListOffsets,
    ListOffsetsPartition,
    ListOffsetsResult,
    ListOffsetsTopic,
)


class Edge(IntEnum):
    """Where a partition begins or ends, as ListOffsets asks for it."""

    LATEST = -1
    EARLIEST = -2


class ConsumerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much is fetched at once, and how long a fetch waits for news."""

    fetch_bytes: int = 8 * MIB
    partition_bytes: int = 4 * MIB
    wait_ms: int = 500


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """Records of one partition, in offset order."""

    partition: PartitionIndex
    records: Sequence[Record]


Flights = dict[Connection, tuple[Reply[FetchResult], dict[PartitionIndex, Offset]]]
"""Fetches that have not been answered, one a leader, with the positions they ask for."""


class Consumer:
    """Reads one topic: `start` first, then iterate.

    It should have a session of its own: a fetch that waits for news holds back later replies.
    """

    def __init__(
        self, session: Session, topic: TopicName, settings: ConsumerSettings | None = None
    ) -> None:
        self._session = session
        self._topic = topic
        self._settings = settings or ConsumerSettings()
        self._ends: dict[PartitionIndex, Offset] | None = None
        self._backoff: Backoff | None = None
        self._flights: Flights = {}
        self._landed: deque[Chunk] = deque()
        self.positions: dict[PartitionIndex, Offset] = {}
        """The next offset to be read from each partition."""

    async def start(
        self,
        where: Edge | Offset,
        *,
        partitions: Iterable[PartitionIndex] | None = None,
        stop_at_end: bool = False,
    ) -> None:
        """Takes its place: at an edge or an offset, in some partitions or in all.

        With `stop_at_end` it reads up to where the partitions end now. Raises RequestError if
        the topic or a partition is not there for this principal.
        """
        topic = await self._session.topic(self._topic)
        known = [partition.index for partition in topic.partitions]
        wanted = known if partitions is None else sorted(set(partitions))
        for partition in wanted:
            if partition not in known:
                raise RequestError(
                    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                    f"topic {self._topic} has {len(known)} partitions, none is {partition}",
                )
        if isinstance(where, Edge):
            self.positions = await self.edges(where, wanted)
        else:
            self.positions = dict.fromkeys(wanted, where)
        self._ends = await self.edges(Edge.LATEST, wanted) if stop_at_end else None

    async def edges(
        self, edge: Edge, partitions: Iterable[PartitionIndex]
    ) -> dict[PartitionIndex, Offset]:
        """Where partitions begin or end now."""
        found: dict[PartitionIndex, Offset] = {}
        backoff = Backoff(self._session.patience)
        asked = list(partitions)
        while len(found) < len(asked):
            try:
                for leader, owned in (await self._leaders(asked)).items():
                    request = _edge_request(self._topic, edge, owned)
                    result = await leader.call(request, ListOffsetsResult)
                    listed = listed_offsets(result, self._topic)
                    found.update({index: listed[index] for index in owned if index in listed})
            except ApplianceError as failure:
                self._session.forget(self._topic)
                await backoff.wait(failure)
        return found

    def __aiter__(self) -> "Consumer":
        """Chunks as they come; the end comes only if it was started with `stop_at_end`."""
        return self

    async def __anext__(self) -> Chunk:
        """The next records of some partition, at least one.

        Raises RequestError when a position cannot be read, ProtocolViolation when the broker
        sends what it must not.
        """
        while not self._landed:
            if not self._unread():
                raise StopAsyncIteration
            try:
                await self._land_one()
            except ApplianceError as failure:
                await self._recover(failure)
        return self._landed.popleft()

    async def _land_one(self) -> None:
        """Takes one fetch's records; the next fetch travels while they are used."""
        await self._take_off()
        leader, asked, result = await _first(self._flights)
        del self._flights[leader]
        landed = pair(result, self._topic, asked)
        opened = [(index, *open_batches(part, asked[index])) for index, part in landed]
        self._backoff = None
        for index, records, next_offset in opened:
            self.positions[index] = next_offset
            wanted = self._before_end(index, records)
            if wanted:
                self._landed.append(Chunk(index, wanted))
        if self._landed:
            with suppress(ApplianceError):  # met again when these records are used up
                await self._take_off()

    async def _take_off(self) -> None:
        """Sends a fetch to each leader that has none in flight."""
        for leader, owned in (await self._leaders(self._unread())).items():
            if leader not in self._flights:
                asked = {index: self.positions[index] for index in owned}
                reply = await leader.submit(self._fetch(asked), FetchResult)
                self._flights[leader] = (reply, asked)

    def _fetch(self, asked: Mapping[PartitionIndex, Offset]) -> Fetch:
        """A fetch of some partitions, each from its position."""
        parts = tuple(
            FetchPartition(index, offset, self._settings.partition_bytes)
            for index, offset in asked.items()
        )
        return Fetch(
            max_wait_ms=self._settings.wait_ms,
            min_bytes=1,
            max_bytes=self._settings.fetch_bytes,
            isolation_level=0,
            topics=(FetchTopic(self._topic, parts),),
        )

    async def _recover(self, failure: ApplianceError) -> None:
        """Waits before another try, at the leaders of that time; raises what is final."""
        self._flights.clear()
        self._session.forget(self._topic)
        self._backoff = self._backoff or Backoff(self._session.patience)
        await self._backoff.wait(failure)

    async def _leaders(
        self, partitions: Iterable[PartitionIndex]
    ) -> dict[Connection, list[PartitionIndex]]:
        """Partitions by the connection to their leader."""
        leaders: dict[Connection, list[PartitionIndex]] = {}
        for partition in partitions:
            leader = await self._session.leader(self._topic, partition)
            leaders.setdefault(leader, []).append(partition)
        return leaders

    def _unread(self) -> list[PartitionIndex]:
        """The partitions that have, or may get, something to read."""
        if self._ends is None:
            return list(self.positions)
        return [index for index, at in self.positions.items() if at < self._ends[index]]

    def _before_end(self, index: PartitionIndex, records: list[Record]) -> list[Record]:
        """Records up to the end at which the consumer stops."""
        if self._ends is None or not records or records[-1].offset < self._ends[index]:
            return records
        return [record for record in records if record.offset < self._ends[index]]


async def _first(
    flights: Flights,
) -> tuple[Connection, dict[PartitionIndex, Offset], FetchResult]:
    """The fetch that is answered first; raises as its reply does."""
    landed = trio.Event()
    for reply, _ in flights.values():
        reply.notify(landed.set)
    await landed.wait()
    leader, (reply, asked) = next(item for item in flights.items() if item[1][0].done)
    return leader, asked, reply.result()


def _edge_request(topic: TopicName, edge: Edge, partitions: list[PartitionIndex]) -> ListOffsets:
    """Asks where some partitions begin or end."""
    parts = tuple(ListOffsetsPartition(index, edge) for index in partitions)
    return ListOffsets(isolation_level=0, topics=(ListOffsetsTopic(topic, parts),))
