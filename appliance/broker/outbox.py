"""What waits to be sent to one node over one of its two connections.

Rules: bounded by bytes; what finds no room is dropped and counted, because consensus sends again
what was lost and a queue that grows helps nobody. Liveness is one value that a newer one replaces,
and it goes first. Whoever writes to the connection takes as much as fills a frame.
"""

from collections import deque
from collections.abc import Callable
from enum import IntEnum

import trio

from appliance.limits import MAX_PEER_QUEUE_BYTES, PEER_FRAME_BYTES
from appliance.types import Buffer


class Channel(IntEnum):
    """Heartbeats never wait behind bulk: each pair of nodes has a connection for either."""

    CONTROL = 0
    BULK = 1


class Outbox:
    """One queue; items are encoded messages."""

    __slots__ = ("_bytes", "_items", "_liveness", "_wanted", "dropped", "open")

    def __init__(self) -> None:
        """Closed until a connection is up: what is said to nobody is not kept."""
        self._items: deque[bytes] = deque()
        self._bytes = 0
        self._liveness: Callable[[], bytes] | None = None
        self._wanted = trio.Event()
        self.open = False
        self.dropped = 0

    def put(self, item: bytes) -> bool:
        """Queues a message; False if it was dropped."""
        if not self.open or self._bytes + len(item) > MAX_PEER_QUEUE_BYTES:
            self.dropped += 1
            return False
        self._items.append(item)
        self._bytes += len(item)
        self._wanted.set()
        return True

    def put_liveness(self, make: Callable[[], bytes]) -> None:
        """Has the next frame begin with liveness, made when it is written."""
        if self.open:
            self._liveness = make
            self._wanted.set()

    def take(self) -> list[Buffer]:
        """The messages of the next frame; empty when nothing waits."""
        taken: list[Buffer] = []
        size = 0
        if self._liveness is not None:
            liveness, self._liveness = self._liveness(), None
            taken.append(liveness)
            size += len(liveness)
        while self._items and (not size or size + len(self._items[0]) <= PEER_FRAME_BYTES):
            item = self._items.popleft()
            taken.append(item)
            size += len(item)
            self._bytes -= len(item)
        return taken

    async def wait(self) -> None:
        """Returns when something waits to be sent."""
        while not self._items and self._liveness is None:
            self._wanted = trio.Event()
            await self._wanted.wait()

    def clear(self) -> None:
        """Forgets the messages that wait: they are sent again if they are still wanted."""
        self._items.clear()
        self._bytes = 0

    def close(self) -> None:
        """Forgets everything: the connection is gone."""
        self.open = False
        self.clear()
        self._liveness = None
