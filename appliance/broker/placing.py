"""Where a leader's entries stand and when they are: offsets and leader time, as they are given out.

Rules: the next offset follows the last entry of the log, committed or not, and goes back with
entries that are taken back (DESIGN section 4). Leader time never goes back, whatever the clock
does: what expires by it stays expired.
"""

from appliance.ports import Clock
from appliance.types import EntryHeader, EntryKind, Offset, Position, TimestampMs


class Placing:
    """The end of one replica's log, as it will be when all that was asked for is written."""

    __slots__ = ("_clock", "end_offset", "leader_time")

    def __init__(self, clock: Clock, end_offset: Offset) -> None:
        """At the end of a log that was opened."""
        self._clock = clock
        self.leader_time = TimestampMs(0)
        """The latest time that an entry here was given, as far as it is known."""
        self.end_offset = end_offset
        """The offset that the next batch takes."""

    def header(
        self, kind: EntryKind, position: Position, last_offset_delta: int, size_bytes: int
    ) -> EntryHeader:
        """The header of the next entry; the entry has its place by it."""
        now = self._clock.now_ms()
        self.leader_time = max(self.leader_time, now)
        base = self.end_offset
        self.end_offset = Offset(base + last_offset_delta + 1)
        return EntryHeader(
            kind,
            position.index,
            position.term,
            self.leader_time,
            base,
            last_offset_delta,
            size_bytes,
        )

    def follow(self, header: EntryHeader) -> None:
        """An entry that another leader placed is the last one now."""
        self.end_offset = header.next_offset
        self.leader_time = max(self.leader_time, header.leader_time_ms)
