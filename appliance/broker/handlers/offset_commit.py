"""OffsetCommit: a group's offsets, answered when they are durable."""

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.coordinator import Coordinator
from appliance.broker.handlers.order import in_order_or_by_id
from appliance.broker.topics import Topics
from appliance.coordination.group_messages import Claim, StoredOffset
from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_OFFSET_METADATA_BYTES
from appliance.ports import Clock
from appliance.types import PartitionIndex
from appliance.wire.requests import (
    CommitPartition,
    CommittedTopic,
    CommitTopic,
    OffsetCommit,
    OffsetCommitResult,
)


class OffsetCommitHandler:
    """Stores offsets under the topic's id, so that a namesake begins without any."""

    request = OffsetCommit

    def __init__(self, topics: Topics, coordinator: Coordinator, clock: Clock) -> None:
        self._topics = topics
        self._coordinator = coordinator
        self._clock = clock

    def refuse(self, request: OffsetCommit, code: ErrorCode) -> OffsetCommitResult:
        """Every partition refused."""
        return OffsetCommitResult(tuple(_refused(topic, code) for topic in request.topics))

    async def handle(self, _: Caller, authorized: Authorized[OffsetCommit]) -> OffsetCommitResult:
        """Commits what can be in one command."""
        request = authorized.request
        error = self._coordinator.may_commit(
            Claim(
                request.group, request.member_id, request.group_instance_id, request.generation_id
            )
        )
        if error is not ErrorCode.NONE:
            raise RequestError(error, "the group does not take offsets from this member now")
        stored: list[StoredOffset] = []
        results = [self._take(topic, stored) for topic in request.topics]
        if stored:
            await self._coordinator.commit(request.group, tuple(stored))
        asked, granted = authorized.asked.topics, request.topics
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        return OffsetCommitResult(in_order_or_by_id(asked, granted, codes, results, _refused))

    def _take(self, topic: CommitTopic, stored: list[StoredOffset]) -> CommittedTopic:
        live = self._topics.find(topic.name, topic.topic_id)
        errors: list[tuple[PartitionIndex, ErrorCode]] = []
        for part in topic.partitions:
            if live is None or not 0 <= part.index < len(live.partitions):
                error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                error = _fault(part)
            if error is ErrorCode.NONE and live is not None:
                stored.append(
                    StoredOffset(
                        live.topic.topic,
                        part.index,
                        part.offset,
                        part.leader_epoch,
                        part.metadata or "",
                        self._clock.now_ms(),
                    )
                )
            errors.append((part.index, error))
        return CommittedTopic(topic.name, tuple(errors), topic.topic_id)


def _fault(part: CommitPartition) -> ErrorCode:
    if len((part.metadata or "").encode()) > MAX_OFFSET_METADATA_BYTES:
        return ErrorCode.OFFSET_METADATA_TOO_LARGE
    return ErrorCode.NONE if part.offset >= 0 else ErrorCode.INVALID_REQUEST


def _refused(topic: CommitTopic, code: ErrorCode) -> CommittedTopic:
    parts = tuple((part.index, code) for part in topic.partitions)
    return CommittedTopic(topic.name, parts, topic.topic_id)
