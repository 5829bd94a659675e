"""Produce: batches are checked and proposed at once; the reply follows when they are durable.

Rules: everything that may wait (opening a partition, room in its log) comes first; then all batches
of the request are proposed without a checkpoint between, so that requests of one connection keep
their order. acks 1 is answered like acks -1 (DESIGN section 4). acks 0 has no reply; its errors
close the connection, as Kafka's do.
"""

from collections.abc import Sequence

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.handlers.produce_reply import Reply, Slot, SoleReply, Unwritten, refused
from appliance.broker.opening import with_records_of
from appliance.broker.partition import Partition
from appliance.broker.pending import Pending
from appliance.broker.placement import Placement
from appliance.broker.refusals import Refusals
from appliance.broker.topic_settings import TopicSettings
from appliance.broker.topics import LiveTopic, Topics
from appliance.broker.withheld import Wanted
from appliance.errors import ErrorCode, ProtocolViolation, RequestError
from appliance.ports import Clock
from appliance.types import TopicName
from appliance.wire.kafka.records import Record, check_produced
from appliance.wire.requests import Produce, ProducePartition, ProduceResult, ProduceTopic

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
        self._refusals = Refusals()

    def refuse(self, request: Produce, code: ErrorCode) -> ProduceResult:
        """Every partition refused; with acks 0 raises ProtocolViolation.

        What was sent behind these batches is refused alike, whoever refused them.
        """
        if request.acks == 0:
            raise ProtocolViolation(f"refused a produce that wants no reply: {code.name}")
        error = RequestError(code, "refused as a whole")
        for topic in request.topics:
            for part in topic.partitions:
                self._refusals.remember(self._name(topic), part, error)
        return ProduceResult(tuple(refused(topic, code) for topic in request.topics))

    def _name(self, topic: ProduceTopic) -> TopicName:
        """A topic's name, also where it was asked for by its id; empty if nothing has that."""
        named = None if topic.topic_id is None else self._catalogue.name_of(topic.topic_id)
        return topic.name or named or TopicName("")

    async def handle(self, caller: Caller, authorized: Authorized[Produce]) -> Pending | None:
        """Proposes each granted batch; the reply is resolved when the last is decided."""
        request = authorized.request
        if request.acks not in _ACKS:
            raise RequestError(ErrorCode.INVALID_REQUIRED_ACKS, "acks are -1, 0 or 1")
        if request.transactional_id is not None:
            raise RequestError(ErrorCode.INVALID_TXN_STATE, "transactions are not served")
        if request.acks == 0 and len(authorized.asked.topics) != len(request.topics):
            raise ProtocolViolation("refused a produce that wants no reply: topics")
        sole = self._propose_sole(caller, authorized)
        if sole is not None:
            return sole
        targets: list[_Target | RequestError] = []
        for topic in request.topics:
            live = self._topics.find(topic.name, topic.topic_id)
            for part in topic.partitions:
                target = _target_at_once(live, part)
                targets.append(target or await self._target(topic, part))
        return await self._propose_all(request, Reply(authorized, self._unwritten(caller)), targets)

    def _wanted(self, request: Produce, target: _Target) -> Wanted | None:
        """How many replicas have to hold a batch, if it is more than the majority that always do.

        Raises RequestError(NOT_ENOUGH_REPLICAS) if so many are not there.
        """
        settings, partition = target
        if settings.min_in_sync == 1 or request.acks != -1:
            return None
        group = partition.replica.partition
        if len(self._placement.in_sync(group)) < settings.min_in_sync:
            raise RequestError(
                ErrorCode.NOT_ENOUGH_REPLICAS, f"{settings.min_in_sync} replicas are not there"
            )
        if settings.min_in_sync <= len(partition.replica.configuration.voters) // 2 + 1:
            return None
        return Wanted(settings.min_in_sync, max(request.timeout_ms, 0) / 1000)

    def _propose_sole(self, caller: Caller, authorized: Authorized[Produce]) -> SoleReply | None:
        """Proposes what is one batch, if nothing needs to be waited for; None if this is not it.

        Nor is what seems to be out of order: whether this node still leads is to be asked first.
        """
        request = authorized.request
        if request is not authorized.asked or request.acks == 0 or len(request.topics) != 1:
            return None
        (topic,) = request.topics
        if len(topic.partitions) != 1:
            return None
        (part,) = topic.partitions
        target = _target_at_once(self._topics.find(topic.name, topic.topic_id), part)
        if target is None:
            return None
        reply = SoleReply(topic, part, self._unwritten(caller))
        try:
            self._propose(request, target, topic, part, reply)
        except RequestError as error:
            if error.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER:
                return None
            reply.fail(error)
        return reply

    def _unwritten(self, caller: Caller) -> Unwritten:
        return Unwritten(caller.listener, self._catalogue, self._placement, self._refusals)

    async def _target(self, topic: ProduceTopic, part: ProducePartition) -> _Target | RequestError:
        """Opens the partition and waits for room, or says why the batch cannot be taken."""
        try:
            partition = await self._topics.partition(topic.name, part.index, topic.topic_id)
            if partition.replica.leaving:
                # A client that is refused now asks this node again; told of its successor, that.
                await partition.replica.handed_over()
                partition = await self._topics.partition(topic.name, part.index, topic.topic_id)
        except RequestError as error:
            return error
        if part.batch is None:
            return RequestError(ErrorCode.INVALID_RECORD, "there is no batch")
        if _needs_keys(self._topics.find(topic.name, topic.topic_id)):
            try:
                await with_records_of(part.batch, _check_keys, stored=False)
            except RequestError as error:
                return error
        await partition.replica.room.wait(len(part.batch))
        live = self._topics.find(topic.name, topic.topic_id)
        if live is None:
            return RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the topic was deleted")
        return live.settings, partition

    async def _propose_all(
        self, request: Produce, reply: Reply, targets: Sequence[_Target | RequestError]
    ) -> Pending | None:
        following = iter(targets)
        for topic in reply.topics:
            for part in topic.partitions:
                slot = reply.slot(topic, part)
                target = next(following)
                try:
                    if isinstance(target, RequestError):
                        raise target
                    self._propose(request, target, topic, part, slot)
                except RequestError as error:
                    slot.fail(await _confirmed(error, target))
        return reply.proposed()

    def _propose(
        self,
        request: Produce,
        target: _Target,
        topic: ProduceTopic,
        part: ProducePartition,
        slot: Slot | SoleReply,
    ) -> None:
        now_ms = self._clock.now_ms()
        wanted = self._wanted(request, target)
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
        if self._refusals:
            self._refusals.check(topic.name, part.index, header, partition.expected(header))
        partition.append(batch, header, slot, now_ms, wanted)


