"""The data files of one log, in order: the last one is written, the others are closed.

All calls block; the log makes them from worker threads.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from uuid import UUID

import msgspec

from appliance.crypto.keyring import file_key
from appliance.crypto.sealed import (
    NO_FRAME,
    PREAMBLE_BYTES,
    ExtentReader,
    FrameKind,
    FrameRef,
    Place,
    Purpose,
)
from appliance.errors import DamageDetected
from appliance.invariant import invariant
from appliance.ports import Entropy, SecretKey, WrappedKey
from appliance.storage.blockfile import BlockFile, Disk
from appliance.storage.index import SparseIndex
from appliance.storage.manifest import ClosedEnd, EpochKey, FileEntry, Manifest, ManifestStore
from appliance.storage.segment import Frame, SegmentReader, SegmentWriter, Tail
from appliance.types import ClusterId, Index, Offset, PartitionId


class LogFile:
    """One data file: its entry in the manifest, its index, and what reads and writes it."""

    def __init__(self, entry: FileEntry, file: BlockFile, place: Place, key: SecretKey) -> None:
        """Begins with an index of one place; recovery or appending adds the others."""
        self.entry = entry
        self.file = file
        self._place = place
        self._key = key
        self._extents: dict[int, ExtentReader] = {}
        self._writer: SegmentWriter | None = None
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

    def begin_writing(self, tail: Tail, entropy: Entropy) -> None:
        """Makes this the active file, to be continued at `tail`."""
        self._writer = SegmentWriter(
            self.file, place=self._place, key=self._key, tail=tail, entropy=entropy
        )

    def end_writing(self, kind: FrameKind) -> ClosedEnd:
        """Writes and syncs a last frame, of kind FINAL or STOP."""
        writer = self.writer
        flush = writer.lay_out([(kind, 0, bytearray(PREAMBLE_BYTES))])
        self.file.reserve(flush.position + len(flush.buffer))
        self.file.write(flush.position, flush.buffer)
        self.file.sync()
        writer.synced(flush.last)
        return ClosedEnd(writer.position, writer.tail.tag)

    @property
    def end(self) -> int:
        """Length of what is known to be durable or being written."""
        if self.entry.closed is not None:
            return self.entry.closed.length
        return self._writer.position if self._writer is not None else self.file.size()

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


class LogFiles:
    """A log's files, as its manifest names them."""

    def __init__(
        self,
        disk: Disk,
        store: ManifestStore,
        *,
        cluster: ClusterId,
        partition: PartitionId,
        manifest: Manifest,
        data_keys: Mapping[int, SecretKey],
        entropy: Entropy,
    ) -> None:
        """Opens every file that the manifest names; raises DamageDetected if one is missing.

        `data_keys` has the key of each epoch of the manifest.
        """
        self._disk = disk
        self._store = store
        self._cluster = cluster
        self._partition = partition
        self._manifest = manifest
        self._data_keys = dict(data_keys)
        self._next_key: tuple[EpochKey, SecretKey] | None = None
        self._changing = threading.Lock()
        self._entropy = entropy
        present = set(disk.names(str(partition)))
        missing = [entry.file for entry in manifest.files if str(entry.file) not in present]
        if missing:
            raise DamageDetected(f"partition {partition}: file {missing[0]} is not there")
        self._files = [
            self._opened(entry, disk.open(self._name(entry.file))) for entry in manifest.files
        ]

    def __iter__(self) -> Iterator[LogFile]:
        """The files, oldest first."""
        return iter(tuple(self._files))

    @property
    def first(self) -> LogFile:
        """The oldest file."""
        return self._files[0]

    @property
    def active(self) -> LogFile:
        """The file that is written."""
        return self._files[-1]

    def from_offset(self, offset: Offset) -> Iterator[LogFile]:
        """Files from the one that holds `offset` on."""
        return self._from(lambda file: file.entry.first_offset > offset)

    def from_index(self, index: Index) -> Iterator[LogFile]:
        """Files from the one that holds an entry on."""
        return self._from(lambda file: file.entry.first_index > index)

    def _from(self, beyond: Callable[[LogFile], bool]) -> Iterator[LogFile]:
        files = tuple(self._files)
        start = len(files) - 1
        while start > 0 and beyond(files[start]):
            start -= 1
        return iter(files[start:])

    def roll(self, first_index: Index, first_offset: Offset) -> LogFile:
        """Ends the active file and begins the next, in an order that any crash may interrupt.

        1. the final frame, synced; 2. the new file, named durably; 3. the manifest that names it
        and closes the old one. A new file without 3 is garbage; a final frame without 3 is gone
        on after, in a new extent.
        """
        old = self.active
        closed = old.end_writing(FrameKind.FINAL)
        file_id = UUID(bytes=self._entropy.random_bytes(16))
        key = self._take_next_key()
        entry = FileEntry(file_id, key.epoch, first_index, first_offset, closed.tag)
        file = self._disk.create(self._name(file_id))
        old.entry = msgspec.structs.replace(old.entry, closed=closed)
        entries = (*(known.entry for known in self._files), entry)

        def rolled(manifest: Manifest) -> Manifest:
            keys = manifest.keys if key.epoch == manifest.newest.epoch else (*manifest.keys, key)
            return msgspec.structs.replace(manifest, keys=keys, files=entries)

        self._change(rolled)
        fresh = self._opened(entry, file)
        fresh.begin_writing(fresh.beginning, self._entropy)
        self._files.append(fresh)
        return fresh

    # --- keys ----------------------------------------------------------------------------------

    @property
    def manifest(self) -> Manifest:
        """The manifest in force."""
        return self._manifest

    @property
    def newest_epoch(self) -> int:
        """The key epoch that the next file will have."""
        next_key = self._next_key
        return self._manifest.newest.epoch if next_key is None else next_key[0].epoch

    def stage_key(self, key: EpochKey, secret: SecretKey) -> None:
        """Has the next file sealed under a key of a newer epoch; touches no file now."""
        invariant(key.epoch > self._manifest.newest.epoch, "key epochs grow")
        self._next_key = (key, secret)

    def replace_wrap(self, epoch: int, old: WrappedKey, new: WrappedKey) -> None:
        """Puts a checked new wrap of the same data key in place of `old`, if that still stands."""

        def rewrapped(manifest: Manifest) -> Manifest:
            keys = tuple(
                msgspec.structs.replace(key, wrapped=new)
                if (key.epoch, key.wrapped) == (epoch, old)
                else key
                for key in manifest.keys
            )
            return msgspec.structs.replace(manifest, keys=keys)

        self._change(rewrapped)

    def _take_next_key(self) -> EpochKey:
        """The key that the file that begins now is sealed under."""
        if self._next_key is None:
            return self._manifest.newest
        key, secret = self._next_key
        self._data_keys[key.epoch] = secret
        self._next_key = None
        return key

    def _change(self, change: Callable[[Manifest], Manifest]) -> None:
        """Replaces the manifest: one change at a time, whichever thread it comes from."""
        with self._changing:
            changed = msgspec.structs.replace(
                change(self._manifest), sequence=self._manifest.sequence + 1
            )
            self._store.replace(self._partition, changed)
            self._manifest = changed

    def stop(self) -> None:
        """Seals a stop frame: the log was ended on purpose."""
        self.active.end_writing(FrameKind.STOP)

    def close(self) -> None:
        """Lets go of the files."""
        for file in self._files:
            file.file.close()

    def _opened(self, entry: FileEntry, file: BlockFile) -> LogFile:
        place = Place(Purpose.LOG, self._cluster, self._partition, entry.file)
        data_key = self._data_keys[entry.key_epoch]
        return LogFile(entry, file, place, file_key(data_key, place.encoded()))

    def _name(self, file: UUID) -> str:
        return f"{self._partition}/{file}"
