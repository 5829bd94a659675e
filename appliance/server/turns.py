"""Whose requests the event loop works on: users in turns, a slice at a time.

The loop runs everything that is ready before it looks for more, so a user with a thousand
connections, or one with a thousand requests on its way, would have everybody else wait for all of
them. Hence the rules:

- What the connections of one user cost the loop (reading, decoding, acting, answering) is counted
  together. Once it amounts to a slice they wait until the loop has gone around, in line, and one
  of them after each round.
- So whoever else is there waits for a slice of each user, or for one request that takes longer.
- Who is alone gets a longer slice: what many connections ask in one round shares one sync, and
  nobody waits for it but the node's own tasks.
- A user that takes less than its part of the time (TURNS_SHARE) is never held up: what it has spent
  wears off.
- A line is a lock and a number: it costs nothing until a slice is used up, and one checkpoint then.
"""

from types import TracebackType

import trio

from appliance.limits import CROWD_S, TURN_ALONE_S, TURN_S, TURNS_SHARE
from appliance.server.metering import clock


class Crowd:
    """Whether there is anybody to be fair to: who came last, and when that was somebody else."""

    __slots__ = ("changed_at", "last")

    def __init__(self) -> None:
        """Nobody has come."""
        self.last: UsersTurns | None = None
        self.changed_at = float("-inf")


class UsersTurns:
    """The line of one user's connections; `async with` it around work that never awaits."""

    __slots__ = ("_as_of", "_begun", "_crowd", "_line", "_slice_s", "spent_s")

    def __init__(self, crowd: Crowd) -> None:
        """Nobody waits, and nothing is spent; `crowd` is all users of the node."""
        self._crowd = crowd
        self._slice_s = TURN_S
        self._line = trio.Lock()
        self._begun = self._as_of = clock()
        self.spent_s = 0.0
        """Of the present slice; whoever works outside of `async with` adds to it."""

    @property
    def used_up(self) -> bool:
        """Whether there is to be waited before more is done."""
        return self.spent_s >= self._slice_s

    async def wait(self) -> None:
        """Returns when it is the caller's turn: at once, and no checkpoint, within a slice."""
        if not self.used_up:
            return
        if self._line.locked():
            await self._line.acquire()
        elif self._still_used_up(clock()):
            self._line.acquire_nowait()
        else:
            return
        try:
            while self.used_up:
                await trio.lowlevel.checkpoint()
                self.spent_s -= self._slice_s
        finally:
            self._line.release()

    def _still_used_up(self, now: float) -> bool:
        """Takes off what has worn off until `now`."""
        worn_off = (now - self._as_of) * TURNS_SHARE
        self.spent_s = self.spent_s - worn_off if self.spent_s > worn_off else 0.0
        self._as_of = now
        return self.used_up

    async def __aenter__(self) -> None:
        """Waits for a turn and begins it."""
        await self.wait()
        begun = self._begun = clock()
        crowd = self._crowd
        if crowd.last is not self:
            crowd.last, crowd.changed_at = self, begun
        self._slice_s = TURN_S if begun - crowd.changed_at < CROWD_S else TURN_ALONE_S

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the turn; no checkpoint."""
        self.spent_s += clock() - self._begun
