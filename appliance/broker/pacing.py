"""How fast this node sends logs to replicas that are yet to come.

Rules: a move waits for clients, never the other way round. Only learners are paced, and only for
what is read back from the log for them: a voter that lags is needed, and is served as fast as can
be. All moves of a node share one rate, so that more of them are no more load.
"""

import trio

from appliance.coordination.token_bucket import TokenBucket
from appliance.ports import Clock

BURST_S = 1.0
"""What may go at once, in seconds at the rate."""


class MovePace:
    """The rate that all moves of a node share."""

    def __init__(self, bytes_per_s: float, clock: Clock) -> None:
        """Begins with all of its burst."""
        self._clock = clock
        self._bucket = TokenBucket(bytes_per_s, clock.monotonic(), BURST_S)

    async def take(self, size: int) -> None:
        """Returns when what was sent before leaves room for `size` bytes more."""
        wait_s = self._bucket.take(size, self._clock.monotonic())
        if wait_s > 0:
            await trio.sleep(wait_s)
