"""DescribeLogDirs: how much each partition holds on this node, led here or elsewhere.

Rules: of a directory nothing is told but that it is one: a path is of no use to a client and of
some to an intruder. Nothing is waited for but logs that are closed: they are opened side by side.
"""

from collections.abc import Iterator

import trio

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.topics import LiveTopic, Topics
from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_OPENED_AT_ONCE
from appliance.types import PartitionIndex, TopicName
from appliance.wire.requests import (
    DescribeLogDirs,
    DescribeLogDirsResult,
    LogDir,
    PartitionSize,
    SizedTopic,
)

_DIRECTORY = "data"
_Place = tuple[LiveTopic, PartitionIndex]


class DescribeLogDirsHandler:
    """Tells the sizes of files."""

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
        asked = [
            (live, indexes or _all(live))
            for name, indexes in self._asked(authorized.request)
            if (live := self._topics.find(name)) is not None
        ]
        sizes = await self._sizes([(live, index) for live, indexes in asked for index in indexes])
        found = iter(sizes)
        topics = tuple(
            SizedTopic(
                live.topic.name,
                tuple(
                    PartitionSize(index, size)
                    for index, size in zip(indexes, found, strict=False)
                    if size is not None
                ),
            )
            for live, indexes in asked
        )
        return DescribeLogDirsResult((LogDir(_DIRECTORY, topics),))

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

    async def _sizes(self, places: list[_Place]) -> list[int | None]:
        """Each place's size, several at once; None of what is not here, or cannot be opened."""
        sizes: list[int | None] = [None] * len(places)
        numbered = enumerate(places)

        async def work() -> None:
            for number, (live, index) in numbered:
                try:
                    sizes[number] = await self._topics.size_here(live, index)
                except RequestError:
                    continue
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(min(MAX_OPENED_AT_ONCE, len(places))):
                nursery.start_soon(work)
        return sizes


def _all(live: LiveTopic) -> tuple[PartitionIndex, ...]:
    return tuple(PartitionIndex(index) for index in range(len(live.partitions)))
