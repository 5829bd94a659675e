"""When what falls due, for many things of which most are put off before they do.

Rules: a thing that is put off costs nothing until its old time comes; then whoever asked looks
again and schedules it anew. The heap stays within twice what was alive at its last rebuild, so that
coming and going costs no memory.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K")

_SLACK = 1_024


class Deadlines(Generic[K]):
    """A heap of (time, order of arrival, key); keys are never compared."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, K]] = []
        self._order = 0
        self._kept = 0

    def __len__(self) -> int:
        """Entries held, those of dead keys included."""
        return len(self._heap)

    @property
    def nearest_ms(self) -> int | None:
        """The next time to look at, or None."""
        return self._heap[0][0] if self._heap else None

    def add(self, at_ms: int, key: K) -> None:
        """Has `key` looked at when it is `at_ms`."""
        self._order += 1
        heappush(self._heap, (at_ms, self._order, key))

    def due(self, now_ms: int) -> list[K]:
        """Takes out every key whose time has come, the earliest first."""
        keys = []
        while self._heap and self._heap[0][0] <= now_ms:
            keys.append(heappop(self._heap)[2])
        return keys

    @property
    def is_wasteful(self) -> bool:
        """Whether so much was added since the last rebuild that most of it may be dead."""
        return len(self._heap) > 2 * self._kept + _SLACK

    def rebuild(self, entries: Iterable[tuple[int, K]]) -> None:
        """Replaces everything by what is alive."""
        self._heap = [(at_ms, order, key) for order, (at_ms, key) in enumerate(entries)]
        self._order = self._kept = len(self._heap)
        heapify(self._heap)
