"""One data file of a log: its entry in the manifest, its voids, what reads and what writes it.

A void frame takes back entries of the frames before it (DESIGN section 5: truncation writes, it
never cuts). So whoever reads a frame asks where the void begins at its position. What a closed
file holds beyond the first entry of the next one is void too.

The active file holds its contents; a closed one borrows them from the cache when it is read.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from appliance.crypto.sealed import NO_FRAME, PREAMBLE_BYTES, FrameKind
from appliance.errors import DamageDetected, StorageFull
from appliance.invariant import invariant
from appliance.storage import layout
from appliance.storage.contents import Contents, FileHome
from appliance.storage.disk import BlockFile
from appliance.storage.index import NO_TIME, SparseIndex
from appliance.storage.manifest import ClosedEnd, FileEntry, Void
from appliance.storage.segment import Flush, Frame, SegmentReader, SegmentWriter, Tail
from appliance.types import Entry, Index, Offset, TimestampMs

END_OF_INDEXES: Final = Index((1 << 64) - 1)


class Written:
    """What only the active file has: contents that stay, a writer, and what it has come to."""

    __slots__ = (
        "contents",
        "first_time_ms",
        "frames",
        "max_time_ms",
        "readable",
        "voids",
        "writer",
    )

    def __init__(self, contents: Contents) -> None:
        """Begins with an index of one place and no writer; recovery or appending add to it."""
        self.contents = contents
        self.writer: SegmentWriter | None = None
        self.readable = 0
        self.frames = 0
        self.voids: list[Void] = []
        self.first_time_ms = NO_TIME
        self.max_time_ms = NO_TIME


class LogFile:
    """One data file; calls block."""

    __slots__ = ("_home", "_written", "entry", "limit")

    def __init__(self, entry: FileEntry, home: FileHome, *, limit: Index = END_OF_INDEXES) -> None:
        """A file of a manifest; `limit` is the first entry of the next file."""
        self.entry = entry
        self.limit = limit
        self._home = home
        self._written: Written | None = None

    @property
    def beginning(self) -> Tail:
        """Before the first frame."""
        return Tail(0, self.entry.first_tag, NO_FRAME, 0)

    # --- writing -------------------------------------------------------------------------------

    def make(self) -> None:
        """Makes the file, empty, to be written from its beginning."""
        self._written = Written(self._home.created(self.entry, self.beginning))
        self.begin_writing(self.beginning)

    def open_active(self) -> None:
        """Opens the active file, to be scanned from its beginning."""
        self._written = Written(self._home.opened(self.entry, self.beginning))

    def begin_writing(self, tail: Tail) -> None:
        """Has the active file continued at `tail`."""
        active, contents = self._active, self._active.contents
        active.writer = SegmentWriter(
            contents.file,
            place=contents.place,
            key=contents.key,
            tail=tail,
            entropy=self._home.entropy,
            extents=contents.extents,
            buffers=self._home.buffers,
        )
        active.readable = tail.position

    @property
    def _active(self) -> Written:
        if self._written is None:
            invariant(self._written is not None, "only the active file is written")
            raise DamageDetected
        return self._written

    @property
    def writer(self) -> SegmentWriter:
        """The active file's writer."""
        writer = self._active.writer
        if writer is None:
            invariant(writer is not None, "a file is scanned before it is written")
            raise DamageDetected
        return writer

    @property
    def file(self) -> BlockFile:
        """The active file on the disk."""
        return self._active.contents.file

    @property
    def index(self) -> SparseIndex:
        """The active file's index."""
        return self._active.contents.index

    def seal(
        self, frames: Sequence[tuple[FrameKind, int, bytearray]], *, joined: bool = False
    ) -> Flush:
        """Lays out a flush, to be written next or taken back; see `SegmentWriter.lay_out`."""
        return self.writer.lay_out(frames, joined=joined)

    def take_back(self, flush: Flush) -> None:
        """Forgets a flush for which there was no space, and all that was sealed after it."""
        self.writer.take_back(flush.befores[0])

    def write(self, flush: Flush) -> None:
        """Writes a flush and syncs it; raises StorageError, and StorageFull if none of it was."""
        file = self.file
        file.reserve(flush.end)
        file.write(flush.position, flush.buffers)
        file.sync()

    def put(self, flush: Flush) -> None:
        """As `write`, and takes back what found no space."""
        try:
            self.write(flush)
        except StorageFull:
            self.take_back(flush)
            raise

    def synced(self, flush: Flush) -> None:
        """Learns that a flush is durable: it may be read now, and its buffers used again."""
        self.writer.synced(flush.last)
        self._active.readable = flush.end
        for buffer in flush.buffers:
            self._home.buffers.give(buffer)

    def note(self, entries: Sequence[Entry], before: Tail) -> None:
        """Learns what a frame that follows `before` holds."""
        active, first = self._active, entries[0].header
        self.index.note(first.index, first.base_offset, before, active.max_time_ms)
        active.frames += 1
        if active.first_time_ms == NO_TIME:
            active.first_time_ms = first.leader_time_ms
        active.max_time_ms = max(active.max_time_ms, layout.max_time_ms(entries))

    def void(self, index: Index, offset: Offset) -> None:
        """Voids entries from `index` on, durably; `offset` comes next then."""
        plaintext = bytearray(PREAMBLE_BYTES) + layout.void_content(index, offset)
        flush = self.seal([(FrameKind.VOID, 1, plaintext)])
        self.put(flush)
        self.note_void(flush.position, index)
        self.synced(flush)

    def note_void(self, position: int, index: Index) -> None:
        """Learns of a void frame at `position`."""
        self._active.voids.append(Void(position, index))
        self.index.void_from(index)

    def end_writing(self, kind: FrameKind) -> ClosedEnd:
        """Writes and syncs a last frame, of kind FINAL or STOP."""
        writer = self.writer
        flush = self.seal([(kind, 0, bytearray(PREAMBLE_BYTES))])
        self.put(flush)
        self.synced(flush)
        active = self._active
        return ClosedEnd(writer.position, writer.tail.tag, active.max_time_ms, tuple(active.voids))

    def close(self, closed: ClosedEnd, limit: Index) -> None:
        """Takes its place among the closed files, before a file that begins with `limit`.

        What was reserved and not written is given back.
        """
        contents = self._active.contents
        contents.file.cut(closed.length)
        self._home.save_index(self.entry, contents, closed)
        self._home.keep(self.entry, contents)
        self.entry = msgspec.structs.replace(self.entry, closed=closed)
        self.limit = limit
        self._written = None

    def let_go(self) -> None:
        """Closes what is open; who reads it now is told so."""
        self._home.forget(self.entry)
        if self._written is not None:
            self._written.contents.close()

    def remove(self) -> None:
        """Removes a file that no manifest names any more."""
        self.let_go()
        self._home.removed(self.entry)

    # --- reading -------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """Length of what is known to be durable."""
        return self._active.readable if self.entry.closed is None else self.entry.closed.length

    @property
    def max_time_ms(self) -> TimestampMs:
        """The largest time of its batches, or -1."""
        closed = self.entry.closed
        return self._active.max_time_ms if closed is None else closed.max_time_ms

    @property
    def first_time_ms(self) -> TimestampMs:
        """The leader's time of the active file's first entry, or -1."""
        return self._active.first_time_ms

    @property
    def frames(self) -> int:
        """Frames with entries in the active file."""
        return self._active.frames

    def void_after(self, position: int) -> Index:
        """The first entry that is void of those in a frame at `position`."""
        limit = self.limit
        closed = self.entry.closed
        for void in reversed(self._active.voids if closed is None else closed.voids):
            if void.position <= position:
                break
            limit = min(limit, void.first_index)
        return limit

    def check_end(self) -> None:
        """Raises DamageDetected unless this is a closed file that ends as its manifest says."""
        if self.entry.closed is None:
            raise DamageDetected(f"file {self.entry.file} is followed and is not closed")
        self._home.check_end(self.entry, self.entry.closed)

    def contents(self) -> Contents:
        """What reading takes; raises DamageDetected."""
        written, closed = self._written, self.entry.closed
        if written is not None:
            return written.contents
        if closed is None:
            raise DamageDetected(f"file {self.entry.file} is not closed")
        return self._home.closed(self.entry, closed, self.beginning)

    def reader(self) -> SegmentReader:
        """A reader of its own place in the file."""
        return self.contents().reader()

    def frames_before_offset(self, offset: Offset) -> Iterator[Frame]:
        """Frames from at or before the one that holds `offset`; raises DamageDetected."""
        contents = self.contents()
        return self._frames(contents, contents.index.before_offset(offset))

    def frames_before_index(self, index: Index) -> Iterator[Frame]:
        """Frames from at or before the one that holds an entry; raises DamageDetected."""
        contents = self.contents()
        return self._frames(contents, contents.index.before_index(index))

    def frames_before_time(self, time_ms: TimestampMs) -> Iterator[Frame]:
        """Frames from before the first one with a batch of this time; raises DamageDetected."""
        contents = self.contents()
        return self._frames(contents, contents.index.before_time(time_ms))

    def _frames(self, contents: Contents, start: Tail) -> Iterator[Frame]:
        reader = contents.reader()
        end = self.end
        yield from reader.scan(start, end)
        if reader.tail.position != end:
            raise reader.unreadable()
