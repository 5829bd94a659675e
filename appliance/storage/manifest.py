"""A partition's manifest: its files in order and its wrapped keys, sealed and replaced whole.

Roll, deletion and a truncation across files take effect by it. What it does not name is never read;
what it names and is not there, or ends in another tag, is damage (DESIGN section 5). Each key epoch
has one data key, and each file is sealed under the epoch that was the newest when it began.
"""

from collections.abc import Callable
from uuid import UUID

import msgspec

from appliance.crypto.keyring import file_key
from appliance.crypto.sealed import Place, Purpose
from appliance.errors import DamageDetected
from appliance.limits import MAX_DOCUMENT_BYTES
from appliance.ports import Entropy, SecretKey, WrappedKey
from appliance.storage.disk import Disk
from appliance.storage.document import open_document, seal_document
from appliance.storage.epochs import Epoch
from appliance.storage.snapshot import SnapshotStore
from appliance.types import ClusterId, Index, KeyDomainId, Offset, PartitionId, TimestampMs


class Void(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A void frame: where it stands, and the first entry before it that is void."""

    position: int
    first_index: Index


class ClosedEnd(msgspec.Struct, frozen=True):
    """How a closed file ends, the largest time of its batches, and what is void in it."""

    length: int
    tag: bytes
    max_time_ms: TimestampMs
    voids: tuple[Void, ...] = ()


class EpochKey(msgspec.Struct, frozen=True):
    """The data key of one epoch: its wrap, and the commitment that tells it from a wrong one."""

    epoch: int
    wrapped: WrappedKey
    commitment: bytes


class FileEntry(msgspec.Struct, frozen=True):
    """One data file: its key, where it begins, what its first frame binds, its end once closed."""

    file: UUID
    key_epoch: int
    first_index: Index
    first_offset: Offset
    first_tag: bytes
    closed: ClosedEnd | None = None


class SnapshotEntry(msgspec.Struct, frozen=True, gc=False):
    """The snapshot of what the log amounts to: its file, and the last entry that it takes in."""

    file: UUID
    index: Index


class Manifest(msgspec.Struct, frozen=True):
    """Everything that a log is; `sequence` grows with each replacement.

    `keys` are in order of their epochs; new files are sealed under the last. `epoch_table` has the
    runs of terms up to where the active file begins, from the one that holds the position before
    the first file on. `start_offset` may lie within the first file. `journal` is the sequence that
    the node's journal had reached: one that is found with a smaller one was rolled back.
    `compacted` is where the last pass of compaction ended. `quarantined` are files that were found
    damaged, and those after them: they stay where they are, and are not read. `snapshot` holds what
    the entries up to its index amount to: at least those before the first file, if any are gone.
    """

    sequence: int
    domain: KeyDomainId
    keys: tuple[EpochKey, ...]
    files: tuple[FileEntry, ...]
    epoch_table: tuple[Epoch, ...]
    start_offset: Offset
    journal: int = 0
    compacted: Offset = Offset(0)
    quarantined: tuple[FileEntry, ...] | msgspec.UnsetType = msgspec.UNSET
    snapshot: SnapshotEntry | msgspec.UnsetType = msgspec.UNSET

    @property
    def set_aside(self) -> tuple[FileEntry, ...]:
        """The quarantined files."""
        return () if self.quarantined is msgspec.UNSET else self.quarantined

    @property
    def is_whole(self) -> bool:
        """Whether the log holds its first entry: its snapshot spares work, and stands for none."""
        return self.files[0].first_index == 1

    @property
    def newest(self) -> EpochKey:
        """The key that new files are sealed under."""
        return self.keys[-1]

    def with_wrap(self, epoch: int, old: WrappedKey, new: WrappedKey) -> "Manifest":
        """The same with another wrap of the same data key, if `old` still stands."""
        keys = tuple(
            msgspec.structs.replace(key, wrapped=new)
            if (key.epoch, key.wrapped) == (epoch, old)
            else key
            for key in self.keys
        )
        return msgspec.structs.replace(self, keys=keys)


_decoder = msgspec.msgpack.Decoder(Manifest)


def manifest_in(document: bytes, place: Place, key: SecretKey) -> Manifest:
    """Opens a manifest; raises DamageDetected if anything in it was changed."""
    try:
        return _decoder.decode(open_document(document, place=place, key=key))
    except msgspec.MsgspecError:
        raise DamageDetected(f"partition {place.partition}: the manifest is malformed") from None


class ManifestStore:
    """Reads and replaces the manifests of one node, under the cluster's data key."""

    def __init__(
        self,
        disk: Disk,
        *,
        cluster: ClusterId,
        key: SecretKey,
        entropy: Entropy,
        journal: Callable[[], int],
    ) -> None:
        """`key` is the node's data key of the cluster's domain.

        `journal` gives the sequence up to which the node's journal is durable.
        """
        self._journal = journal
        self._disk = disk
        self._cluster = cluster
        self._key = key
        self._entropy = entropy
        self.snapshots = SnapshotStore(disk, cluster=cluster, key=key, entropy=entropy)
        """The snapshots that manifests name."""

    def read(self, partition: PartitionId) -> Manifest:
        """Blocks. Raises DamageDetected: it is missing, was changed, or the journal is older."""
        document = self._disk.read(_name(partition), MAX_DOCUMENT_BYTES)
        if document is None:
            raise DamageDetected(f"partition {partition} has no manifest")
        manifest = manifest_in(document, *self._sealing(partition))
        if manifest.journal > self._journal():
            raise DamageDetected(
                f"the node journal was rolled back: the manifest of partition {partition} knows "
                "a later one; this node must not return under its id"
            )
        return manifest

    def replace(self, partition: PartitionId, manifest: Manifest) -> None:
        """Blocks until the new manifest is durable."""
        place, key = self._sealing(partition)
        manifest = msgspec.structs.replace(manifest, journal=self._journal())
        content = msgspec.msgpack.encode(manifest)
        document = seal_document(content, clear=b"", place=place, key=key, entropy=self._entropy)
        self._disk.replace(_name(partition), document)

    def _sealing(self, partition: PartitionId) -> tuple[Place, SecretKey]:
        place = Place(Purpose.MANIFEST, self._cluster, partition, partition)
        return place, file_key(self._key, place.encoded())


def _name(partition: PartitionId) -> str:
    return f"{partition}/manifest"
