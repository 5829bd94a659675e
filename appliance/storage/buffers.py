"""Buffers that flushes are sealed into, used again by all logs of a node.

A buffer is one flush's until its sync has returned; it holds ciphertext only.
"""

import threading

from appliance.limits import FLUSH_BUFFER_STEP_BYTES, FLUSH_BUFFERS_BYTES


class FlushBuffers:
    """Buffers that nobody uses now, within one bound; the one used last goes out first."""

    def __init__(self, limit_bytes: int = FLUSH_BUFFERS_BYTES) -> None:
        """Keeps at most `limit_bytes`."""
        self._limit = limit_bytes
        self._guard = threading.Lock()
        self._free: list[bytearray] = []
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """What is kept for the next flushes."""
        return self._held

    def take(self, size: int) -> memoryview:
        """`size` bytes that hold anything; small ones are not kept, and come fresh."""
        if size < FLUSH_BUFFER_STEP_BYTES:
            return memoryview(bytearray(size))
        with self._guard:
            for place in range(len(self._free) - 1, -1, -1):
                if size <= len(self._free[place]) <= 2 * size:
                    buffer = self._free.pop(place)
                    self._held -= len(buffer)
                    return memoryview(buffer)[:size]
        step = FLUSH_BUFFER_STEP_BYTES
        return memoryview(bytearray(-(-size // step) * step))[:size]

    def give(self, view: memoryview) -> None:
        """Takes back what `take` gave; nobody looks at it any more."""
        buffer = view.obj
        if not isinstance(buffer, bytearray) or len(buffer) < FLUSH_BUFFER_STEP_BYTES:
            return
        view.release()
        with self._guard:
            if self._held + len(buffer) <= self._limit:
                self._free.append(buffer)
                self._held += len(buffer)
