"""What this node is to open or to give up, done in the background, a few groups at once.

Rules: what is wanted again while it waits is done once. What cannot be done for the moment is tried
again later, and holds up nothing meanwhile.
"""

from collections.abc import Awaitable, Callable

import trio

from appliance.limits import MAX_OPENED_AT_ONCE
from appliance.types import PartitionId

REOPEN_S = 5.0
"""Before a log is tried again whose files or keys could not be had."""


class Settling:
    """A queue of groups, and those who work on it."""

    def __init__(
        self, nursery: trio.Nursery, settle: Callable[[PartitionId], Awaitable[bool]]
    ) -> None:
        """`settle` does what is to be done for a group now; False if that is to be tried again."""
        self._nursery = nursery
        self._settle = settle
        self._waiting: dict[PartitionId, None] = {}
        self._workers = 0
        self._rested = trio.Event()
        self._closed = False

    def want(self, group: PartitionId) -> None:
        """Has a group settled soon."""
        if self._closed:
            return
        self._waiting[group] = None
        if self._workers < MAX_OPENED_AT_ONCE:
            self._workers += 1
            self._nursery.start_soon(self._work)

    async def settled(self) -> None:
        """Returns once all that was wanted has been done, or tried."""
        while self._workers:
            await self._rested.wait()

    def close(self) -> None:
        """Begins with nothing more."""
        self._closed = True
        self._waiting.clear()

    async def _work(self) -> None:
        try:
            while self._waiting:
                group = next(iter(self._waiting))
                del self._waiting[group]
                if not await self._settle(group):
                    self._nursery.start_soon(self._want_later, group)
        finally:
            self._workers -= 1
            if not self._workers:
                self._rested.set()
                self._rested = trio.Event()

    async def _want_later(self, group: PartitionId) -> None:
        await trio.sleep(REOPEN_S)
        self.want(group)
