"""Acknowledgements that wait for more replicas than a majority (`min.insync.replicas`).

Rules: what waits here is decided already and will not be lost; it is only not yet held by as many
as its topic asks for. Whoever waits is told as soon as they hold it, or that they do not: when too
few of them can be reached, when leadership ends, or when the producer's own time is up. There is no
timer: the replica's ticks, and what it hears of the others, move this on.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from appliance.errors import ErrorCode
from appliance.raft.core import Core
from appliance.types import Index, NodeId

Done = Callable[[ErrorCode, int], None]


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """How many replicas are to hold a batch, and for how long a producer waits for it."""

    replicas: int
    timeout_s: float


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    index: Index
    replicas: int
    deadline: float
    done: Done
    base_offset: int


class Withheld:
    """Those of one group that wait, in the order in which they were decided."""

    __slots__ = ("_core", "_monotonic", "_stirred", "_waiting")

    def __init__(
        self, core: Core, monotonic: Callable[[], float], stirred: Callable[[], None]
    ) -> None:
        """`stirred` has the group's time pass while somebody waits."""
        self._core: Final = core
        self._monotonic = monotonic
        self._stirred = stirred
        self._waiting: list[_Waiting] = []

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def until(self, wanted: Wanted, done: Done) -> Done:
        """A `done` that is told of success only once so many replicas hold what is decided."""

        def decided(error: ErrorCode, base_offset: int) -> None:
            index = min(self._core.commit, self._core.durable)
            if error is not ErrorCode.NONE or self._holders(index) >= wanted.replicas:
                done(error, base_offset)
                return
            deadline = self._monotonic() + wanted.timeout_s
            self._waiting.append(_Waiting(index, wanted.replicas, deadline, done, base_offset))
            self._stirred()

        return decided

    def heard(self) -> None:
        """A member has answered, or time has passed: tells those whose wait is over."""
        if self._waiting:
            now = self._monotonic()
            self._tell(lambda each: each.deadline <= now)

    def lost(self, node: NodeId) -> None:
        """A member cannot be reached: tells those who wait for more than there are now."""
        if self._waiting:
            voters = self._core.configuration.voters
            left = sum(each != node and self._core.reaches(each) for each in voters)
            self._tell(lambda each: each.replicas > left)

    def end(self, error: ErrorCode) -> None:
        """This member does not lead any more, or cannot: nobody learns more here."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.done(error, -1)

    def _tell(self, is_over: Callable[[_Waiting], bool]) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if self._holders(each.index) >= each.replicas:
                each.done(ErrorCode.NONE, each.base_offset)
            elif is_over(each):
                each.done(ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, -1)
            else:
                self._waiting.append(each)

    def _holders(self, index: Index) -> int:
        matched = self._core.matched
        return sum((matched(node) or 0) >= index for node in self._core.configuration.voters)
