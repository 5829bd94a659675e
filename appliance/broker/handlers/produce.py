"""Produce: batches are checked and proposed at once; the reply follows when they are durable.

Rules: everything that may wait (opening a partition, room in its log) comes first; then all batches
of the request are proposed without a checkpoint between, so that requests of one connection keep
their order. acks 1 is answered like acks -1 (DESIGN section 4). acks 0 has no reply; its errors
close the connection, as Kafka's do.
"""

from collections.abc import Sequence

import msgspec
import trio

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.handlers.order import in_order_or_by_id
from appliance.broker.partition import Partition
from appliance.broker.pending import Pending
from appliance.broker.placement import Placement
from appliance.broker.redirect import NotLeader, endpoints_of, hint_of
from appliance.broker.topic_settings import TopicSettings
from appliance.broker.topics import LiveTopic, Topics
from appliance.errors import ErrorCode, ProtocolViolation, RequestError
from appliance.limits import MAX_DECOMPRESSED_BYTES
from appliance.ports import Clock
from appliance.types import PartitionId, TimestampMs
from appliance.wire.kafka.records import check_produced, decode_batch
from appliance.wire.requests import (
    Broker,
    CurrentLeader,
    Produce,
    ProducedPartition,
    ProducedTopic,
    ProducePartition,
    ProduceResult,
    ProduceTopic,
)

_ACKS = frozenset({-1, 0, 1})

_Target = tuple[TopicSettings, Partition]
"""Where a batch goes, and by which settings it is checked."""


class ProduceHandler:
    """Appends batches to partitions."""

    request = Produce

    def __init__(
        self, topics: Topics, catalogue: Catalogue, placement: Placement, clock: Clock
    ) -> None:
        self._topics = topics
        self._catalogue = catalogue
        self._placement = placement
        self._clock = clock

    def refuse(self, request: Produce, code: ErrorCode) -> ProduceResult:
        """Every partition refused; with acks 0 raises ProtocolViolation."""
        if request.acks == 0:
            raise ProtocolViolation(f"refused a produce that wants no reply: {code.name}")
        return ProduceResult(tuple(_refused(topic, code) for topic in request.topics))

    async def handle(self, caller: Caller, authorized: Authorized[Produce]) -> Pending | None:
        """Proposes each granted batch; the reply is resolved when the last is decided."""
        request = authorized.request
        if request.acks not in _ACKS:
            raise RequestError(ErrorCode.INVALID_REQUIRED_ACKS, "acks are -1, 0 or 1")
        if request.transactional_id is not None:
            raise RequestError(ErrorCode.INVALID_TXN_STATE, "transactions are not served")
        if request.acks == 0 and len(authorized.asked.topics) != len(request.topics):
            raise ProtocolViolation("refused a produce that wants no reply: topics")
        targets: list[_Target | RequestError] = []
        for topic in request.topics:
            live = self._topics.find(topic.name, topic.topic_id)
            for part in topic.partitions:
                target = _target_at_once(live, part)
                targets.append(target or await self._target(topic, part))
        redirect = _Redirect(caller.listener, self._catalogue, self._placement)
        return self._propose_all(_Reply(authorized, redirect), targets)

    async def _target(self, topic: ProduceTopic, part: ProducePartition) -> _Target | RequestError:
        """Opens the partition and waits for room, or says why the batch cannot be taken."""
        try:
            partition = await self._topics.partition(topic.name, part.index, topic.topic_id)
        except RequestError as error:
            return error
        if part.batch is None:
            return RequestError(ErrorCode.INVALID_RECORD, "there is no batch")
        if _needs_keys(self._topics.find(topic.name, topic.topic_id)):
            try:
                await trio.to_thread.run_sync(_check_keys, part.batch)
            except RequestError as error:
                return error
        await partition.replica.room(len(part.batch))
        live = self._topics.find(topic.name, topic.topic_id)
        if live is None:
            return RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the topic was deleted")
        return live.settings, partition

    def _propose_all(
        self, reply: "_Reply", targets: Sequence[_Target | RequestError]
    ) -> Pending | None:
        now_ms = self._clock.now_ms()
        following = iter(targets)
        for topic in reply.topics:
            for part in topic.partitions:
                slot = reply.slot(part)
                target = next(following)
                try:
                    _propose(target, part, slot, now_ms)
                except RequestError as error:
                    slot.fail(error)
        return reply.proposed()


def _target_at_once(live: LiveTopic | None, part: ProducePartition) -> _Target | None:
    """Where the batch goes, if nothing needs to be waited for."""
    if live is None or part.batch is None or not 0 <= part.index < len(live.partitions):
        return None
    partition = live.partitions[part.index]
    if partition is None or _needs_keys(live):
        return None
    replica = partition.replica
    if not replica.serving or not replica.has_room(len(part.batch)):
        return None
    return live.settings, partition


def _needs_keys(live: LiveTopic | None) -> bool:
    """Whether records are looked into, because a compacted topic takes none without a key."""
    return live is not None and live.settings.compacts


def _check_keys(batch: memoryview) -> None:
    """Raises RequestError(INVALID_RECORD) if a record has no key; runs off the loop."""
    records = decode_batch(batch, max_decompressed_bytes=MAX_DECOMPRESSED_BYTES)
    if any(record.key is None for record in records):
        raise RequestError(
            ErrorCode.INVALID_RECORD, "a compacted topic takes no record without a key"
        )


