"""The last entries of one group in memory: for applying them, and for followers who keep up.

Rules: an entry stays until it is durable here and applied; after that, as long as TAIL_BYTES allow
it where there are followers to send it to, and no longer where there are none. The entries are
contiguous and end where the log ends.
"""

from collections import deque
from itertools import islice

from appliance.invariant import invariant
from appliance.limits import KIB
from appliance.types import Entry, Index

ENTRY_OVERHEAD_BYTES = KIB
"""Counted for each entry besides its payload, so that small ones are bounded too."""


class EntryTail:
    """Contiguous entries up to the end of a log."""

    __slots__ = ("_entries", "kept_bytes", "size_bytes")

    def __init__(self) -> None:
        """Empty."""
        self._entries: deque[Entry] = deque()
        self.size_bytes = 0
        self.kept_bytes = 0
        """How much is kept of what nobody waits for any more."""

    def append(self, entry: Entry) -> None:
        """Takes the next entry."""
        entries = self._entries
        if entries:
            invariant(
                entry.header.index == entries[-1].header.index + 1, "entries follow one another"
            )
        entries.append(entry)
        self.size_bytes += entry.header.payload_bytes + ENTRY_OVERHEAD_BYTES

    def get(self, index: Index) -> Entry | None:
        """An entry, or None where the tail does not reach."""
        entries = self._entries
        if not entries:
            return None
        at = index - entries[0].header.index
        return entries[at] if 0 <= at < len(entries) else None

    def between(self, first: Index, last: Index) -> list[Entry] | None:
        """The entries [first, last], or None unless all of them are here."""
        entries = self._entries
        if not entries or first < entries[0].header.index or last > entries[-1].header.index:
            return None
        at = first - entries[0].header.index
        return list(islice(entries, at, at + last - first + 1))

    def truncate(self, last_kept: Index) -> None:
        """Forgets what comes after an index."""
        entries = self._entries
        while entries and entries[-1].header.index > last_kept:
            self._count_out(entries.pop())

    def release(self, done: Index) -> None:
        """Lets go of entries up to `done`, beyond those that are kept for followers."""
        entries = self._entries
        while entries and self.size_bytes > self.kept_bytes and entries[0].header.index <= done:
            self._count_out(entries.popleft())

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()
        self.size_bytes = 0

    def _count_out(self, entry: Entry) -> None:
        self.size_bytes -= entry.header.payload_bytes + ENTRY_OVERHEAD_BYTES
