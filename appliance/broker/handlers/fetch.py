"""Fetch: committed batches, uncopied; waits for more if there is too little.

Rules: limits are Kafka's: `max_bytes` over all, each partition's own, and the first batch found is
always whole, so that no batch blocks a reader for ever. A request that waited is judged again
before its reply, and everything is read again by that ruling. Sessions are not kept: every fetch
is a full one, and the answer's session id is 0 (KIP-227).
"""

import msgspec
import trio

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.growth import Reader
from appliance.broker.handlers.order import in_order
from appliance.broker.judge import Judge
from appliance.broker.partition import Partition
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_FETCH_BYTES, MAX_FETCH_WAIT_MS
from appliance.ports import Slice
from appliance.types import Offset, TopicName
from appliance.wire.requests import (
    Fetch,
    FetchedPartition,
    FetchedTopic,
    FetchPartition,
    FetchResult,
    FetchTopic,
)

_NO_SESSION = frozenset({-1, 0})
"""Epochs that ask for a full fetch, without a session or with a new one."""


class _Reading(msgspec.Struct):
    """What has been read for one request so far."""

    left_bytes: int
    size_bytes: int = 0
    failed: bool = False
    seen: list[tuple[Partition, Offset]] = []
    """Each partition with the high watermark that its part was read under."""

    @property
    def grown(self) -> bool:
        """Whether something was committed since."""
        return any(partition.high_watermark != mark for partition, mark in self.seen)


class FetchHandler:
    """Reads batches from partitions."""

    request = Fetch

    def __init__(self, topics: Topics, judge: Judge) -> None:
        self._topics = topics
        self._judge = judge

    def refuse(self, request: Fetch, code: ErrorCode) -> FetchResult:
        """Every partition refused."""
        return FetchResult(tuple(_refused(topic, code) for topic in request.topics))

    async def handle(self, caller: Caller, authorized: Authorized[Fetch]) -> FetchResult:
        """Reads, and waits up to `max_wait_ms` for `min_bytes`."""
        request = authorized.request
        if request.session_id != 0 and request.session_epoch not in _NO_SESSION:
            return FetchResult((), ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        wait_ms = min(max(request.max_wait_ms, 0), MAX_FETCH_WAIT_MS)
        deadline = trio.current_time() + wait_ms / 1000
        while True:
            reading, results = await self._read(authorized.request)
            missing_bytes = request.min_bytes - reading.size_bytes
            answers_now = reading.failed or authorized.refused or not reading.seen
            if missing_bytes <= 0 or answers_now or trio.current_time() >= deadline:
                break
            if not reading.grown:
                await _wait(reading, missing_bytes, deadline)
                authorized = await self._judge.rejudge(caller, authorized)
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        return FetchResult(in_order(authorized.asked.topics, codes, results, _refused))

    async def _read(self, request: Fetch) -> tuple[_Reading, list[FetchedTopic]]:
        reading = _Reading(min(max(request.max_bytes, 0), MAX_FETCH_BYTES))
        results = []
        for topic in request.topics:
            parts = []
            for part in topic.partitions:
                try:
                    parts.append(await self._read_part(topic.name, part, reading))
                except RequestError as error:
                    reading.failed = True
                    parts.append(FetchedPartition(part.index, error.code))
            results.append(FetchedTopic(topic.name, tuple(parts)))
        return reading, results

    async def _read_part(
        self, topic: TopicName, part: FetchPartition, reading: _Reading
    ) -> FetchedPartition:
        partition = await self._topics.partition(topic, part.index)
        partition.check_epoch(part.current_leader_epoch)
        high_watermark = partition.high_watermark
        reading.seen.append((partition, high_watermark))
        held = await _slice(partition, part, reading)
        reading.left_bytes -= held.size_bytes
        reading.size_bytes += held.size_bytes
        return FetchedPartition(
            part.index,
            ErrorCode.NONE,
            high_watermark,
            high_watermark,  # without transactions everything committed is stable
            partition.start_offset,
            held.batches,
        )


async def _slice(partition: Partition, part: FetchPartition, reading: _Reading) -> Slice:
    """What fits; the first batch of the reply even if it does not."""
    allowed_bytes = max(min(part.max_bytes, reading.left_bytes), 0)
    is_first = reading.size_bytes == 0
    held = await partition.read(part.offset, allowed_bytes)
    if not is_first and held.size_bytes > allowed_bytes:
        return Slice((), part.offset, part.offset, 0)
    return held


async def _wait(reading: _Reading, missing_bytes: int, deadline: float) -> None:
    """Parks the request until enough is committed, a log ends, or its time is up."""
    reader = Reader(missing_bytes)
    for partition, _ in reading.seen:
        partition.replica.readers.add(reader)
    try:
        with trio.move_on_at(deadline):
            await reader.wait()
    finally:
        for partition, _ in reading.seen:
            partition.replica.readers.discard(reader)


def _refused(topic: FetchTopic, code: ErrorCode) -> FetchedTopic:
    return FetchedTopic(
        topic.name, tuple(FetchedPartition(part.index, code) for part in topic.partitions)
    )
