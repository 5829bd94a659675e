"""Time and randomness, injected so that a simulation can own them."""

from typing import Protocol

from appliance.types import (
    TimestampMs,
)


class Clock(Protocol):
    """Time, injected so that a simulation can own it."""

    def now_ms(self) -> TimestampMs:
        """Wall-clock time in milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back (CLOCK_BOOTTIME where leases are measured)."""
        ...


class Entropy(Protocol):
    """Random bytes, injected so that a simulation can own them."""

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes fit for keys and nonces."""
        ...
