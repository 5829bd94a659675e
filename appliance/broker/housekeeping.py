"""Keeping the partitions of this node within their retention, now and then.

Rules: a pass looks at one partition after the other and lets others run in between; what fails for
one is said and does not hold up the next. What a pass decides is proposed to the partition's group,
and takes effect where it is committed; files go after that.
"""

import structlog
import trio

from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError, StorageError
from appliance.limits import HOUSEKEEPING_S
from appliance.ports import Clock
from appliance.types import PartitionIndex

log = structlog.get_logger()

_QUIET = {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.NOT_LEADER_OR_FOLLOWER}
"""Nothing to do here: deleted meanwhile, or led elsewhere."""


class Housekeeper:
    """Looks at every partition every HOUSEKEEPING_S (Kafka's log.retention.check.interval.ms)."""

    def __init__(self, topics: Topics, clock: Clock) -> None:
        self._topics = topics
        self._clock = clock
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def run(self) -> None:
        """Until `close`."""
        try:
            with self._scope:
                while True:
                    await trio.sleep(HOUSEKEEPING_S)
                    await self.pass_once()
        finally:
            self._ended.set()

    async def close(self) -> None:
        """Ends the pass that is under way, where it can be ended, and begins no other."""
        self._scope.cancel()
        await self._ended.wait()

    async def pass_once(self) -> None:
        """Looks at every partition once."""
        for name in self._topics.names():
            live = self._topics.find(name)
            for index in range(len(live.partitions) if live is not None else 0):
                try:
                    partition = live.partitions[index] if live is not None else None
                    if partition is None:
                        partition = await self._topics.partition(name, PartitionIndex(index))
                    if live is not None:
                        await partition.keep_house(live.settings, self._clock.now_ms())
                except RequestError as error:
                    if error.code not in _QUIET:
                        log.warning("partition cannot be kept within its retention",
                                    index=index, reason=str(error))  # fmt: skip
                except StorageError as error:
                    log.warning("files of a partition cannot be removed",
                                index=index, reason=str(error))  # fmt: skip
                await trio.lowlevel.checkpoint()
