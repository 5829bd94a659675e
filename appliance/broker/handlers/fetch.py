"""Fetch: committed batches, uncopied; waits for more if there is too little.

Rules: limits are Kafka's: `max_bytes` over all, each partition's own, and the first batch found is
always whole, so that no batch blocks a reader for ever. A request that waited is judged again
before its reply, and everything is read again by that ruling. What a session holds is judged with
every fetch, as if it had been sent (KIP-227). A reader that names its rack is sent to a replica
there, and served by one (KIP-392).
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from appliance.authz.actions import Action, ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.fetch_sessions import (
    FINAL_EPOCH,
    INITIAL_EPOCH,
    FetchSession,
    FetchSessions,
)
from appliance.broker.growth import Reader
from appliance.broker.handlers.order import in_order_or_by_id
from appliance.broker.judge import Judge
from appliance.broker.partition import Partition
from appliance.broker.placement import Placement
from appliance.broker.quotas import Quotas
from appliance.broker.redirect import NotLeader, endpoints_of
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError, Shredded
from appliance.limits import MAX_FETCH_BYTES, MAX_FETCH_WAIT_MS
from appliance.ports import Slice
from appliance.types import Offset, TopicName
from appliance.wire.requests import (
    EpochEnd,
    Fetch,
    FetchedPartition,
    FetchedTopic,
    FetchPartition,
    FetchResult,
    FetchTopic,
)

_LOOKED_AT_ONCE: Final = 100
"""Partitions, before others get the event loop."""


class _Reading(msgspec.Struct):
    """What has been read for one request so far."""

    left_bytes: int
    size_bytes: int = 0
    told: bool = False
    """Something is to be said at once: an error, or where else to read."""
    seen: list[tuple[Partition, Offset]] = []
    """Each partition with the high watermark that its part was read under."""

    @property
    def grown(self) -> bool:
        """Whether something was committed since."""
        return any(partition.high_watermark != mark for partition, mark in self.seen)


class FetchHandler:
    """Reads batches from partitions."""

    request = Fetch

    def __init__(
        self,
        topics: Topics,
        judge: Judge,
        sessions: FetchSessions,
        catalogue: Catalogue,
        *,
        placement: Placement,
        quotas: Quotas,
    ) -> None:
        self._topics = topics
        self._judge = judge
        self._sessions = sessions
        self._catalogue = catalogue
        self._placement = placement
        self._quotas = quotas

    def refuse(self, request: Fetch, code: ErrorCode) -> FetchResult:
        """Every partition refused; of a session's, which are not named here, the whole."""
        if _is_incremental(request):
            return FetchResult((), code)
        return FetchResult(tuple(_refused(topic, code) for topic in request.topics))

    async def handle(self, caller: Caller, authorized: Authorized[Fetch]) -> FetchResult:
        """Reads, and waits up to `max_wait_ms` for `min_bytes`."""
        asked = authorized.asked
        incremental = _is_incremental(asked)
        owed_ms, allowed_bytes = self._quotas.before_fetch(caller)
        try:
            if owed_ms and not incremental:
                self._sessions.close(caller.principal, asked.session_id)
                return FetchResult((), throttle_time_ms=owed_ms)
            session = self._session(caller, asked)
        except RequestError as error:
            return FetchResult((), error.code)
        if owed_ms and session is not None:
            return FetchResult((), session_id=session.number, throttle_time_ms=owed_ms)
        topics, size_bytes = await self._answer(
            caller, authorized, session if incremental else None, allowed_bytes
        )
        throttle_ms = self._quotas.fetched(caller, size_bytes) if size_bytes else 0
        hints = [part.leader for topic in topics for part in topic.partitions if part.leader]
        endpoints = endpoints_of(self._catalogue, caller.listener, hints) if hints else ()
        if session is None:
            return FetchResult(topics, throttle_time_ms=throttle_ms, endpoints=endpoints)
        return FetchResult(
            session.news(topics, everything=not incremental),
            ErrorCode.NONE,
            session.number,
            throttle_ms,
            endpoints=endpoints,
        )

    def _session(self, caller: Caller, asked: Fetch) -> FetchSession | None:
        """The session that the answer is told in; None for a full fetch without one."""
        owner = caller.principal
        if _is_incremental(asked):
            return self._sessions.resume(owner, asked)
        if asked.session_id != 0:
            self._sessions.close(owner, asked.session_id)
        if asked.session_epoch == FINAL_EPOCH:
            return None
        return self._sessions.open(owner, asked)

    async def _answer(
        self,
        caller: Caller,
        authorized: Authorized[Fetch],
        session: FetchSession | None,
        allowed_bytes: int,
    ) -> tuple[tuple[FetchedTopic, ...], int]:
        """One part for each that is asked for, here or in the session, and the bytes in all."""
        asked = authorized.asked
        most_bytes = min(asked.max_bytes, allowed_bytes)
        least_bytes = min(asked.min_bytes, most_bytes)
        wait_ms = min(max(asked.max_wait_ms, 0), MAX_FETCH_WAIT_MS)
        deadline = trio.current_time() + wait_ms / 1000
        topics = asked.topics if session is None else session.topics()
        while True:
            granted = (
                authorized.request.topics if session is None else self._granted(authorized, topics)
            )
            reading, results = await self._read(most_bytes, asked.rack_id, granted)
            missing_bytes = least_bytes - reading.size_bytes
            answers_now = reading.told or len(granted) < len(topics) or not reading.seen
            if missing_bytes <= 0 or answers_now or trio.current_time() >= deadline:
                break
            if not reading.grown:
                await _wait(reading, missing_bytes, deadline)
                authorized = await self._judge.rejudge(caller, authorized)
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        if session is not None:
            codes = {topic.name: ErrorCode.TOPIC_AUTHORIZATION_FAILED for topic in topics}
        told = in_order_or_by_id(topics, granted, codes, results, _refused)
        return told, reading.size_bytes

    def _granted(
        self, authorized: Authorized[Fetch], topics: Sequence[FetchTopic]
    ) -> Sequence[FetchTopic]:
        """What of a session's topics may be read now, with names for ids."""
        named = []
        for topic in topics:
            name = topic.name if topic.topic_id is None else self._catalogue.name_of(topic.topic_id)
            if name is not None:
                named.append(
                    topic
                    if topic.topic_id is None
                    else FetchTopic(name, topic.partitions, topic.topic_id)
                )
        names = dict.fromkeys(topic.name for topic in named)
        allowed = frozenset(authorized.granted(Action.READ, ResourceKind.TOPIC, names))
        return [topic for topic in named if topic.name in allowed]

    async def _read(
        self, max_bytes: int, rack: str, topics: Sequence[FetchTopic]
    ) -> tuple[_Reading, list[FetchedTopic]]:
        reading = _Reading(min(max(max_bytes, 0), MAX_FETCH_BYTES))
        results = []
        looked_at = 0
        for topic in topics:
            parts = []
            for part in topic.partitions:
                looked_at += 1
                if not looked_at % _LOOKED_AT_ONCE:
                    await trio.lowlevel.checkpoint()
                try:
                    parts.append(await self._read_part(topic, part, rack, reading))
                except RequestError as error:
                    reading.told = True
                    leader = error.hint if isinstance(error, NotLeader) else None
                    shredded = isinstance(error, Shredded)
                    parts.append(
                        FetchedPartition(part.index, error.code, leader=leader, shredded=shredded)
                    )
            results.append(FetchedTopic(_told_name(topic), tuple(parts), topic.topic_id))
        return reading, results

    async def _read_part(
        self, topic: FetchTopic, part: FetchPartition, rack: str, reading: _Reading
    ) -> FetchedPartition:
        partition = await self._topics.readable(topic.name, part.index, topic.topic_id, rack)
        partition.check_epoch(max(part.current_leader_epoch, -1))  # below 0 is none, in a fetch
        high_watermark = partition.high_watermark
        reading.seen.append((partition, high_watermark))
        elsewhere = self._elsewhere(partition, part, rack)
        if elsewhere is not None:
            reading.told = True
            return elsewhere
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

    def _elsewhere(
        self, partition: Partition, part: FetchPartition, rack: str
    ) -> FetchedPartition | None:
        """What is told instead of records: where the reader went astray, or who is nearer to it."""
        high_watermark = partition.high_watermark
        told = FetchedPartition(
            part.index, ErrorCode.NONE, high_watermark, high_watermark, partition.start_offset
        )
        if part.last_fetched_epoch >= 0:
            diverging = partition.divergence(part.last_fetched_epoch, part.offset)
            if diverging is not None:
                return msgspec.structs.replace(told, diverging=EpochEnd(*diverging))
        if rack and partition.replica.serving:
            nearer = self._placement.nearer_reader(partition.replica, rack)
            if nearer is not None and partition.start_offset <= part.offset <= high_watermark:
                return msgspec.structs.replace(told, preferred_read_replica=nearer)
        return None


def _is_incremental(asked: Fetch) -> bool:
    return asked.session_epoch not in {FINAL_EPOCH, INITIAL_EPOCH}


def _told_name(topic: FetchTopic) -> TopicName:
    """A topic is told as it was asked for: by its id alone, if by that."""
    return topic.name if topic.topic_id is None else TopicName("")


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
        _told_name(topic),
        tuple(FetchedPartition(part.index, code) for part in topic.partitions),
        topic.topic_id,
    )
