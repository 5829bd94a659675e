"""The data files of one log, in order: the last one is written, the others are closed.

Whatever changes the order of files takes effect by the manifest, in steps that any crash may
interrupt: what is new is made durable, the manifest that names it replaces the old one, and what it
names no more is removed. Before the manifest the new files are garbage, after it the old ones are.

All calls block; the log makes them from worker threads, one change at a time.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

import msgspec
import structlog

from appliance.crypto.chain import GENESIS
from appliance.crypto.sealed import FrameKind
from appliance.errors import DamageDetected, StorageFull
from appliance.invariant import invariant
from appliance.ports import Entropy, SecretKey, SegmentInfo, Snapshot, WrappedKey
from appliance.storage.contents import ContentsCache, FileHome
from appliance.storage.disk import Disk
from appliance.storage.epochs import Epoch, EpochTable
from appliance.storage.logfile import END_OF_INDEXES, LogFile
from appliance.storage.manifest import (
    ClosedEnd,
    EpochKey,
    FileEntry,
    Manifest,
    ManifestStore,
    SnapshotEntry,
)
from appliance.storage.marks import MarkRecord
from appliance.storage.snapshot import SUFFIX as SNAPSHOT
from appliance.types import ClusterId, Index, Offset, PartitionId, Position

_log = structlog.get_logger()


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
        cache: ContentsCache,
    ) -> None:
        """Opens the active file of a manifest; raises DamageDetected if any file is missing.

        `data_keys` has the key of each epoch of the manifest.
        """
        self._store = store
        self._partition = partition
        self._manifest = manifest
        self._entropy = entropy
        self._data_keys = dict(data_keys)
        self._next_key: tuple[EpochKey, SecretKey] | None = None
        self._new_keys: tuple[EpochKey, ...] = ()
        self._new_snapshot: SnapshotEntry | None = None
        self._changing = threading.Lock()
        self._home = FileHome(
            disk, cluster, partition,
            data_keys=self._data_keys, entropy=entropy, cache=cache,
        )  # fmt: skip
        _check_present(disk, partition, manifest)
        limits = [*(entry.first_index for entry in manifest.files[1:]), END_OF_INDEXES]
        self._files = [
            LogFile(entry, self._home, limit=limit)
            for entry, limit in zip(manifest.files, limits, strict=True)
        ]
        self.active.open_active()

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

    @property
    def manifest(self) -> Manifest:
        """The manifest in force."""
        return self._manifest

    @property
    def start_offset(self) -> Offset:
        """Where the log begins for readers."""
        return self._manifest.start_offset

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

    def mark(self, last: Position) -> MarkRecord:
        """How far the log is durable, whose last entry that is not void is at `last`."""
        active = self.active
        return MarkRecord(
            self._partition,
            self._manifest.sequence,
            active.entry.file,
            active.writer.durable,
            active.end,
            last,
        )

    def segments(self, end: Offset) -> tuple[SegmentInfo, ...]:
        """Every file, up to the next offset `end`."""
        files = tuple(self._files)
        ends = [*(file.entry.first_offset for file in files[1:]), end]
        return tuple(
            SegmentInfo(file.entry.first_index, file.entry.first_offset, next_offset,
                        file.end, file.max_time_ms)
            for file, next_offset in zip(files, ends, strict=True)
        )  # fmt: skip

    # --- changes -------------------------------------------------------------------------------

    def roll(self, first_index: Index, first_offset: Offset, epochs: tuple[Epoch, ...]) -> LogFile:
        """Ends the active file with a final frame and begins the next.

        A final frame without the manifest that says so is gone on after, in a new extent.
        """
        old = self.active
        closed = old.end_writing(FrameKind.FINAL)
        fresh = self._made(first_index, first_offset, closed.tag)
        ended = msgspec.structs.replace(old.entry, closed=closed)
        entries = (*(file.entry for file in self._files[:-1]), ended, fresh.entry)
        try:
            self._name_files(entries, epochs)
        except StorageFull:
            fresh.remove()
            raise
        old.close(closed, first_index)
        self._files.append(fresh)
        return fresh

    def truncate(self, index: Index, offset: Offset, epochs: tuple[Epoch, ...]) -> None:
        """Voids entries from `index` on, durably; `offset` comes next then.

        Within the active file that is a void frame. Further back, a new file that begins with the
        void frame follows the last one that still holds anything, and the manifest lets go of the
        files between.
        """
        if self.active.entry.first_index <= index:
            self.active.void(index, offset)
            return
        kept = [file for file in self._files if file.entry.first_index < index]
        before = kept[-1].entry.closed if kept else None
        tag = self.first.entry.first_tag if before is None else before.tag
        fresh = self._made(index, offset, tag)
        fresh.void(index, offset)
        self._name_files((*(file.entry for file in kept), fresh.entry), epochs)
        if kept:
            kept[-1].limit = index
        self._take_over([*kept, fresh])

    def closed_at(self, first_index: Index) -> LogFile | None:
        """The closed file that begins with this entry."""
        found = [file for file in self._files[:-1] if file.entry.first_index == first_index]
        return found[-1] if found else None

    def begin_rewrite(self, old: LogFile) -> LogFile:
        """A new file for the entries of a closed one, under the newest key in use."""
        entry = msgspec.structs.replace(
            old.entry,
            file=UUID(bytes=self._entropy.random_bytes(16)),
            key_epoch=self._manifest.newest.epoch,
            closed=None,
        )
        fresh = LogFile(entry, self._home)
        fresh.make()
        return fresh

    def take_rewritten(self, old: LogFile, fresh: LogFile, closed: ClosedEnd) -> None:
        """Puts a rewritten file in the old one's place, unless that or its key is gone by now."""
        epochs = {key.epoch for key in self._manifest.keys}
        if old not in self._files or fresh.entry.key_epoch not in epochs:
            fresh.remove()
            return
        ended = msgspec.structs.replace(fresh.entry, closed=closed)
        entries = tuple(ended if file is old else file.entry for file in self._files)
        self._name_files(entries, self._manifest.epoch_table)
        fresh.close(closed, old.limit)
        self._take_over([fresh if file is old else file for file in self._files])

    @property
    def outdated(self) -> list[LogFile]:
        """Files that are sealed under an older key than the next one will be, oldest first."""
        newest = self.newest_epoch
        return [file for file in self._files if file.entry.key_epoch < newest]

    def renew_active(self) -> None:
        """Puts a new file in place of the active one, which holds no entry that is not void."""
        old = self.active.entry
        fresh = self._made(old.first_index, old.first_offset, old.first_tag)
        entries = (*(file.entry for file in self._files[:-1]), fresh.entry)
        try:
            self._name_files(entries, self._manifest.epoch_table)
        except StorageFull:
            fresh.remove()
            raise
        self._take_over([*self._files[:-1], fresh])

    def remove_torn(self) -> None:
        """Removes the torn ends that were kept aside: they are sealed under keys of before."""
        self._home.remove_torn()

    def set_compacted(self, end: Offset) -> None:
        """Remembers where a pass of compaction ended."""
        self._change(lambda manifest: msgspec.structs.replace(manifest, compacted=end))

    def reset(
        self,
        index: Index,
        offset: Offset,
        epochs: tuple[Epoch, ...],
        snapshot: Snapshot | None = None,
    ) -> None:
        """Begins anew with one empty file, which `index` and `offset` come first in.

        `snapshot` takes the place of the one before, at the same moment.
        """
        fresh = self._made(index, offset, GENESIS)
        with self._snapshot_changing(snapshot):
            self._name_files((fresh.entry,), epochs, start_offset=offset)
        self._take_over([fresh])

    def first_kept(self, offset: Offset, applied: Index) -> LogFile:
        """The oldest file that does not lie below `offset` whole, or holds what follows `applied`.

        The last one is kept in any case.
        """
        kept = self._files[0]
        for file in self._files:
            if file.entry.first_offset <= offset and file.entry.first_index <= applied + 1:
                kept = file
        return kept

    def raise_start(self, offset: Offset, applied: Index, snapshot: Snapshot | None = None) -> None:
        """Moves the log's start up to `offset`.

        Files that lie below it whole, and hold nothing after `applied`, are removed; `snapshot`
        takes the place of the one before, at the same moment.
        """
        at = self._files.index(self.first_kept(offset, applied))
        if offset <= self.start_offset and not at:
            return
        offset = max(offset, self.start_offset)
        kept = self._files[at:]
        epochs = EpochTable(self._manifest.epoch_table)
        epochs.forget_before(Index(kept[0].entry.first_index - 1))
        entries = tuple(file.entry for file in kept)
        with self._snapshot_changing(snapshot):
            self._name_files(entries, epochs.runs, start_offset=offset)
        self._take_over(kept)

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """Puts a snapshot in place of the one before; the files stay."""
        with self._snapshot_changing(snapshot):
            self._change(self._naming_snapshot)

    @property
    def snapshot_index(self) -> Index | None:
        """The last entry that the snapshot takes in; None where there is none."""
        named = self._manifest.snapshot
        return None if named is msgspec.UNSET else named.index

    def read_snapshot(self) -> Snapshot | None:
        """The snapshot that the manifest names.

        None for one that cannot be read although every entry is there. Raises DamageDetected.
        """
        named = self._manifest.snapshot
        if named is msgspec.UNSET:
            return None
        try:
            return Snapshot(named.index, self._store.snapshots.read(self._partition, named.file))
        except DamageDetected as damage:
            if not self._manifest.is_whole:
                raise
            _log.warning("a damaged snapshot is passed over: the log holds what it stood for",
                         partition=str(self._partition), reason=str(damage))  # fmt: skip
            return None

    @contextmanager
    def _snapshot_changing(self, snapshot: Snapshot | None) -> Iterator[None]:
        """Has the manifest that is written meanwhile name another snapshot, if one is given."""
        if snapshot is None:
            yield
            return
        before = self._manifest.snapshot
        file = self._store.snapshots.write(self._partition, snapshot.state)
        self._new_snapshot = SnapshotEntry(file, snapshot.index)
        try:
            yield
        except StorageFull:
            self._store.snapshots.remove(self._partition, file)
            raise
        finally:
            self._new_snapshot = None
        if before is not msgspec.UNSET:
            self._store.snapshots.remove(self._partition, before.file)

    def _naming_snapshot(self, manifest: Manifest) -> Manifest:
        fresh = self._new_snapshot
        return manifest if fresh is None else msgspec.structs.replace(manifest, snapshot=fresh)

    def _made(self, first_index: Index, first_offset: Offset, first_tag: bytes) -> LogFile:
        """A new file, durably there, that no manifest names yet."""
        file_id = UUID(bytes=self._entropy.random_bytes(16))
        key = self._take_next_key()
        entry = FileEntry(file_id, key.epoch, first_index, first_offset, first_tag)
        fresh = LogFile(entry, self._home)
        fresh.make()
        return fresh

    def _name_files(
        self,
        entries: tuple[FileEntry, ...],
        epochs: tuple[Epoch, ...],
        start_offset: Offset | None = None,
    ) -> None:
        """Makes these the log's files, by the manifest; keys that none of them needs go."""
        needed = {entry.key_epoch for entry in (*entries, *self._manifest.set_aside)}
        start = self.start_offset if start_offset is None else start_offset

        def changed(manifest: Manifest) -> Manifest:
            keys = (*manifest.keys, *self._new_keys)
            return msgspec.structs.replace(
                self._naming_snapshot(manifest),
                keys=tuple(key for key in keys if key.epoch in needed),
                files=entries,
                epoch_table=epochs,
                start_offset=start,
            )

        self._change(changed)
        self._new_keys = ()
        for epoch in self._data_keys.keys() - needed:
            self._data_keys[epoch].wipe()

    def _take_over(self, files: list[LogFile]) -> None:
        """Goes on with these files and removes the others, which no manifest names any more."""
        gone = [file for file in self._files if file not in files]
        self._files = files
        for file in gone:
            file.remove()

    # --- keys ----------------------------------------------------------------------------------

    @property
    def newest_epoch(self) -> int:
        """The key epoch that the next file will have."""
        # A key goes from staged to new to the manifest, maybe in a thread of its own just now:
        # looked for in that order, it is not missed.
        if (staged := self._next_key) is not None:
            return staged[0].epoch
        if new := self._new_keys:
            return new[-1].epoch
        return self._manifest.newest.epoch

    def stage_key(self, key: EpochKey, secret: SecretKey) -> None:
        """Has the next file sealed under a key of a newer epoch; touches no file now."""
        invariant(key.epoch > self.newest_epoch, "key epochs grow")
        self._next_key = (key, secret)

    @property
    def kept_keys(self) -> tuple[EpochKey, ...]:
        """Every data key of this log, the next file's included."""
        with self._changing:
            staged = () if self._next_key is None else (self._next_key[0],)
            return (*self._manifest.keys, *self._new_keys, *staged)

    def replace_wrap(self, epoch: int, old: WrappedKey, new: WrappedKey) -> None:
        """Puts a checked new wrap of the same data key in place of `old`, if that still stands."""

        def rewrapped(key: EpochKey) -> EpochKey:
            if (key.epoch, key.wrapped) != (epoch, old):
                return key
            return msgspec.structs.replace(key, wrapped=new)

        def changed(manifest: Manifest) -> Manifest:
            self._new_keys = tuple(rewrapped(key) for key in self._new_keys)
            if self._next_key is not None:
                self._next_key = (rewrapped(self._next_key[0]), self._next_key[1])
            return manifest.with_wrap(epoch, old, new)

        self._change(changed)

    def _take_next_key(self) -> EpochKey:
        """The key that the file that begins now is sealed under."""
        with self._changing:
            if self._next_key is None:
                return self._new_keys[-1] if self._new_keys else self._manifest.newest
            key, secret = self._next_key
            self._data_keys[key.epoch] = secret
            self._new_keys = (key,)
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
        """Lets go of the files, and wipes their keys and those that they are derived from."""
        for file in self._files:
            file.let_go()
        with self._changing:
            staged = () if self._next_key is None else (self._next_key[1],)
            for secret in (*self._data_keys.values(), *staged):
                secret.wipe()


_REMOVED = {"", "index", SNAPSHOT, f"{SNAPSHOT}.new"}
"""Endings of files that are of no use once no manifest names them."""


def _check_present(disk: Disk, partition: PartitionId, manifest: Manifest) -> None:
    """Raises DamageDetected if a file is missing; removes what a crash left unnamed."""
    present = set(disk.names(str(partition)))
    named = {str(entry.file) for entry in manifest.files}
    missing = sorted(named - present)
    if missing:
        raise DamageDetected(f"partition {partition}: file {missing[0]} is not there")
    if manifest.snapshot is not msgspec.UNSET:  # whoever reads it finds out whether it is there
        named.add(f"{manifest.snapshot.file}.{SNAPSHOT}")
    kept = named | {str(entry.file) for entry in manifest.set_aside}
    for name in sorted(present - named):
        file, _, suffix = name.partition(".")
        if _is_uuid(file) and suffix in _REMOVED and file not in kept:
            disk.remove(f"{partition}/{name}")


def _is_uuid(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
