"""Reading a log's files: whole batches by offset, entries by index, a batch by time.

All calls block; they only ever see frames that are durable, and of those only what is not void.
"""

from collections.abc import Iterator, Sequence

from appliance.crypto.sealed import FrameKind
from appliance.ports import Slice
from appliance.storage import layout
from appliance.storage.files import LogFiles
from appliance.storage.logfile import END_OF_INDEXES, LogFile
from appliance.storage.segment import Frame
from appliance.types import (
    ENTRY_HEADER_BYTES,
    Entry,
    EntryHeader,
    EntryKind,
    Index,
    Offset,
    TimestampMs,
)


def read_batches(files: LogFiles, collected: "Collected", start: Offset) -> None:
    """Collects from the batch that holds `start` on; raises DamageDetected."""
    for file in files.from_offset(start):
        for frame in file.frames_before_offset(start):
            headers = _headers_of(frame)
            if not headers or headers[-1].next_offset <= start:
                continue
            if not collected.take(frame.content, headers, file.void_after(frame.position)):
                return


def read_entries(files: LogFiles, first: Index, last: Index, max_bytes: int) -> list[Entry]:
    """Entries of every kind from `first` to `last`, at least one; raises DamageDetected."""
    found: list[Entry] = []
    size = 0
    for file in files.from_index(first):
        for entry in _live(file, file.frames_before_index(first)):
            if entry.header.index < first:
                continue
            size += layout.entry_bytes(entry)
            if found and size > max_bytes:
                return found
            found.append(entry)
            if entry.header.index == last:
                return found
    return found


def find_batch_at_time(
    files: LogFiles, timestamp_ms: TimestampMs, start: Offset, end: Offset
) -> memoryview | None:
    """The first batch from `start` on and below `end` that holds a time at or after this one."""
    for file in files.from_offset(start):
        if file.max_time_ms < timestamp_ms:
            continue
        for entry in _live(file, file.frames_before_time(timestamp_ms)):
            if entry.header.kind is not EntryKind.BATCH or entry.header.next_offset <= start:
                continue
            if entry.header.next_offset > end:
                return None
            if layout.max_timestamp_ms(entry) >= timestamp_ms:
                return memoryview(entry.payload)
    return None


def _live(file: LogFile, frames: Iterator[Frame]) -> Iterator[Entry]:
    for frame in frames:
        yield from live_entries(file, frame)


def live_entries(file: LogFile, frame: Frame) -> list[Entry]:
    """The entries of a frame that are not void."""
    limit = file.void_after(frame.position)
    entries = layout.entries_of(frame.content, _headers_of(frame))
    return [entry for entry in entries if entry.header.index < limit]


def _headers_of(frame: Frame) -> list[EntryHeader]:
    if frame.preamble.kind is not FrameKind.ENTRIES:
        return []
    return layout.read_headers(frame.content, frame.preamble.count)


class Collected:
    """Batches from `start` on, within the bounds of a read, but never less than one."""

    def __init__(self, start: Offset, end: Offset, max_bytes: int) -> None:
        """Wants batches up to, not including, `end`."""
        self.slices: list[memoryview] = []
        self._next = start
        self._end = end
        self._left = max_bytes
        self._base: Offset | None = None

    def take(
        self, content: memoryview, headers: Sequence[EntryHeader], limit: Index = END_OF_INDEXES
    ) -> bool:
        """Takes what it may of a frame's entries below `limit`; False when that was all."""
        at = len(headers) * ENTRY_HEADER_BYTES
        first = stop = -1
        goes_on = True
        for header in headers:
            if header.index >= limit:
                break
            if header.kind is EntryKind.BATCH and header.next_offset > self._next:
                too_much = self._base is not None and header.payload_bytes > self._left
                if header.next_offset > self._end or too_much:
                    goes_on = False
                    break
                if stop != at:
                    self._keep(content, first, stop)
                    first = at
                stop = at + header.payload_bytes
                self._left -= header.payload_bytes
                self._next = header.next_offset
                self._base = header.base_offset if self._base is None else self._base
            elif header.kind is EntryKind.GAP and self._next < header.next_offset <= self._end:
                self._next = header.next_offset  # what stood here has been compacted away
            at += header.payload_bytes
        self._keep(content, first, stop)
        return goes_on and self._next < self._end and self._left > 0

    @property
    def exceeded(self) -> bool:
        """Whether one batch alone was larger than the bound."""
        return self._left < 0

    def go_on_with(self, second: "Collected", end: Offset) -> None:
        """Takes what was collected behind this, up to `end`, if this came to where it begins.

        `second` had the rest of this one's bound; if it exceeds that, it is left to the next read.
        """
        if self.complete and not (self.slices and second.exceeded):
            behind = second.slice()
            if self._base is None and behind.batches:
                self._base = behind.base_offset
            self.slices += behind.batches
            self._next = behind.next_offset
        self._end = end

    def _keep(self, content: memoryview, first: int, stop: int) -> None:
        if first >= 0:
            self.slices.append(content[first:stop])

    @property
    def complete(self) -> bool:
        """Whether the end was reached, with or without anything on the way."""
        return self._next >= self._end

    def slice(self) -> Slice:
        """What was collected."""
        base = self._next if self._base is None else self._base
        size = sum(len(part) for part in self.slices)
        return Slice(tuple(self.slices), base, self._next, size)
