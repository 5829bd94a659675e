"""The answer to Produce: what became of each batch, gathered until the last is decided.

Rules: a reply is resolved once, when everything is decided. A request that writes one batch, as
nearly all do, has its slot and its reply in one object. Who no longer leads says who does, where it
knows (KIP-951).
"""

from collections.abc import Iterable

import msgspec

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.catalogue import Catalogue
from appliance.broker.handlers.order import in_order_or_by_id
from appliance.broker.pending import Pending
from appliance.broker.placement import Placement
from appliance.broker.redirect import NotLeader, endpoints_of, hint_of
from appliance.broker.refusals import Refusals
from appliance.errors import ErrorCode, ProtocolViolation, RequestError
from appliance.types import PartitionId
from appliance.wire.requests import (
    Broker,
    Produce,
    ProducedPartition,
    ProducedTopic,
    ProducePartition,
    ProduceResult,
    ProduceTopic,
)


class Unwritten(msgspec.Struct, frozen=True, gc=False):
    """What becomes of batches that are not written: the client is told, and the node remembers."""

    listener: str
    catalogue: Catalogue
    placement: Placement
    refusals: Refusals

    def not_taken(
        self, topic: ProduceTopic, part: ProducePartition, error: RequestError
    ) -> ProducedPartition:
        """What is said of a batch that was refused."""
        self.refusals.remember(topic.name, part, error)
        hint = error.hint if isinstance(error, NotLeader) else None
        return ProducedPartition(part.index, error.code, message=str(error), leader=hint)

    def given_up(
        self,
        topic: ProduceTopic,
        part: ProducePartition,
        error: ErrorCode,
        group: PartitionId | None,
    ) -> ProducedPartition:
        """What is said of a batch that was taken, and is not known to be written.

        This node may lead again before what was sent behind it is here, and miss it then.
        """
        unknown = RequestError(error, "not known to be written")
        self.refusals.remember(topic.name, part, unknown)
        hint = None
        if group is not None and error is ErrorCode.NOT_LEADER_OR_FOLLOWER:
            hint = hint_of(self.placement.leader(group))
        return ProducedPartition(part.index, error, leader=hint)

    def endpoints(self, results: Iterable[ProducedPartition]) -> tuple[Broker, ...]:
        """Where the leaders that results name are reached."""
        hints = [result.leader for result in results]
        if not any(hints):
            return ()
        return endpoints_of(self.catalogue, self.listener, hints)


class SoleReply(Pending):
    """The reply to a request that writes one batch; called with what became of it."""

    __slots__ = ("_part", "_topic", "_unwritten", "group", "start_offset")

    def __init__(self, topic: ProduceTopic, part: ProducePartition, unwritten: Unwritten) -> None:
        super().__init__()
        self._topic = topic
        self._part = part
        self._unwritten = unwritten
        self.start_offset = -1
        self.group: PartitionId | None = None

    def __call__(self, error: ErrorCode, base_offset: int) -> None:
        """See `broker.partition.Done`."""
        if error is ErrorCode.NONE:
            self._answer(
                ProducedPartition(self._part.index, error, base_offset, -1, self.start_offset)
            )
        else:
            self._answer(self._unwritten.given_up(self._topic, self._part, error, self.group))

    def fail(self, error: RequestError) -> None:
        """The batch was not taken."""
        self._answer(self._unwritten.not_taken(self._topic, self._part, error))

    def _answer(self, part: ProducedPartition) -> None:
        topic = self._topic
        endpoints = () if part.leader is None else self._unwritten.endpoints((part,))
        self.resolve(
            ProduceResult((ProducedTopic(topic.name, (part,), topic.topic_id),), 0, endpoints)
        )


class Slot:
    """One partition's part of the reply; called with what became of its batch."""

    __slots__ = ("group", "part", "reply", "result", "start_offset", "topic")

    def __init__(self, reply: "Reply", topic: ProduceTopic, part: ProducePartition) -> None:
        self.reply = reply
        self.topic = topic
        self.part = part
        self.start_offset = -1
        self.group: PartitionId | None = None
        self.result: ProducedPartition | None = None

    def __call__(self, error: ErrorCode, base_offset: int) -> None:
        """See `broker.partition.Done`."""
        if error is ErrorCode.NONE:
            index = self.part.index
            self.result = ProducedPartition(index, error, base_offset, -1, self.start_offset)
        else:
            self.result = self.reply.unwritten.given_up(self.topic, self.part, error, self.group)
        self.reply.decided()

    def fail(self, error: RequestError) -> None:
        """The batch was not taken."""
        self.result = self.reply.unwritten.not_taken(self.topic, self.part, error)
        if self.reply.acks == 0:
            raise ProtocolViolation(f"a batch that wants no reply failed: {error.code.name}")
        self.reply.decided()


class Reply:
    """Gathers the parts and resolves the response when all are there."""

    __slots__ = ("_authorized", "_pending", "_undecided", "acks", "slots", "unwritten")

    def __init__(self, authorized: Authorized[Produce], unwritten: Unwritten) -> None:
        self.unwritten = unwritten
        self._authorized = authorized
        self._pending = Pending()
        self._undecided = 1  # the request itself, until everything is proposed
        self.acks = authorized.request.acks
        self.slots: list[Slot] = []

    @property
    def topics(self) -> tuple[ProduceTopic, ...]:
        """What is to be written."""
        return self._authorized.request.topics

    def slot(self, topic: ProduceTopic, part: ProducePartition) -> Slot:
        """Expects one part more."""
        slot = Slot(self, topic, part)
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
            in_order_or_by_id(asked, granted, codes, results, refused),
            endpoints=self.unwritten.endpoints(slot.result for slot in slots if slot.result),
        )


def refused(topic: ProduceTopic, code: ErrorCode) -> ProducedTopic:
    """What is said of a topic that the gate refused."""
    return ProducedTopic(
        topic.name,
        tuple(ProducedPartition(part.index, code) for part in topic.partitions),
        topic.topic_id,
    )
