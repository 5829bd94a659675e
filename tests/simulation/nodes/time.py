"""Time of a whole run in one event loop, and nodes that can be stopped in it like processes.

Rules (DESIGN section 8): the clock jumps to the next deadline when nobody can go on, and never
shows the same time twice, so no two deadlines are equal and trio's tie-break by `id()` decides
nothing. What worker threads deliver comes before any jump. Each task belongs to the node that
began it: a stopped node's tasks are kept from running, whatever wakes them, and go on later.
"""

from collections import deque
from contextvars import ContextVar
from math import inf

import trio

NODE: ContextVar[int] = ContextVar("node", default=0)
"""Whose task this is; 0 is the world's."""

_BEGINNING_S = 1_000.0
_STEP_S = 1e-9


class JumpingClock(trio.abc.Clock):
    """trio's clock in a simulation."""

    def __init__(self) -> None:
        self._now_s = _BEGINNING_S

    def start_clock(self) -> None:
        """Nothing runs by itself."""

    def current_time(self) -> float:
        """Never twice the same."""
        self._now_s += _STEP_S
        return self._now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Asked when no task can run: nobody sleeps, time jumps."""
        if trio._core._run.GLOBAL_RUN_CONTEXT.runner.entry_queue.size():
            return 0.0
        if deadline == inf:
            raise RuntimeError("everybody waits for ever")
        self._now_s = max(self._now_s, deadline)
        return 0.0


class Stoppable(deque[trio.lowlevel.Task]):
    """trio's queue of tasks that can run, from which those of stopped nodes are kept out."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[int, list[trio.lowlevel.Task]] = {}

    @classmethod
    def install(cls) -> "Stoppable":
        """In place of the running loop's own."""
        runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        queue = cls()
        queue.extend(runner.runq)
        runner.runq = queue
        return queue

    def append(self, task: trio.lowlevel.Task) -> None:
        """A task can run."""
        held = self._held.get(task.context.get(NODE, 0)) if self._held else None
        (super() if held is None else held).append(task)

    def stop(self, node: int) -> None:
        """As SIGSTOP does."""
        self._held.setdefault(node, [])

    def go_on(self, node: int) -> None:
        """As SIGCONT does."""
        self.extend(self._held.pop(node, ()))

    def is_stopped(self, node: int) -> bool:
        """Whether a node is stopped."""
        return node in self._held


class DriftingClock:
    """`ports.Clock` of one machine: it runs fast or slow, and its wall clock jumps."""

    def __init__(self, wall_ms: int, rate: float) -> None:
        self._wall_ms = wall_ms
        self._rate = rate

    def jump(self, by_ms: int) -> None:
        """Somebody sets the wall clock."""
        self._wall_ms += by_ms

    def now_ms(self) -> int:
        """See `ports.Clock`."""
        return self._wall_ms + int(self.monotonic() * 1000)

    def monotonic(self) -> float:
        """See `ports.Clock`."""
        return trio.current_time() * self._rate
