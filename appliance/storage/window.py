"""A file read in windows: many small frames cost one call, a large one goes where it belongs.

What is read lies below an end that does not move, and never changes there.
"""

from typing import Final

from appliance.limits import READ_WINDOW_BYTES
from appliance.storage.disk import BlockFile

_HEAD_BYTES: Final = 64
"""What is read at once where large frames follow one another: the next one's header."""


class Window:
    """The last part of a file that was read, and what it serves."""

    __slots__ = ("_ahead", "_file", "_held", "_start")

    def __init__(self, file: BlockFile) -> None:
        """Holds nothing."""
        self._file = file
        self._start = 0
        self._held = memoryview(b"")
        self._ahead = READ_WINDOW_BYTES

    def forget(self) -> None:
        """Reads anew whatever comes next."""
        self._held = memoryview(b"")

    def look(self, position: int, count: int, end: int) -> memoryview:
        """Up to `count` bytes at `position`, fewer only at `end`; valid until the next call."""
        count = min(count, end - position)
        held = self._part(position, count)
        if len(held) < count:
            fresh = memoryview(bytearray(min(max(count, self._ahead), end - position)))
            filled = self._file.read_into(position, fresh)
            self._start, self._held = position, fresh[:filled]
            held = self._held[:count]
        return held

    def take(self, position: int, count: int) -> bytearray | None:
        """So many bytes in a buffer of their own, or None if the file has fewer."""
        held = self._part(position, count)
        if len(held) == count:
            self._ahead = READ_WINDOW_BYTES
            return bytearray(held)
        if count >= READ_WINDOW_BYTES:
            self._ahead = _HEAD_BYTES
        taken = bytearray(count)
        view, have = memoryview(taken), len(held)
        view[:have] = held
        filled = self._file.read_into(position + have, view[have:])
        return taken if have + filled == count else None

    def _part(self, position: int, count: int) -> memoryview:
        at = position - self._start
        return self._held[at : at + count] if at >= 0 else self._held[:0]
