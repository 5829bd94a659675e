"""DescribeLogDirs: how much each partition holds on this node.

Rules: of a directory nothing is told but that it is one: a path is of no use to a client and of
some to an intruder.
"""

from collections.abc import Iterator

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.topics import LiveTopic, Topics
from appliance.errors import ErrorCode, RequestError
from appliance.types import PartitionIndex, TopicName
from appliance.wire.requests import (
    DescribeLogDirs,
    DescribeLogDirsResult,
    LogDir,
    PartitionSize,
    SizedTopic,
)

_DIRECTORY = "data"


class DescribeLogDirsHandler:
    """Tells sizes of committed batches, and how far the log reaches beyond them."""

    request = DescribeLogDirs

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def refuse(self, _: DescribeLogDirs, code: ErrorCode) -> DescribeLogDirsResult:
        """Says why not."""
        return DescribeLogDirsResult(error=code)

    async def handle(
        self, _: Caller, authorized: Authorized[DescribeLogDirs]
    ) -> DescribeLogDirsResult:
        """The one directory; what is not there is left out, as Kafka does."""
        topics = []
        for name, indexes in self._asked(authorized.request):
            live = self._topics.find(name)
            if live is None:
                continue
            parts = [await self._size(live, index) for index in indexes or _all(live)]
            topics.append(SizedTopic(name, tuple(part for part in parts if part is not None)))
        return DescribeLogDirsResult((LogDir(_DIRECTORY, tuple(topics)),))

    def _asked(
        self, request: DescribeLogDirs
    ) -> Iterator[tuple[TopicName, tuple[PartitionIndex, ...]]]:
        if request.topics is None:
            for name in self._topics.names():
                yield name, ()
            return
        for topic in request.topics:
            if topic.partitions:
                yield topic.name, topic.partitions

    async def _size(self, live: LiveTopic, index: PartitionIndex) -> PartitionSize | None:
        try:
            partition = await self._topics.partition(live.topic.name, index, live.topic.topic)
        except RequestError:
            return None
        return PartitionSize(index, partition.size_bytes)


def _all(live: LiveTopic) -> tuple[PartitionIndex, ...]:
    return tuple(PartitionIndex(index) for index in range(len(live.partitions)))
