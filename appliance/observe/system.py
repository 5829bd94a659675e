"""This machine's time and randomness, behind the ports that a simulation replaces."""

import os
import time

from appliance.types import TimestampMs


class SystemClock:
    """Wall-clock time, and seconds since boot that count suspended time too.

    Leases are measured on CLOCK_BOOTTIME: a machine that slept has used up its lease
    (DESIGN section 6).
    """

    def now_ms(self) -> TimestampMs:
        """Wall-clock time in milliseconds since the Unix epoch."""
        return TimestampMs(time.time_ns() // 1_000_000)

    def monotonic(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class SystemEntropy:
    """The kernel's random number generator."""

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes fit for keys and nonces."""
        return os.urandom(count)
