"""A node's directory opened to be looked at: keys and places of everything, and nothing is written.

The directory may be a running node's, or a copy of one: no lock is taken, and nothing is cut,
settled or removed.
"""

from uuid import UUID

import msgspec

from appliance.crypto.keyring import check_commitment, file_key
from appliance.crypto.sealed import FORMAT, Place, Purpose
from appliance.errors import ConfigurationError, DamageDetected, KeyProviderError
from appliance.limits import MAX_DOCUMENT_BYTES
from appliance.ports import KeyPlace, KeyProvider, SecretKey, WrapAt
from appliance.storage.disk import BlockFile, ReadableDisk
from appliance.storage.document import open_document
from appliance.storage.identity import (
    CONTROL,
    IDENTITY,
    Identity,
    Private,
    identity_in,
    private_in,
)
from appliance.storage.journal import read_records
from appliance.storage.manifest import FileEntry, Manifest, SnapshotEntry, manifest_in
from appliance.storage.marks import Remembered
from appliance.storage.segment import SegmentReader
from appliance.storage.snapshot import read_snapshot
from appliance.types import PartitionId

JOURNALS = "journals"


class SealedFile(msgspec.Struct, frozen=True):
    """An open file and what reads it."""

    name: str
    file: BlockFile
    reader: SegmentReader


class ExaminedLog(msgspec.Struct, frozen=True):
    """A log's manifest and the data key of each of its epochs."""

    partition: PartitionId
    manifest: Manifest
    keys: dict[int, SecretKey]


class Examination:
    """What of a directory can be opened with its keys."""

    def __init__(
        self,
        disk: ReadableDisk,
        identity: Identity,
        key: SecretKey,
        private: Private,
        keys: KeyProvider,
    ) -> None:
        """Use `open`."""
        self.disk = disk
        self.identity = identity
        self.private = private
        self._key = key
        self._keys = keys

    @classmethod
    async def open(cls, disk: ReadableDisk, keys: KeyProvider) -> "Examination":
        """Opens the identity.

        Raises ConfigurationError if there is none, KeyProviderError, DamageDetected.
        """
        document = disk.read(IDENTITY, MAX_DOCUMENT_BYTES)
        if document is None:
            raise ConfigurationError(f"{disk} holds no node: name a node's data directory")
        try:
            identity = identity_in(document)
            key = await keys.unwrap(identity.key_place(), identity.wrapped)
            check_commitment(key, identity.key_place(), identity.commitment)
            private = private_in(document, identity, key)
        except DamageDetected as error:
            raise DamageDetected(f"{disk}/{IDENTITY}: {error}") from None
        return cls(disk, identity, key, private, keys)

    def partitions(self) -> list[PartitionId]:
        """Every directory of a log, sorted, whether its manifest is there or not."""
        found = []
        for name in self.disk.names("."):
            try:
                found.append(PartitionId(UUID(name)))
            except ValueError:
                continue
        return found

    def journals(self) -> list[tuple[str, UUID]]:
        """(name, id) of the node journal and of every other."""
        others = [name for name in self.disk.names(JOURNALS) if "." not in name]
        return [
            (f"node-{self.private.journal}", self.private.journal),
            *((f"{JOURNALS}/{name}", UUID(name)) for name in others),
        ]

    def journal(self, name: str, file: UUID) -> SealedFile:
        """A journal, opened to be read. Raises StorageError."""
        place = Place(Purpose.JOURNAL, self.identity.cluster, CONTROL, file)
        return self._opened(name, place, file_key(self._key, place.encoded()))

    def remembered(self) -> Remembered:
        """What the node journal says. Raises DamageDetected."""
        sealed = self.journal(*self.journals()[0])
        try:
            remembered = Remembered()
            remembered.replay(read_records(sealed.reader, sealed.file.size()))
        finally:
            sealed.file.close()
        return remembered

    async def log(self, partition: PartitionId) -> ExaminedLog:
        """A log's manifest and keys. Raises DamageDetected, KeyProviderError."""
        document = self.disk.read(f"{partition}/manifest", MAX_DOCUMENT_BYTES)
        if document is None:
            raise DamageDetected("there is no manifest")
        place = Place(Purpose.MANIFEST, self.identity.cluster, partition, partition)
        manifest = manifest_in(document, place, file_key(self._key, place.encoded()))
        return ExaminedLog(partition, manifest, await self._data_keys(partition, manifest))

    async def _data_keys(self, partition: PartitionId, manifest: Manifest) -> dict[int, SecretKey]:
        places = [
            KeyPlace(self.identity.cluster, partition, manifest.domain, key.epoch, FORMAT)
            for key in manifest.keys
        ]
        wraps = [WrapAt(at, key.wrapped) for at, key in zip(places, manifest.keys, strict=True)]
        found = {}
        opened = await self._keys.unwrap_all(wraps)
        for at, key, outcome in zip(places, manifest.keys, opened, strict=True):
            if isinstance(outcome, KeyProviderError):
                raise outcome
            check_commitment(outcome, at, key.commitment)
            found[key.epoch] = outcome
        return found

    def data_file(self, log: ExaminedLog, entry: FileEntry) -> SealedFile:
        """A data file, opened to be read. Raises StorageError."""
        place, key = self._sealing(log, entry, Purpose.LOG)
        return self._opened(f"{log.partition}/{entry.file}", place, key)

    def check_snapshot(self, log: ExaminedLog, named: SnapshotEntry) -> None:
        """Raises DamageDetected if a log's snapshot is missing or does not open."""
        read_snapshot(self.disk, self.identity.cluster, self._key, log.partition, named.file)

    def check_index(self, log: ExaminedLog, entry: FileEntry) -> None:
        """Raises DamageDetected if the index beside a closed file is there and does not open."""
        document = self.disk.read(f"{log.partition}/{entry.file}.index", MAX_DOCUMENT_BYTES)
        if document is not None:
            place, key = self._sealing(log, entry, Purpose.INDEX)
            open_document(document, place=place, key=key)

    def _sealing(
        self, log: ExaminedLog, entry: FileEntry, purpose: Purpose
    ) -> tuple[Place, SecretKey]:
        place = Place(purpose, self.identity.cluster, log.partition, entry.file)
        return place, file_key(log.keys[entry.key_epoch], place.encoded())

    def _opened(self, name: str, place: Place, key: SecretKey) -> SealedFile:
        file = self.disk.open(name)
        return SealedFile(name, file, SegmentReader(file, place=place, key=key))
