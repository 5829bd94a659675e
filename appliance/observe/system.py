"""This machine's time and randomness, behind the ports that a simulation replaces."""

import ctypes
import os
import time
from typing import Final

from appliance.limits import FREED_MEMORY_KEPT_BYTES, LARGEST_HEAP_BLOCK_BYTES
from appliance.types import TimestampMs

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> None:
    """Has the C library use freed buffers again instead of giving them back to the kernel.

    Each MiB that is read is unsealed into a fresh buffer. Getting its pages from the kernel costs
    as much again as AES-GCM over it, each time. Another C library than glibc is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGEST_HEAP_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, FREED_MEMORY_KEPT_BYTES)


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
