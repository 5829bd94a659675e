"""One data file of a log: its entry in the manifest, its index, its voids, its reader and writer.

A void frame takes back entries of the frames before it (DESIGN section 5: truncation writes, it
never cuts). So whoever reads a frame asks where the void begins at its position. What a closed
file holds beyond the first entry of the next one is void too.
"""

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from appliance.crypto.sealed import (
    NO_FRAME,
    PREAMBLE_BYTES,
    ExtentReader,
    FrameKind,
    FrameRef,
    Place,
)
from appliance.errors import DamageDetected
from appliance.invariant import invariant
from appliance.ports import Entropy, SecretKey
from appliance.storage.blockfile import BlockFile
from appliance.storage.index import SparseIndex
from appliance.storage.manifest import ClosedEnd, FileEntry, Void
from appliance.storage.segment import Flush, Frame, SegmentReader, SegmentWriter, Tail
from appliance.types import Index, Offset

_VOID: Final = struct.Struct(">QQ")
END_OF_INDEXES: Final = Index((1 << 64) - 1)


def read_void(frame: Frame) -> tuple[Index, Offset]:
    """What a void frame says: the first entry that is void, and the next offset from there."""
    if len(frame.content) != _VOID.size:
        raise DamageDetected("a void frame of another length")
    index, offset = _VOID.unpack(frame.content)
    return Index(index), Offset(offset)


class LogFile:
    """One data file; calls block."""

    def __init__(
        self,
        entry: FileEntry,
        file: BlockFile,
        place: Place,
        key: SecretKey,
        *,
        limit: Index = END_OF_INDEXES,
    ) -> None:
        """Begins with an index of one place; recovery or appending adds the others.

        `limit` is the first entry of the next file.
        """
        self.entry = entry
        self.file = file
        self.limit = limit
        self._place = place
        self._key = key
        self._extents: dict[int, ExtentReader] = {}
        self._writer: SegmentWriter | None = None
        self._readable = 0
        self._voids: list[Void] = [] if entry.closed is None else list(entry.closed.voids)
        self.index = SparseIndex(entry.first_index, entry.first_offset, self.beginning)

    @property
    def beginning(self) -> Tail:
        """Before the first frame."""
        return Tail(0, self.entry.first_tag, NO_FRAME, 0)

    @property
    def writer(self) -> SegmentWriter:
        """Only the active file has one."""
        if self._writer is None:
            invariant(self._writer is not None, "only the active file is written")
            raise DamageDetected
        return self._writer

    # --- writing -------------------------------------------------------------------------------

    def begin_writing(self, tail: Tail, entropy: Entropy) -> None:
        """Makes this the active file, to be continued at `tail`."""
        self._writer = SegmentWriter(
            self.file, place=self._place, key=self._key, tail=tail, entropy=entropy
        )
        self._readable = tail.position

    def put(self, flush: Flush) -> None:
        """Writes a flush and syncs it; raises StorageError, StorageFull."""
        self.file.reserve(flush.position + len(flush.buffer))
        self.file.write(flush.position, flush.buffer)
        self.file.sync()

    def synced(self, flush: Flush) -> None:
        """Learns that a flush is durable: it may be read now."""
        self.writer.synced(flush.last)
        self._readable = flush.position + len(flush.buffer)

    def void(self, index: Index, offset: Offset) -> None:
        """Voids entries from `index` on, durably; `offset` comes next then."""
        plaintext = bytearray(PREAMBLE_BYTES) + _VOID.pack(index, offset)
        flush = self.writer.lay_out([(FrameKind.VOID, 1, plaintext)])
        self.put(flush)
        self.note_void(flush.position, index)
        self.synced(flush)

    def note_void(self, position: int, index: Index) -> None:
        """Learns of a void frame at `position`."""
        self._voids.append(Void(position, index))
        self.index.void_from(index)

    def end_writing(self, kind: FrameKind) -> ClosedEnd:
        """Writes and syncs a last frame, of kind FINAL or STOP."""
        writer = self.writer
        flush = writer.lay_out([(kind, 0, bytearray(PREAMBLE_BYTES))])
        self.put(flush)
        self.synced(flush)
        return ClosedEnd(writer.position, writer.tail.tag, tuple(self._voids))

    def close(self, closed: ClosedEnd, limit: Index) -> None:
        """Takes its place among the closed files, before a file that begins with `limit`."""
        self.entry = msgspec.structs.replace(self.entry, closed=closed)
        self.limit = limit

    # --- reading -------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """Length of what is known to be durable."""
        if self.entry.closed is not None:
            return self.entry.closed.length
        return self._readable if self._writer is not None else self.file.size()

    @property
    def voids(self) -> int:
        """How many void frames it holds."""
        return len(self._voids)

    def void_after(self, position: int) -> Index:
        """The first entry that is void of those in a frame at `position`."""
        limit = self.limit
        for void in reversed(self._voids):
            if void.position <= position:
                break
            limit = min(limit, void.first_index)
        return limit

    def reader(self) -> SegmentReader:
        """A reader of its own place in the file."""
        return SegmentReader(self.file, place=self._place, key=self._key, extents=self._extents)

    def frames_before_offset(self, offset: Offset) -> Iterator[Frame]:
        """Frames from at or before the one that holds `offset`; raises DamageDetected."""
        return self._frames(self.index.before_offset(offset))

    def frames_before_index(self, index: Index) -> Iterator[Frame]:
        """Frames from at or before the one that holds an entry; raises DamageDetected."""
        return self._frames(self.index.before_index(index))

    def _frames(self, start: Tail) -> Iterator[Frame]:
        reader = self.reader()
        end = self.end
        yield from reader.scan(start, end)
        if reader.tail.position != end:
            bad = FrameRef(reader.tail.frame.extent, reader.tail.frame.number + 1)
            raise DamageDetected(
                f"file {self._place.file}: extent {bad.extent}, frame {bad.number} cannot be read"
            )
