"""Entries of one log that wait for their flush, and how they share frames."""

from collections.abc import Sequence

from appliance.errors import StorageFull
from appliance.limits import MAX_FRAME_PAYLOAD_BYTES, MAX_STAGED_BYTES
from appliance.storage.layout import entry_bytes
from appliance.types import Entry, EntryHeader, Index, Offset

Group = list[Entry]
"""Entries of one frame, at least one."""


class Staging:
    """What was appended and not sealed yet, in order."""

    __slots__ = ("_entries", "_size")

    def __init__(self) -> None:
        """Begins with nothing."""
        self._entries: list[Entry] = []
        self._size = 0

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._entries)

    @property
    def size_bytes(self) -> int:
        """What the entries take of frames."""
        return self._size

    @property
    def first(self) -> EntryHeader:
        """The header of the entry that waits longest; there is one."""
        return self._entries[0].header

    def next_offset(self, end: Offset) -> Offset:
        """The offset of the first entry that waits, or `end` if none does."""
        return self._entries[0].header.base_offset if self._entries else end

    def last_offset(self) -> Offset:
        """The next offset after the last entry that waits; there is one."""
        return self._entries[-1].header.next_offset

    def check_room(self, entries: Sequence[Entry]) -> int:
        """What entries take of frames; raises StorageFull if more would wait than may."""
        size = sum(map(entry_bytes, entries))
        if self._size + size > MAX_STAGED_BYTES:
            raise StorageFull("more entries wait for the disk than may")
        return size

    def add(self, entries: Sequence[Entry], size: int) -> None:
        """Adds entries of that size behind those that wait."""
        self._entries += entries
        self._size += size

    def take(self, room: int, *, at_least_one: bool = False) -> list[Group]:
        """Entries for one write that fit `room`, grouped by frame."""
        groups: list[Group] = []
        taken = flushed = held = 0
        for entry in self._entries:
            size = entry_bytes(entry)
            if flushed + size > room and (taken or not at_least_one):
                break
            if not groups or held + size > MAX_FRAME_PAYLOAD_BYTES:
                groups.append([])
                held = 0
            groups[-1].append(entry)
            held += size
            flushed += size
            taken += 1
        del self._entries[:taken]
        self._size -= flushed
        return groups

    def give_back(self, groups: Sequence[Group], before: Index) -> None:
        """Puts what was taken back to where it was, but for entries from `before` on."""
        entries = [entry for group in groups for entry in group if entry.header.index < before]
        self._entries[:0] = entries
        self._size += sum(map(entry_bytes, entries))

    def drop_from(self, index: Index) -> None:
        """Forgets entries from an index on."""
        while self._entries and self._entries[-1].header.index >= index:
            self._size -= entry_bytes(self._entries.pop())
