"""A damaged log goes on without what is damaged: looked through once, cut, and filled by its peers.

1. Every file is read from its beginning; the first that is not whole ends what can be relied on.
2. What anything here shows to have been durable, later frames and the journal's mark included, is
   the log's last known position: its replica votes for nobody who holds less (DESIGN section 5).
3. Where entries are gone and the snapshot that stands for them cannot be read, what the log stands
   on is gone: none of it is whole then, and it begins anew before its first entry.
4. The manifest names the whole files, a fresh one behind them, and the rest as quarantined: kept,
   and never read again. Before it the log is as damaged as it was; after it, merely short.

All calls block. The log is closed.
"""

from collections.abc import Mapping
from uuid import UUID

import msgspec

from appliance.crypto.chain import GENESIS
from appliance.crypto.sealed import PREAMBLE_BYTES, FrameKind, Preamble, read_preamble
from appliance.errors import DamageDetected
from appliance.ports import Entropy, SecretKey
from appliance.storage import layout
from appliance.storage.contents import Contents, ContentsCache, FileHome
from appliance.storage.disk import Disk
from appliance.storage.epochs import NO_EPOCH, EpochTable
from appliance.storage.logfile import LogFile
from appliance.storage.manifest import FileEntry, Manifest
from appliance.storage.marks import MarkRecord
from appliance.storage.segment import SegmentReader
from appliance.storage.snapshot import SnapshotStore
from appliance.types import ClusterId, Index, Offset, PartitionId, Position, Term

NOTHING = Position(Term(0), Index(0))


class Survey(msgspec.Struct, frozen=True):
    """How many files are whole, from the first on, and the last position known to be durable."""

    whole: int
    known_last: Position


class Quarantine:
    """One log, closed, and what is wrong with it."""

    def __init__(
        self,
        disk: Disk,
        cluster: ClusterId,
        partition: PartitionId,
        manifest: Manifest,
        *,
        data_keys: Mapping[int, SecretKey],
        entropy: Entropy,
    ) -> None:
        """`data_keys` has the key of each epoch of the manifest."""
        self._disk = disk
        self._partition = partition
        self._manifest = manifest
        self._entropy = entropy
        self._home = FileHome(
            disk, cluster, partition,
            data_keys=dict(data_keys), entropy=entropy, cache=ContentsCache(),
        )  # fmt: skip

    def survey(self, mark: MarkRecord | None) -> Survey:
        """Reads everything that can be read. Raises StorageError if the disk cannot be."""
        files = self._manifest.files
        whole, known = len(files), NOTHING if mark is None else mark.position
        for at, entry in enumerate(files):
            is_whole, last = self._look(entry, mark)
            known = max(known, last)
            if not is_whole:
                whole = min(whole, at)
        return Survey(whole, known)

    def _look(self, entry: FileEntry, mark: MarkRecord | None) -> tuple[bool, Position]:
        """Whether a file is what it was, and the last position that it shows."""
        file = LogFile(entry, self._home)
        if str(entry.file) not in self._disk.names(str(self._partition)):
            return False, NOTHING
        contents = self._home.opened(entry, file.beginning)
        try:
            return self._read(entry, file, contents, mark)
        finally:
            contents.close()

    @staticmethod
    def _read(
        entry: FileEntry, file: LogFile, contents: Contents, mark: MarkRecord | None
    ) -> tuple[bool, Position]:
        size, closed, reader = contents.file.size(), entry.closed, contents.reader()
        end = size if closed is None else min(size, closed.length)
        last = NOTHING
        for frame in reader.scan(file.beginning, end):
            last = max(last, _last_of(frame.preamble, frame.content))
        if closed is not None:
            is_whole = (reader.tail.position, reader.tail.tag) == (closed.length, closed.tag)
        else:
            marked = mark.length if mark is not None and mark.file == entry.file else 0
            is_whole = _is_torn_at_most(reader, end, marked)
        if not is_whole:
            for later in reader.beyond(end):
                last = max(last, _last_of(read_preamble(later), later[PREAMBLE_BYTES:]))
        return is_whole, last

    def has_snapshot(self, snapshots: SnapshotStore) -> bool:
        """Whether the log's snapshot can be read, if it needs one."""
        named = self._manifest.snapshot
        if named is msgspec.UNSET or self._manifest.is_whole:
            return True
        try:
            snapshots.read(self._partition, named.file)
        except DamageDetected:
            return False
        return True

    def begun_anew(self) -> Manifest:
        """The manifest of an empty log that begins before its first entry; see `cut`."""
        manifest = self._manifest
        fresh = FileEntry(
            UUID(bytes=self._entropy.random_bytes(16)),
            manifest.newest.epoch,
            Index(1),
            Offset(0),
            GENESIS,
        )
        self._disk.create(f"{self._partition}/{fresh.file}").close()
        return msgspec.structs.replace(
            manifest,
            sequence=manifest.sequence + 1,
            files=(fresh,),
            epoch_table=(NO_EPOCH,),
            start_offset=Offset(0),
            compacted=Offset(0),
            quarantined=(*manifest.set_aside, *manifest.files),
            snapshot=msgspec.UNSET,
        )

    def cut(self, whole: int) -> Manifest:
        """The manifest of the first `whole` files with a fresh one behind them; the file is made.

        Its sequence is the next one; it takes effect when it replaces the old manifest.
        """
        manifest = self._manifest
        lost = manifest.files[whole:]
        begins = lost[0]
        before = manifest.files[whole - 1].closed if whole else None
        fresh = FileEntry(
            UUID(bytes=self._entropy.random_bytes(16)),
            manifest.newest.epoch,
            begins.first_index,
            begins.first_offset,
            begins.first_tag if before is None else before.tag,
        )
        self._disk.create(f"{self._partition}/{fresh.file}").close()
        return msgspec.structs.replace(
            manifest,
            sequence=manifest.sequence + 1,
            files=(*manifest.files[:whole], fresh),
            epoch_table=EpochTable(manifest.epoch_table).before(begins.first_index),
            start_offset=min(manifest.start_offset, begins.first_offset),
            quarantined=(*manifest.set_aside, *lost),
        )


def _last_of(preamble: Preamble, content: memoryview) -> Position:
    if preamble.kind is not FrameKind.ENTRIES:
        return NOTHING
    header = layout.read_headers(content, preamble.count)[-1]
    return Position(header.term, header.index)


def _is_torn_at_most(reader: SegmentReader, end: int, marked: int) -> bool:
    try:
        reader.judge_tail(end, marked)
    except DamageDetected:
        return False
    return True