def _target_at_once(live: LiveTopic | None, part: ProducePartition) -> _Target | None:
    """Where the batch goes, if nothing needs to be waited for."""
    if live is None or part.batch is None or not 0 <= part.index < len(live.partitions):
        return None
    partition = live.partitions[part.index]
    if partition is None or _needs_keys(live):
        return None
    replica = partition.replica
    if not replica.serving or replica.leaving or not replica.room.has(len(part.batch)):
        return None
    return live.settings, partition


async def _confirmed(error: RequestError, target: _Target | RequestError) -> RequestError:
    """What is said of a refused batch: that it is out of order once a quorum has confirmed it.

    A leader that was cut off does not know what its successor took, and librdkafka answers that
    error with a new epoch, in which it writes again what it has no answer for.
    """
    if isinstance(target, RequestError) or (
        error.code is not ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    ):
        return error
    _, partition = target
    try:
        await partition.replica.confirm()
    except RequestError as elsewhere:
        return elsewhere
    return error


def _needs_keys(live: LiveTopic | None) -> bool:
    """Whether records are looked into, because a compacted topic takes none without a key."""
    return live is not None and live.settings.compacts


def _check_keys(records: list[Record]) -> None:
    """Raises RequestError(INVALID_RECORD) if a record has no key; runs off the loop."""
    if any(record.key is None for record in records):
        raise RequestError(
            ErrorCode.INVALID_RECORD, "a compacted topic takes no record without a key"
        )