def _propose(
    target: _Target | RequestError, part: ProducePartition, slot: "_Slot", now_ms: TimestampMs
) -> None:
    if isinstance(target, RequestError):
        raise target
    settings, partition = target
    batch = part.batch
    if batch is None:
        raise RequestError(ErrorCode.INVALID_RECORD, "there is no batch")
    header = check_produced(
        batch,
        max_batch_bytes=settings.max_batch_bytes,
        now_ms=now_ms,
        limits=settings.timestamps,
    )
    if header.is_transactional:
        raise RequestError(ErrorCode.INVALID_TXN_STATE, "transactions are not served")
    slot.start_offset = partition.start_offset
    slot.group = partition.replica.partition
    partition.append(batch, header, slot, now_ms)


class _Redirect(msgspec.Struct, frozen=True, gc=False):
    """How a client is told of the leader that it should have asked (KIP-951)."""

    listener: str
    catalogue: Catalogue
    placement: Placement

    def hint(self, group: PartitionId | None) -> CurrentLeader | None:
        """Who leads a group now."""
        return None if group is None else hint_of(self.placement.leader(group))

    def endpoints(self, slots: Sequence["_Slot"]) -> tuple[Broker, ...]:
        """Where the leaders that results name are reached."""
        hints = [slot.result.leader for slot in slots if slot.result is not None]
        if not any(hints):
            return ()
        return endpoints_of(self.catalogue, self.listener, hints)


class _Slot:
    """One partition's part of the reply; called with what became of its batch."""

    __slots__ = ("group", "part", "reply", "result", "start_offset")

    def __init__(self, reply: "_Reply", part: ProducePartition) -> None:
        self.reply = reply
        self.part = part
        self.start_offset = -1
        self.group: PartitionId | None = None
        self.result: ProducedPartition | None = None

    def __call__(self, error: ErrorCode, base_offset: int) -> None:
        index = self.part.index
        if error is ErrorCode.NONE:
            self.result = ProducedPartition(index, error, base_offset, -1, self.start_offset)
        elif error is ErrorCode.NOT_LEADER_OR_FOLLOWER:
            hint = self.reply.redirect.hint(self.group)
            self.result = ProducedPartition(index, error, leader=hint)
        else:
            self.result = ProducedPartition(index, error)
        self.reply.decided()

    def fail(self, error: RequestError) -> None:
        """The batch was not taken."""
        if self.reply.acks == 0:
            raise ProtocolViolation(f"a batch that wants no reply failed: {error.code.name}")
        self.result = ProducedPartition(
            self.part.index,
            error.code,
            message=str(error),
            leader=error.hint if isinstance(error, NotLeader) else None,
        )
        self.reply.decided()


class _Reply:
    """Gathers the parts and resolves the response when all are there."""

    __slots__ = ("_authorized", "_pending", "_undecided", "acks", "redirect", "slots")

    def __init__(self, authorized: Authorized[Produce], redirect: _Redirect) -> None:
        self.redirect = redirect
        self._authorized = authorized
        self._pending = Pending()
        self._undecided = 1  # the request itself, until everything is proposed
        self.acks = authorized.request.acks
        self.slots: list[_Slot] = []

    @property
    def topics(self) -> tuple[ProduceTopic, ...]:
        """What is to be written."""
        return self._authorized.request.topics

    def slot(self, part: ProducePartition) -> _Slot:
        """Expects one part more."""
        slot = _Slot(self, part)
        self.slots.append(slot)
        self._undecided += 1
        return slot

    def decided(self) -> None:
        """One part more is known."""
        self._undecided -= 1
        if self._undecided == 0 and self.acks != 0:
            self._pending.resolve(self._response())

    def proposed(self) -> Pending | None:
        """Everything is under way: the response from here on waits for its parts only."""
        self.decided()
        return self._pending if self.acks != 0 else None

    def _response(self) -> ProduceResult:
        authorized = self._authorized
        slots = self.slots
        whole = len(authorized.asked.topics) == len(slots) == 1
        if whole and slots[0].result is not None and not authorized.refused:
            # By far the most requests are this one; what follows would come to the same.
            topic = authorized.request.topics[0]
            only = ProducedTopic(topic.name, (slots[0].result,), topic.topic_id)
            return ProduceResult((only,), endpoints=self.redirect.endpoints(slots))
        decided = iter(slots)
        results = [
            ProducedTopic(
                topic.name,
                tuple(
                    slot.result or ProducedPartition(part.index, ErrorCode.UNKNOWN_SERVER_ERROR)
                    for part, slot in zip(topic.partitions, decided, strict=False)
                ),
                topic.topic_id,
            )
            for topic in authorized.request.topics
        ]
        asked, granted = authorized.asked.topics, authorized.request.topics
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        return ProduceResult(
            in_order_or_by_id(asked, granted, codes, results, _refused),
            endpoints=self.redirect.endpoints(slots),
        )


def _refused(topic: ProduceTopic, code: ErrorCode) -> ProducedTopic:
    return ProducedTopic(
        topic.name,
        tuple(ProducedPartition(part.index, code) for part in topic.partitions),
        topic.topic_id,
    )
