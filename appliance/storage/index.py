"""A sparse index: places in a file from which reading can begin, by index, by offset and by time.

Each place is packed into 56 bytes, in memory as in the sealed index file that lies beside a closed
file, so a gibibyte of log costs less than one MiB of index and no object.

    point = index 8 | offset 8 | position 8 | tag 16 | extent + 1 4 | frame + 1 4 | time 8

The time is the largest of all batches before the place.
"""

import struct
from bisect import bisect_left, bisect_right
from typing import Final

from appliance.crypto.sealed import FrameRef
from appliance.limits import INDEX_STRIDE_BYTES
from appliance.storage.segment import Tail
from appliance.types import Index, Offset, TimestampMs

_POINT: Final = struct.Struct(">QQQ16sIIq")
POINT_BYTES: Final = _POINT.size
_INDEX, _OFFSET, _TIME, _POSITION = range(4)
_NUMBER: Final = struct.Struct(">Q")
_FIELDS: Final = ((_NUMBER, 0), (_NUMBER, 8), (struct.Struct(">q"), 48), (_NUMBER, 16))
NO_TIME: Final = TimestampMs(-1)
"""Before every time that a batch may have."""


class SparseIndex:
    """Places at least INDEX_STRIDE_BYTES apart, in order; the first is the file's beginning."""

    __slots__ = ("_last_position", "_points")

    def __init__(self, points: bytearray) -> None:
        """Takes points as `encoded` gave them; at least one."""
        self._points = points
        self._last_position = self._tail(len(self) - 1).position

    @classmethod
    def beginning_at(cls, index: Index, offset: Offset, beginning: Tail) -> "SparseIndex":
        """Begins with the file's own beginning."""
        return cls(bytearray(_packed(index, offset, beginning, NO_TIME)))

    def __len__(self) -> int:
        """How many places it knows."""
        return len(self._points) // POINT_BYTES

    def note(
        self, first_index: Index, first_offset: Offset, before: Tail, max_time_ms: TimestampMs
    ) -> None:
        """Learns that the frame after `before` begins with these; kept if it is far enough on.

        `max_time_ms` is the largest time of all batches before it.
        """
        if before.position - self._last_position >= INDEX_STRIDE_BYTES:
            self._points += _packed(first_index, first_offset, before, max_time_ms)
            self._last_position = before.position

    def void_from(self, index: Index) -> None:
        """Forgets places from which only void entries would be read first."""
        wanted: int = index
        count = max(1, bisect_left(range(len(self)), wanted, key=lambda at: self._at(at, _INDEX)))
        del self._points[count * POINT_BYTES :]
        self._last_position = self._tail(count - 1).position

    def before_offset(self, offset: Offset) -> Tail:
        """The last place at or before the frame that holds a batch with `offset`."""
        return self._before(offset, _OFFSET)

    def before_index(self, index: Index) -> Tail:
        """The last place at or before the frame that holds an entry."""
        return self._before(index, _INDEX)

    def before_time(self, time_ms: TimestampMs) -> Tail:
        """The last place before which every batch is older."""
        return self._before(time_ms - 1, _TIME)

    def offset_from(self, position: int) -> tuple[Offset, int] | None:
        """The first batch of the first place at or after `position`, and where that is."""
        count = bisect_left(range(len(self)), position, key=lambda at: self._at(at, _POSITION))
        if count == len(self):
            return None
        return Offset(self._at(count, _OFFSET)), self._at(count, _POSITION)

    def place_of(self, offset: Offset, file_end: int) -> int:
        """The first place that begins with `offset` or later; the end of the file if none does."""
        wanted: int = offset
        count = bisect_left(range(len(self)), wanted, key=lambda at: self._at(at, _OFFSET))
        return file_end if count == len(self) else self._at(count, _POSITION)

    def encoded(self) -> bytes:
        """Every point, for the index file."""
        return bytes(self._points)

    def _before(self, value: int, field: int) -> Tail:
        count = bisect_right(range(len(self)), value, key=lambda at: self._at(at, field))
        return self._tail(max(0, count - 1))

    def _at(self, point: int, field: int) -> int:
        layout, within = _FIELDS[field]
        (value,) = layout.unpack_from(self._points, point * POINT_BYTES + within)
        return int(value)

    def _tail(self, point: int) -> Tail:
        _, _, position, tag, extent, frame, _ = _POINT.unpack_from(
            self._points, point * POINT_BYTES
        )
        return Tail(position, tag, FrameRef(extent - 1, frame - 1), extent)


def _packed(index: Index, offset: Offset, before: Tail, max_time_ms: TimestampMs) -> bytes:
    extent, frame = before.frame.extent, before.frame.number
    return _POINT.pack(
        index, offset, before.position, before.tag, extent + 1, frame + 1, max_time_ms
    )
