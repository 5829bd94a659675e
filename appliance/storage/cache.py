"""The tail of all logs in plaintext, within one bound: who keeps up costs no decryption."""

from collections import deque
from collections.abc import Sequence

import msgspec

from appliance.limits import TAIL_CACHE_BYTES
from appliance.types import EntryHeader, Offset


class CachedFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame's content and its entries' headers."""

    base_offset: Offset
    next_offset: Offset
    content: memoryview
    headers: Sequence[EntryHeader]


class LogTail:
    """The newest frames of one log, without gaps between them."""

    __slots__ = ("frames",)

    def __init__(self) -> None:
        """Begins empty."""
        self.frames: deque[CachedFrame] = deque()


class TailCache:
    """Bounds what all tails of a node hold together; the oldest frame of all goes first."""

    def __init__(self, limit_bytes: int = TAIL_CACHE_BYTES) -> None:
        """Holds at most `limit_bytes` of content."""
        self._limit = limit_bytes
        self._held = 0
        self._order: deque[LogTail] = deque()

    def add(self, tail: LogTail, frame: CachedFrame) -> None:
        """Adds a log's newest frame, which is durable."""
        tail.frames.append(frame)
        self._order.append(tail)
        self._held += len(frame.content)
        while self._held > self._limit:
            self._held -= len(self._order.popleft().frames.popleft().content)

    def forget(self, tail: LogTail) -> None:
        """Lets go of everything a log has here."""
        self._held -= sum(len(frame.content) for frame in tail.frames)
        tail.frames.clear()
        self._order = deque(other for other in self._order if other is not tail)
