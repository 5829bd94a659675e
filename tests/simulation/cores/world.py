"""Time, chance and events of one run: everything in it follows from one seed.

Rules: events happen in the order of their times, and of their making where times are equal. No
order depends on the hash of a string or the address of an object.
"""

import random
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from heapq import heappop, heappush

Action = Callable[[], None]


class World:
    """The clock and the dice."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now_ms = 0.0
        self.faults: Counter[str] = Counter()
        self.lines: list[str] | None = [] if traced else None
        self._events: list[tuple[float, int, Action]] = []
        self._made = 0

    def after(self, delay_ms: float, action: Action) -> None:
        """Something will happen."""
        self._made += 1
        heappush(self._events, (self.now_ms + delay_ms, self._made, action))

    def run_until(self, end_ms: float) -> None:
        """Lets everything happen up to a time."""
        events = self._events
        while events and events[0][0] <= end_ms:
            self.now_ms, _, action = heappop(events)
            action()
        self.now_ms = end_ms

    def say(self, line: str) -> None:
        """A line of the trace."""
        if self.lines is not None:
            self.lines.append(f"{self.now_ms:10.3f} {line}")

    def trace_hash(self) -> str:
        """Of every line."""
        return sha256("\n".join(self.lines or ()).encode()).hexdigest()


class Dice:
    """Entropy for one member, from the run's seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes."""
        return self._random.randbytes(count)
