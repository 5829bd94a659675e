"""Backpressure: who proposes waits until what waits to be decided leaves room for more."""

from collections.abc import Callable
from typing import Final

import trio

from appliance.limits import MAX_BATCH_BYTES, MAX_STAGED_BYTES

STAGING_BYTES: Final = MAX_STAGED_BYTES - MAX_BATCH_BYTES
"""Where it begins: well before the log itself would refuse an entry."""


class Room:
    """That of one replica; whoever waits is woken by `changed`, and nobody else costs a thing."""

    __slots__ = ("_changed", "_waiting", "_waiting_bytes")

    def __init__(self, waiting_bytes: Callable[[], int]) -> None:
        """`waiting_bytes` is of entries whose proposers wait, 0 when nobody does."""
        self._waiting_bytes = waiting_bytes
        self._waiting = 0
        self._changed = trio.Event()

    def has(self, size_bytes: int) -> bool:
        """Whether a payload may be proposed now; if nobody waits, any may."""
        waiting_bytes = self._waiting_bytes()
        return not waiting_bytes or waiting_bytes + size_bytes <= STAGING_BYTES

    async def wait(self, size_bytes: int) -> None:
        """Returns when a payload of this size may be proposed."""
        await self.wait_until(lambda: self.has(size_bytes))

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns when something else is so, which only ever changes with what waits."""
        self._waiting += 1
        try:
            while not condition():
                await self._changed.wait()
        finally:
            self._waiting -= 1

    def changed(self) -> None:
        """Has everyone look again."""
        if self._waiting:
            self._changed.set()
            self._changed = trio.Event()
