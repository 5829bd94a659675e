"""What a node spends on peers that it does not know yet: time of the event loop, and lines of log.

A handshake costs the node a millisecond of its one event loop and costs its sender next to nothing,
so a flood of them would leave no time for clients that are being served. Hence the rules:

- Everything before a peer is known (accepting, each step of TLS, judging a certificate) is done in
  turns, one at a time, first come, first served. After a turn as much rest follows as makes turns
  no more than STRANGERS_SHARE of the loop's time, however many wait; the time meant is the
  thread's own, so that a busy machine does not count as a stranger.
- Between two turns the loop runs whatever else is ready: who is known waits for one or two at most.
- What strangers do is told in lines of bounded number; those left out are counted and told as one.
"""

from time import thread_time
from types import TracebackType
from typing import Final

import trio

from appliance.limits import MAX_STRANGERS_LINES_PER_S, STRANGERS_SHARE

_SWITCHES_S: Final = 0.0001
"""Of each turn, what the switches between tasks cost that no clock here sees."""
_SHORTEST_REST_S: Final = 0.002
"""Rest that is less is added to the next: a timer would be coarser."""


class StrangersTime:
    """Turns, shared by the listeners of a node: `async with` it around work that never awaits."""

    __slots__ = ("_begun", "_free_at", "_order", "_rest")

    def __init__(self, share: float = STRANGERS_SHARE) -> None:
        """Turns take at most `share` of the event loop's time; 1 is all of it."""
        self._rest = 1 / share - 1
        self._order = trio.Lock()
        self._free_at = float("-inf")
        self._begun = 0.0

    async def __aenter__(self) -> None:
        """Waits for the turns of all who came before, and for the rest that follows them."""
        await self._order.acquire()
        wait_s = self._free_at - trio.current_time()
        if wait_s > _SHORTEST_REST_S:
            try:
                await trio.sleep(wait_s)
            except BaseException:
                self._order.release()
                raise
        self._begun = thread_time()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the turn; no checkpoint."""
        if self._rest:
            took_s = thread_time() - self._begun + _SWITCHES_S
            self._free_at = max(self._free_at, trio.current_time()) + took_s * self._rest
        self._order.release()


class StrangersLines:
    """Which of the lines about strangers are written, on one listener."""

    __slots__ = ("_written", "left_out")

    def __init__(self) -> None:
        """Begins with none."""
        self._written = 0
        self.left_out = 0
        """Since `renew` was last asked."""

    def may_write(self) -> bool:
        """Whether one more line may be written; if not, it is counted."""
        if self._written < MAX_STRANGERS_LINES_PER_S:
            self._written += 1
            return True
        self.left_out += 1
        return False

    def renew(self) -> int:
        """Begins another second; how many lines were left out in the one before."""
        left_out, self._written, self.left_out = self.left_out, 0, 0
        return left_out
