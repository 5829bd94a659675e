"""OffsetForLeaderEpoch: where a leader's epoch ended; a reader finds where its log went astray."""

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.handlers.order import in_order
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError
from appliance.types import TopicName
from appliance.wire.requests import (
    EndOfEpoch,
    EndsOfTopic,
    EpochPartition,
    EpochTopic,
    OffsetForLeaderEpoch,
    OffsetForLeaderEpochResult,
)


class OffsetForLeaderEpochHandler:
    """Looks ends of epochs up (KIP-101, KIP-279, KIP-320)."""

    request = OffsetForLeaderEpoch

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def refuse(self, request: OffsetForLeaderEpoch, code: ErrorCode) -> OffsetForLeaderEpochResult:
        """Every partition refused."""
        return OffsetForLeaderEpochResult(tuple(_refused(topic, code) for topic in request.topics))

    async def handle(
        self, _: Caller, authorized: Authorized[OffsetForLeaderEpoch]
    ) -> OffsetForLeaderEpochResult:
        """One answer a partition."""
        results = []
        for topic in authorized.request.topics:
            parts = [await self._find(topic.name, part) for part in topic.partitions]
            results.append(EndsOfTopic(topic.name, tuple(parts)))
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        return OffsetForLeaderEpochResult(
            in_order(authorized.asked.topics, codes, results, _refused)
        )

    async def _find(self, topic: TopicName, part: EpochPartition) -> EndOfEpoch:
        try:
            partition = await self._topics.partition(topic, part.index)
            partition.check_epoch(part.current_leader_epoch)
        except RequestError as error:
            return EndOfEpoch(part.index, error.code)
        epoch, end = partition.end_of_epoch(part.leader_epoch)
        return EndOfEpoch(part.index, ErrorCode.NONE, epoch, end)


def _refused(topic: EpochTopic, code: ErrorCode) -> EndsOfTopic:
    return EndsOfTopic(topic.name, tuple(EndOfEpoch(part.index, code) for part in topic.partitions))
