"""What happens when a log cannot be read any more, or a write or sync of it has failed.

Rules (DESIGN sections 5 and 8): a damaged leader hands over first, while it still serves what it
can read. Then the log is closed, cut before its damage and opened again: it is short, campaigns for
nothing and votes for nobody who holds less than it once did, and its leader sends what is missing.
After a failed sync the file that it was of goes whole, because what is read back proves nothing. A
log that nobody else holds is left as it is: it waits for an administrator.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import structlog
import trio

from appliance.broker.foundation import Foundation
from appliance.broker.replica import Replica
from appliance.broker.steward import Steward
from appliance.broker.topics import Topics
from appliance.errors import KeyProviderError, StorageError
from appliance.raft.ready import Refused, Role
from appliance.types import PartitionId

HANDOVER_S = 1.0
"""For another member to take over from one whose log is damaged."""
REST_S = 5.0
"""Before the same log is looked through again in which nothing was found."""

log = structlog.get_logger()


class Holder(Protocol):
    """Who holds an internal log."""

    async def repair(self, *, distrusted: bool) -> bool:
        """See `Topics.repair`."""
        ...


class Repair:
    """One node's damaged logs."""

    def __init__(
        self,
        foundation: Foundation,
        topics: Topics,
        steward: Steward,
        internal: Mapping[PartitionId, Holder],
    ) -> None:
        """Is told of damage by replicas and by the scrubber."""
        self._foundation = foundation
        self._topics = topics
        self._steward = steward
        self._internal = internal
        self._under_way: set[PartitionId] = set()

    def found(self, group: PartitionId, distrusted: bool) -> None:
        """A log cannot be read, or, distrusted, a write or sync of it failed."""
        replica = self._foundation.consensus.replica(group)
        if replica is None or group in self._under_way:
            return
        if len(replica.configuration.members) < 2:
            log.error("a log is damaged that no other node holds: it is left as it is",
                      partition=str(group))  # fmt: skip
            return
        self._under_way.add(group)
        self._foundation.nursery.start_soon(self._repair, replica, distrusted)

    async def _repair(self, replica: Replica[object], distrusted: bool) -> None:
        group = replica.partition
        log.warning("a log is damaged: it is cut, and filled by its other members",
                    partition=str(group), failed=distrusted)  # fmt: skip
        try:
            with trio.move_on_after(HANDOVER_S):
                await self._hand_over(replica)
            if not await self._cut(group, distrusted=distrusted):
                await trio.sleep(REST_S)
        except (StorageError, KeyProviderError) as error:
            log.warning("a damaged log cannot be cut", partition=str(group), reason=str(error))
            await trio.sleep(REST_S)
        finally:
            self._under_way.discard(group)

    async def _cut(self, group: PartitionId, *, distrusted: bool) -> bool:
        holder = self._internal.get(group)
        if holder is not None:
            return await holder.repair(distrusted=distrusted)
        return await self._topics.repair(group, distrusted=distrusted)

    async def _hand_over(self, replica: Replica[object]) -> None:
        """Returns when this node does not lead the group."""
        while replica.role is Role.LEADER and not replica.closed:
            successor = self._steward.best_successor(replica)
            if successor is not None:
                with suppress(Refused):
                    replica.hand_over(successor)
            await trio.sleep(0.02)
