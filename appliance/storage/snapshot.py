"""Snapshots: what the entries of a group amount to, sealed, so that those entries need not be kept.

Rules: a snapshot is a document of its own, written once under a file id of its own, beside the data
files of its log and under the data key of the node (DESIGN section 5). It counts from when the
manifest names it, which is also when the entries go that it stands for; one that no manifest names
is garbage. What is in it is its group's business.
"""

from uuid import UUID

from appliance.crypto.keyring import file_key
from appliance.crypto.sealed import Place, Purpose
from appliance.errors import DamageDetected
from appliance.limits import MAX_DOCUMENT_BYTES
from appliance.ports import Entropy, SecretKey
from appliance.storage.disk import Disk, ReadableDisk
from appliance.storage.document import open_document, seal_document
from appliance.types import ClusterId, PartitionId

SUFFIX = "snapshot"


class SnapshotStore:
    """Reads and writes the snapshots of one node, under the cluster's data key. All calls block."""

    def __init__(self, disk: Disk, *, cluster: ClusterId, key: SecretKey, entropy: Entropy) -> None:
        """`key` is the node's data key of the cluster's domain."""
        self._disk = disk
        self._cluster = cluster
        self._key = key
        self._entropy = entropy

    def write(self, partition: PartitionId, content: bytes) -> UUID:
        """A new snapshot, durable when this returns; raises StorageFull, StorageError."""
        file = UUID(bytes=self._entropy.random_bytes(16))
        place = Place(Purpose.SNAPSHOT, self._cluster, partition, file)
        key = file_key(self._key, place.encoded())
        document = seal_document(content, clear=b"", place=place, key=key, entropy=self._entropy)
        self._disk.replace(snapshot_name(partition, file), document)
        return file

    def read(self, partition: PartitionId, file: UUID) -> bytes:
        """What a snapshot holds; raises DamageDetected if it is missing or was changed."""
        return read_snapshot(self._disk, self._cluster, self._key, partition, file)

    def remove(self, partition: PartitionId, file: UUID) -> None:
        """Removes a snapshot that no manifest names any more."""
        self._disk.remove(snapshot_name(partition, file))


def read_snapshot(
    disk: ReadableDisk, cluster: ClusterId, key: SecretKey, partition: PartitionId, file: UUID
) -> bytes:
    """What a snapshot holds; raises DamageDetected if it is missing or was changed. Blocks."""
    document = disk.read(snapshot_name(partition, file), MAX_DOCUMENT_BYTES)
    if document is None:
        raise DamageDetected(f"partition {partition}: snapshot {file} is not there")
    place = Place(Purpose.SNAPSHOT, cluster, partition, file)
    return open_document(document, place=place, key=file_key(key, place.encoded()))


def snapshot_name(partition: PartitionId, file: UUID) -> str:
    """Where a snapshot lies."""
    return f"{partition}/{file}.{SUFFIX}"
