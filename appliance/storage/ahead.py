"""Reads ahead of consumers that scan a log, so that reading and sending overlap.

Rules: only committed batches are read ahead, and those never change; whoever asked for one piece
after another gets the next one read while the last is sent. A piece is kept for one use. Pieces are
bounded in size and number, the oldest goes first; what fails ahead is left to the read itself.
"""

from collections import deque
from collections.abc import Callable

import trio

from appliance.errors import ApplianceError
from appliance.limits import MAX_READ_AHEADS, READ_AHEAD_BYTES
from appliance.storage.reading import Collected
from appliance.storage.worker import in_thread
from appliance.types import Offset

Read = Callable[[Offset, Offset, int], Collected]
"""Start, end and bytes at most; blocks."""


class _Piece:
    """What is read, or will be, for one scan of one log."""

    __slots__ = ("begun", "done", "end", "held", "max_bytes", "start")

    def __init__(self, start: Offset, end: Offset, max_bytes: int) -> None:
        self.start = start
        self.end = end
        self.max_bytes = max_bytes
        self.begun = False
        self.done = trio.Event()
        self.held: Collected | None = None


class ReadAhead:
    """The pieces of all logs of a node; `run` reads them, one at a time."""

    def __init__(self) -> None:
        """Holds nothing, and reads nothing until `run` runs."""
        self._pieces: dict[tuple[int, Offset], _Piece] = {}
        self._queue: deque[tuple[Read, _Piece]] = deque()
        self._queued = trio.lowlevel.ParkingLot()

    def want(self, log: int, read: Read, start: Offset, end: Offset, max_bytes: int) -> None:
        """Has a piece read that will probably be asked for next; `log` tells logs apart."""
        key = (log, start)
        if key in self._pieces:
            return
        if len(self._pieces) >= MAX_READ_AHEADS:
            del self._pieces[next(iter(self._pieces))]
        piece = self._pieces[key] = _Piece(start, end, min(max_bytes, READ_AHEAD_BYTES))
        self._queue.append((read, piece))
        self._queued.unpark()

    async def take(self, log: int, start: Offset, max_bytes: int) -> Collected | None:
        """The piece from `start` on, or None if there is none that fits."""
        piece = self._pieces.pop((log, start), None)
        if piece is None or not piece.begun:
            return None
        await piece.done.wait()
        held = piece.held
        return None if held is None or held.slice().size_bytes > max_bytes else held

    def forget(self, log: int) -> None:
        """Drops the pieces of a log."""
        for key in [key for key in self._pieces if key[0] == log]:
            del self._pieces[key]

    async def run(self) -> None:
        """Reads what is wanted, until cancelled."""
        while True:
            while not self._queue:
                await self._queued.park()
            read, piece = self._queue.popleft()
            if piece in self._pieces.values():
                await self._read(read, piece)

    @staticmethod
    async def _read(read: Read, piece: _Piece) -> None:
        piece.begun = True
        try:
            piece.held = await in_thread(lambda: read(piece.start, piece.end, piece.max_bytes))
        except ApplianceError:
            piece.held = None
        finally:
            piece.done.set()
