"""Readers that wait for committed data, woken by the commit itself.

Rules: a waiting reader costs one value in a dict for each log that it reads: no task, no timer. It
is woken once enough has been committed over all of them, or once when one of them ends.
"""

import trio


class Reader:
    """One parked request that wants `missing_bytes` more."""

    __slots__ = ("_event", "_missing_bytes")

    def __init__(self, missing_bytes: int) -> None:
        self._missing_bytes = missing_bytes
        self._event = trio.Event()

    def grown(self, size_bytes: int) -> None:
        """Counts what one log has committed."""
        self._missing_bytes -= size_bytes
        if self._missing_bytes <= 0:
            self._event.set()

    def wake(self) -> None:
        """Wakes the reader although it has not got enough."""
        self._event.set()

    async def wait(self) -> None:
        """Returns when there is enough, or no more to wait for."""
        await self._event.wait()


class Readers:
    """Those who wait for one log to grow, in the order in which they came."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Reader, None] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, reader: Reader) -> None:
        """Has the reader told of every commit."""
        self._waiting[reader] = None

    def discard(self, reader: Reader) -> None:
        """Forgets the reader."""
        self._waiting.pop(reader, None)

    def grown(self, size_bytes: int) -> None:
        """Tells everyone what was committed."""
        for reader in self._waiting:
            reader.grown(size_bytes)

    def end(self) -> None:
        """Wakes everyone: the log takes nothing more."""
        for reader in self._waiting:
            reader.wake()
