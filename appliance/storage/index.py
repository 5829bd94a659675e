"""A sparse index in memory: places in a file from which reading can begin."""

from bisect import bisect_right

from appliance.limits import INDEX_STRIDE_BYTES
from appliance.storage.segment import Tail
from appliance.types import Index, Offset


class SparseIndex:
    """Places at least INDEX_STRIDE_BYTES apart, in order; the first is the file's beginning."""

    __slots__ = ("_indexes", "_offsets", "_tails")

    def __init__(self, first_index: Index, first_offset: Offset, beginning: Tail) -> None:
        """Begins with the file's own beginning."""
        self._indexes = [first_index]
        self._offsets = [first_offset]
        self._tails = [beginning]

    def note(self, first_index: Index, first_offset: Offset, before: Tail) -> None:
        """Learns that the frame after `before` begins with these; kept if it is far enough on."""
        if before.position - self._tails[-1].position >= INDEX_STRIDE_BYTES:
            self._indexes.append(first_index)
            self._offsets.append(first_offset)
            self._tails.append(before)

    def before_offset(self, offset: Offset) -> Tail:
        """The last place at or before the frame that holds a batch with `offset`."""
        return self._tails[max(0, bisect_right(self._offsets, offset) - 1)]

    def before_index(self, index: Index) -> Tail:
        """The last place at or before the frame that holds an entry."""
        return self._tails[max(0, bisect_right(self._indexes, index) - 1)]

    def void_from(self, index: Index) -> None:
        """Forgets places from which only void entries would be read first."""
        while len(self._indexes) > 1 and self._indexes[-1] >= index:
            self._indexes.pop()
            self._offsets.pop()
            self._tails.pop()
