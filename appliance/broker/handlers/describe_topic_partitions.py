"""DescribeTopicPartitions: topics by name, no more than so many partitions at once (KIP-966)."""

from collections.abc import Iterator

import msgspec

from appliance.authz.actions import Resource, ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.operations import operations_on
from appliance.broker.placement import Placement
from appliance.broker.told import told_of
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode
from appliance.limits import MAX_DESCRIBED_PARTITIONS
from appliance.types import TopicName
from appliance.wire.requests import (
    Cursor,
    DescribeTopicPartitions,
    DescribeTopicPartitionsResult,
    TopicMetadata,
)


class DescribeTopicPartitionsHandler:
    """Answers page by page, in the order of names."""

    request = DescribeTopicPartitions

    def __init__(self, topics: Topics, placement: Placement) -> None:
        self._topics = topics
        self._placement = placement

    def refuse(
        self, request: DescribeTopicPartitions, code: ErrorCode
    ) -> DescribeTopicPartitionsResult:
        """Every topic refused."""
        return DescribeTopicPartitionsResult(
            tuple(TopicMetadata(name, code) for name in request.topics)
        )

    async def handle(
        self, _: Caller, authorized: Authorized[DescribeTopicPartitions]
    ) -> DescribeTopicPartitionsResult:
        """One page, and where the next begins."""
        request = authorized.request
        left = min(max(request.partition_limit, 1), MAX_DESCRIBED_PARTITIONS)
        page: list[TopicMetadata] = []
        for topic, first in self._from(authorized, request.cursor):
            parts = topic.partitions[first : first + left]
            if left == 0 or len(parts) < len(topic.partitions) - first:
                if parts:
                    page.append(msgspec.structs.replace(topic, partitions=parts))
                name = topic.name or TopicName("")
                return DescribeTopicPartitionsResult(tuple(page), Cursor(name, first + len(parts)))
            page.append(msgspec.structs.replace(topic, partitions=parts))
            left -= len(parts)
        return DescribeTopicPartitionsResult(tuple(page))

    def _from(
        self, authorized: Authorized[DescribeTopicPartitions], cursor: Cursor | None
    ) -> Iterator[tuple[TopicMetadata, int]]:
        """Each topic from the cursor on, and its first partition that is told."""
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        everything = not authorized.asked.topics
        for name in sorted({*authorized.request.topics, *codes}):
            if cursor is not None and name < cursor.topic:
                continue
            first = max(cursor.partition, 0) if cursor and name == cursor.topic else 0
            if name in codes:
                yield TopicMetadata(TopicName(name), codes[name]), 0
                continue
            live = self._topics.find(TopicName(name))
            if live is not None:
                allowed = operations_on(authorized, Resource(ResourceKind.TOPIC, name))
                told = told_of(live, self._placement)
                yield msgspec.structs.replace(told, operations=allowed), first
            elif not everything:
                yield TopicMetadata(TopicName(name), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), 0
