"""Memory budgets: bytes are admitted before they are held, and who finds no room waits its turn.

Beside them stands the time that strangers get, which listeners share in the same way.

Rules (DESIGN section 8): full means waiting, never dropping; first come, first served, so that a
large request is not starved by small ones; what peers need is never lent to clients.
"""

from collections import deque
from typing import Protocol

import trio

from appliance.invariant import invariant
from appliance.limits import (
    CLIENT_REPLY_BUDGET_BYTES,
    CLIENT_REQUEST_BUDGET_BYTES,
    PEER_BUDGET_BYTES,
    STRANGERS_SHARE,
)
from appliance.server.strangers import StrangersTime


class MemoryBudget:
    """A number of bytes that many hold parts of."""

    __slots__ = ("_free", "_waiting", "capacity")

    def __init__(self, capacity: int) -> None:
        """`capacity` bytes, all free."""
        self.capacity = capacity
        self._free = capacity
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    def try_acquire(self, count: int) -> bool:
        """Takes `count` bytes if they are free and nobody waits before the caller."""
        if count > self._free or self._waiting:
            return False
        self._free -= count
        return True

    async def acquire(self, count: int) -> None:
        """Takes `count` bytes, at most the capacity, when it is the caller's turn.

        A checkpoint only if it has to wait.
        """
        invariant(count <= self.capacity, "what a budget is asked for fits into it")
        if self.try_acquire(count):
            return
        turn = (count, trio.Event())
        self._waiting.append(turn)
        try:
            await turn[1].wait()
        except BaseException:
            if turn[1].is_set():
                self.release(count)
            else:
                self._waiting.remove(turn)
                self._admit()
            raise

    def release(self, count: int) -> None:
        """Gives `count` bytes back, to those who wait first."""
        self._free += count
        invariant(self._free <= self.capacity, "a budget gets back what it gave")
        if self._waiting:
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            count, turn = self._waiting.popleft()
            self._free -= count
            turn.set()


class Share(Protocol):
    """What the connections of one listener hold their bytes in."""

    @property
    def requests(self) -> MemoryBudget:
        """For what has arrived."""
        ...

    @property
    def replies(self) -> MemoryBudget:
        """For what is to be sent."""
        ...

    @property
    def strangers(self) -> StrangersTime:
        """For peers that are not known yet."""
        ...


class PeerShare:
    """The peers' budget, for both: nodes answer each other with little."""

    __slots__ = ("replies", "requests", "strangers")

    def __init__(self, peers: MemoryBudget) -> None:
        """Everything from what is reserved for peers."""
        self.requests = peers
        self.replies = peers
        self.strangers = StrangersTime()


class Budgets:
    """The three budgets of a node, and its time for strangers; by itself the share of clients."""

    __slots__ = ("client_replies", "client_requests", "peers", "strangers")

    def __init__(
        self,
        *,
        client_requests: int = CLIENT_REQUEST_BUDGET_BYTES,
        client_replies: int = CLIENT_REPLY_BUDGET_BYTES,
        peers: int = PEER_BUDGET_BYTES,
        strangers_share: float = STRANGERS_SHARE,
    ) -> None:
        """Capacities in bytes, and what part of the event loop's time strangers get."""
        self.client_requests = MemoryBudget(client_requests)
        self.client_replies = MemoryBudget(client_replies)
        self.peers = MemoryBudget(peers)
        self.strangers = StrangersTime(strangers_share)

    @property
    def requests(self) -> MemoryBudget:
        """See `Share.requests`."""
        return self.client_requests

    @property
    def replies(self) -> MemoryBudget:
        """See `Share.replies`."""
        return self.client_replies
