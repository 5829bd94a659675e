"""Cuts a stream of bytes into frames, for both dialects: u32 size, then that many bytes.

Rules:
- A size is judged before anything is allocated for it, and room grows with what has arrived: at
  most `GROWTH_FACTOR` times the bytes received, so a declared 100 MiB costs its sender more than
  its receiver. The room asked for is named by `growth` first, for a memory budget to admit.
- Frames that lie whole in a chunk are views into it, never copied; a frame that is larger than its
  chunk is received straight into a buffer of its own (`writable`, `wrote`).
"""

from collections.abc import Iterator
from struct import Struct

from appliance.errors import ProtocolViolation
from appliance.invariant import InvariantViolation, invariant
from appliance.limits import FRAME_GROWTH_FACTOR, MIN_FRAME_ROOM_BYTES

_SIZE = Struct(">I")


class FrameBuffer:
    """One direction of one connection; the loop that feeds it reads as follows.

    While a frame is `under_way`, the next bytes are received into `writable` and reported by
    `wrote`; all others go through `feed`.
    """

    __slots__ = ("_frame_bytes", "_received", "_room", "_size_part", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int) -> None:
        """Refuses frames over `max_frame_bytes`; the attribute may be raised later."""
        self.max_frame_bytes = max_frame_bytes
        self._size_part = b""
        self._room: bytearray | None = None
        self._frame_bytes = 0
        self._received = 0

    @property
    def under_way(self) -> bool:
        """True while a frame is received into a buffer of its own; then `feed` must not be used."""
        return self._room is not None

    @property
    def at_boundary(self) -> bool:
        """True when no part of a frame has arrived, so that the stream may end here."""
        return self._room is None and not self._size_part

    @property
    def room_bytes(self) -> int:
        """Bytes that are held for the frame under way."""
        return 0 if self._room is None else len(self._room)

    @property
    def growth(self) -> int:
        """Bytes by which `writable` will enlarge the frame's buffer; 0 when there is room."""
        if self._room is None or self._received < len(self._room):
            return 0
        wanted = max(MIN_FRAME_ROOM_BYTES, FRAME_GROWTH_FACTOR * self._received)
        return min(self._frame_bytes, wanted) - len(self._room)

    def feed(self, chunk: bytes | bytearray) -> Iterator[memoryview]:
        """The frames that `chunk` completes, without their sizes, as views into it.

        They are cut off one by one, so that thousands of small ones are never objects at a time;
        the iterator is to be taken to its end before anything else is asked of the buffer.

        Raises:
            ProtocolViolation: a frame's size is over the limit.
        """
        invariant(self._room is None, "a frame under way is received into its own buffer")
        if self._size_part:
            chunk = self._size_part + chunk
            self._size_part = b""
        view = memoryview(chunk).toreadonly()
        end = len(chunk)
        start = 0
        while end - start >= 4:
            size: int = _SIZE.unpack_from(chunk, start)[0]
            if size > self.max_frame_bytes:
                raise ProtocolViolation(f"a frame of {size} bytes is over the limit")
            if size > end - start - 4:
                self._begin(size, view[start + 4 :])
                return
            yield view[start + 4 : start + 4 + size]
            start += 4 + size
        self._size_part = bytes(chunk[start:]) if start < end else b""

    def writable(self) -> memoryview:
        """The free room of the frame under way, enlarged by `growth` if it is full."""
        room = self._under_way()
        growth = self.growth
        if growth:
            larger = bytearray(len(room) + growth)
            larger[: self._received] = room
            self._room = room = larger
        return memoryview(room)[self._received :]

    def wrote(self, count: int) -> memoryview | None:
        """Takes note of `count` bytes put into `writable`; the frame if it is complete now."""
        room = self._under_way()
        self._received += count
        if self._received < self._frame_bytes:
            return None
        self._room = None
        return memoryview(room).toreadonly()

    def _under_way(self) -> bytearray:
        if self._room is None:
            raise InvariantViolation("bytes are received into a frame under way")
        return self._room

    def _begin(self, size: int, head: memoryview) -> None:
        self._frame_bytes = size
        self._received = len(head)
        self._room = bytearray(head)
