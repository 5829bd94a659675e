"""ListOffsets: offsets by time, or the first, the next and that of the largest time."""

from collections import Counter

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.handlers.order import in_order
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError
from appliance.types import TopicName
from appliance.wire.requests import (
    ListedOffset,
    ListedOffsetsTopic,
    ListOffsets,
    ListOffsetsPartition,
    ListOffsetsResult,
    ListOffsetsTopic,
)


class ListOffsetsHandler:
    """Looks offsets up; without transactions both isolation levels see the same."""

    request = ListOffsets

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def refuse(self, request: ListOffsets, code: ErrorCode) -> ListOffsetsResult:
        """Every partition refused."""
        return ListOffsetsResult(tuple(_refused(topic, code) for topic in request.topics))

    async def handle(self, _: Caller, authorized: Authorized[ListOffsets]) -> ListOffsetsResult:
        """One answer a partition; one that is named twice is refused both times."""
        topics = authorized.request.topics
        times = Counter((topic.name, part.index) for topic in topics for part in topic.partitions)
        results = []
        for topic in topics:
            parts = [
                ListedOffset(part.index, ErrorCode.INVALID_REQUEST)
                if times[topic.name, part.index] > 1
                else await self._find(topic.name, part)
                for part in topic.partitions
            ]
            results.append(ListedOffsetsTopic(topic.name, tuple(parts)))
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        return ListOffsetsResult(in_order(authorized.asked.topics, codes, results, _refused))

    async def _find(self, topic: TopicName, part: ListOffsetsPartition) -> ListedOffset:
        try:
            partition = await self._topics.partition(topic, part.index)
            partition.check_epoch(part.current_leader_epoch)
            timestamp_ms, offset = await partition.find(part.timestamp_ms)
        except RequestError as error:
            return ListedOffset(part.index, error.code)
        epoch = partition.leader_epoch if offset >= 0 else -1
        return ListedOffset(part.index, ErrorCode.NONE, timestamp_ms, offset, epoch)


def _refused(topic: ListOffsetsTopic, code: ErrorCode) -> ListedOffsetsTopic:
    return ListedOffsetsTopic(
        topic.name, tuple(ListedOffset(part.index, code) for part in topic.partitions)
    )
