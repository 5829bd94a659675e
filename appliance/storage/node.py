"""One node's data directory: its lock, its identity, its journal, its logs.

    DIR/identity            which cluster and node; the wrapped key of the cluster's domain
    DIR/<uuid>              the node journal that the identity names
    DIR/journals/<uuid>     sealed journals of their own, such as the audit log
    DIR/<partition>/        a manifest, and the data files that it names

A directory is made by an explicit act: an empty one never becomes a node by being opened. Nothing
here is named by anything but a UUID.
"""

from uuid import UUID

import msgspec
import trio

from appliance.crypto.aead import TAG_BYTES
from appliance.crypto.chain import GENESIS
from appliance.crypto.keyring import check_commitment, commitment, file_key
from appliance.crypto.sealed import FORMAT, Place, Purpose
from appliance.errors import ConfigurationError, DamageDetected, StorageError
from appliance.invariant import invariant
from appliance.limits import MARK_AFTER_IDLE_MS, MAX_DOCUMENT_BYTES, MIB
from appliance.ports import (
    Entropy,
    HardState,
    KeyPlace,
    KeyProvider,
    SecretKey,
    WrappedKey,
)
from appliance.storage.blockfile import Disk
from appliance.storage.cache import TailCache
from appliance.storage.document import clear_part, open_document, seal_document
from appliance.storage.epochs import NO_EPOCH
from appliance.storage.files import LogFiles
from appliance.storage.journal import FileJournal, open_journal
from appliance.storage.layout import Stamp
from appliance.storage.log import SealedLog
from appliance.storage.manifest import EpochKey, FileEntry, Manifest, ManifestStore
from appliance.storage.marks import GoneRecord, MarkRecord, Remembered, VoteRecord
from appliance.storage.recovery import recover
from appliance.types import ClusterId, Index, KeyDomainId, NodeId, Offset, PartitionId, Term

_IDENTITY = "identity"
_JOURNALS = "journals"
_CONTROL = PartitionId(UUID(int=0))
_MAX_JOURNAL_BYTES = 4 * MIB
_FIRST_EPOCH = 1

invariant(len(GENESIS) == TAG_BYTES, "a chain begins with a tag")


class Identity(msgspec.Struct, frozen=True):
    """What stands in the clear before any key is there; bound by the seal behind it."""

    cluster: ClusterId
    node: NodeId
    domain: KeyDomainId
    wrapped: WrappedKey
    commitment: bytes

    def key_place(self) -> KeyPlace:
        """Where the cluster's data key of this node is bound to."""
        return KeyPlace(self.cluster, _CONTROL, self.domain, _FIRST_EPOCH, FORMAT)


class _Private(msgspec.Struct, frozen=True):
    """What of the identity is sealed."""

    journal: UUID


class NodeDirectory:
    """See `ports.NodeStorage`."""

    def __init__(
        self,
        disk: Disk,
        identity: Identity,
        key: SecretKey,
        journal: FileJournal,
        remembered: Remembered,
        *,
        keys: KeyProvider,
        entropy: Entropy,
        stamp: Stamp,
    ) -> None:
        """For `create` and `open`."""
        self._disk = disk
        self._identity = identity
        self._key = key
        self._journal = journal
        self._remembered = remembered
        self._keys = keys
        self._entropy = entropy
        self._stamp = stamp
        self._cache = TailCache()
        self._manifests = ManifestStore(disk, cluster=identity.cluster, key=key, entropy=entropy)
        self._written = trio.Event()
        self._open: dict[PartitionId, tuple[SealedLog, LogFiles]] = {}

    @classmethod
    async def create(
        cls,
        disk: Disk,
        *,
        cluster: ClusterId,
        node: NodeId,
        domain: KeyDomainId,
        keys: KeyProvider,
        entropy: Entropy,
        stamp: Stamp,
    ) -> "NodeDirectory":
        """Makes a node's directory. Raises ConfigurationError if there is anything in it."""
        disk.lock()
        if set(disk.names(".")) - {"lock"}:
            disk.unlock()
            raise ConfigurationError(f"{disk} is not empty; a node is made in an empty directory")
        place = KeyPlace(cluster, _CONTROL, domain, _FIRST_EPOCH, FORMAT)
        await keys.create_domain(domain)
        fresh = await keys.new_data_key(place)
        identity = Identity(cluster, node, domain, fresh.wrapped, commitment(fresh.secret, place))
        journal_id = UUID(bytes=entropy.random_bytes(16))
        disk.make_directory(_JOURNALS)
        journal = _open_sealed(disk, identity, fresh.secret, journal_id, entropy)
        _save_identity(disk, identity, fresh.secret, _Private(journal_id), entropy)
        return cls(
            disk, identity, fresh.secret, journal, Remembered(),
            keys=keys, entropy=entropy, stamp=stamp,
        )  # fmt: skip

    @classmethod
    async def open(
        cls, disk: Disk, *, keys: KeyProvider, entropy: Entropy, stamp: Stamp
    ) -> "NodeDirectory":
        """Opens a node's directory.

        Raises ConfigurationError if there is none, DirectoryInUse, KeysUnavailable, KeysRefused,
        WrongKey, DamageDetected.
        """
        document = disk.read(_IDENTITY, MAX_DOCUMENT_BYTES)
        if document is None:
            raise ConfigurationError(f"{disk} holds no node; make one with `node create`")
        disk.lock()
        try:
            identity = _identity_in(document)
            key = await keys.unwrap(identity.key_place(), identity.wrapped)
            check_commitment(key, identity.key_place(), identity.commitment)
            journal, remembered = await _open_node_journal(disk, document, identity, key, entropy)
        except BaseException:
            disk.unlock()
            raise
        return cls(
            disk, identity, key, journal, remembered, keys=keys, entropy=entropy, stamp=stamp
        )

    @property
    def cluster(self) -> ClusterId:
        """See `ports.NodeStorage.cluster`."""
        return self._identity.cluster

    @property
    def node(self) -> NodeId:
        """See `ports.NodeStorage.node`."""
        return self._identity.node

    def partitions(self) -> frozenset[PartitionId]:
        """See `ports.NodeStorage.partitions`."""
        found = set()
        for name in self._disk.names("."):
            try:
                partition = PartitionId(UUID(name))
            except ValueError:
                continue
            if "manifest" in self._disk.names(name):
                found.add(partition)
        return frozenset(found)

    # --- logs ----------------------------------------------------------------------------------

    async def create_log(self, partition: PartitionId, domain: KeyDomainId) -> SealedLog:
        """See `ports.NodeStorage.create_log`."""
        invariant(partition not in self._open, "a log is made once")
        place = self._place_of(partition, domain, _FIRST_EPOCH)
        fresh = await self._keys.new_data_key(place)
        file_id = UUID(bytes=self._entropy.random_bytes(16))
        manifest = Manifest(
            sequence=1,
            domain=domain,
            keys=(EpochKey(place.epoch, fresh.wrapped, commitment(fresh.secret, place)),),
            files=(FileEntry(file_id, place.epoch, Index(1), Offset(0), GENESIS),),
            epoch_table=(NO_EPOCH,),
            start_offset=Offset(0),
        )

        def make() -> None:
            self._disk.make_directory(str(partition))
            self._disk.create(f"{partition}/{file_id}").close()
            self._manifests.replace(partition, manifest)

        await trio.to_thread.run_sync(make)
        return await self._opened(partition, manifest, {place.epoch: fresh.secret})

    async def open_log(self, partition: PartitionId) -> SealedLog:
        """See `ports.NodeStorage.open_log`."""
        manifest = await trio.to_thread.run_sync(self._manifests.read, partition)
        data_keys = {}
        for key in manifest.keys:
            place = self._place_of(partition, manifest.domain, key.epoch)
            data_keys[key.epoch] = await self._keys.unwrap(place, key.wrapped)
            check_commitment(data_keys[key.epoch], place, key.commitment)
        return await self._opened(partition, manifest, data_keys)

    async def _opened(
        self, partition: PartitionId, manifest: Manifest, data_keys: dict[int, SecretKey]
    ) -> SealedLog:
        mark = self._remembered.marks.get(partition)

        def open_files() -> tuple[SealedLog, LogFiles]:
            files = LogFiles(
                self._disk,
                self._manifests,
                cluster=self.cluster,
                partition=partition,
                manifest=manifest,
                data_keys=data_keys,
                entropy=self._entropy,
            )
            active = files.active.entry.file
            found = recover(
                files,
                self._disk,
                f"{partition}/{active}.torn",
                durable_end=mark.length if mark is not None and mark.file == active else 0,
                entropy=self._entropy,
            )
            log = SealedLog(
                files,
                stamp=self._stamp,
                cache=self._cache,
                on_idle=self._note_written,
                found=found,
            )
            return log, files

        self._open[partition] = await trio.to_thread.run_sync(open_files)
        return self._open[partition][0]

    async def advance_key(self, partition: PartitionId, epoch: int) -> None:
        """Fetches the data key of a newer epoch, ahead of the roll that an open log takes it at.

        Raises KeysUnavailable, KeysRefused; the log then goes on under the key it has.
        """
        _, files = self._open[partition]
        if epoch <= files.newest_epoch:
            return
        place = self._place_of(partition, files.manifest.domain, epoch)
        fresh = await self._keys.new_data_key(place)
        key = EpochKey(epoch, fresh.wrapped, commitment(fresh.secret, place))
        files.stage_key(key, fresh.secret)

    async def delete_log(self, partition: PartitionId) -> None:
        """See `ports.NodeStorage.delete_log`."""
        self._open.pop(partition, None)
        await self._journal.append([self._remembered.apply(GoneRecord(partition))])
        await trio.to_thread.run_sync(self._disk.remove, str(partition))

    def _place_of(self, partition: PartitionId, domain: KeyDomainId, epoch: int) -> KeyPlace:
        return KeyPlace(self.cluster, partition, domain, epoch, FORMAT)

    # --- journals ------------------------------------------------------------------------------

    async def open_journal(self, name: PartitionId) -> FileJournal:
        """See `ports.NodeStorage.open_journal`."""
        place = Place(Purpose.JOURNAL, self.cluster, _CONTROL, name)
        return await trio.to_thread.run_sync(
            lambda: open_journal(
                self._disk,
                f"{_JOURNALS}/{name}",
                place=place,
                key=file_key(self._key, place.encoded()),
                entropy=self._entropy,
            )
        )

    def hard_state(self, partition: PartitionId) -> HardState:
        """See `ports.NodeStorage.hard_state`."""
        record = self._remembered.votes.get(partition)
        return HardState() if record is None else HardState(record.term, record.vote)

    async def save_hard_state(self, partition: PartitionId, state: HardState) -> None:
        """See `ports.NodeStorage.save_hard_state`."""
        record = VoteRecord(partition, Term(state.term), state.vote)
        await self._journal.append([self._remembered.apply(record)])

    async def run(self) -> None:
        """Marks logs that have gone idle, until cancelled; sleeps while nothing is written."""
        while True:
            await self._written.wait()
            self._written = trio.Event()
            await trio.sleep(MARK_AFTER_IDLE_MS / 1000)
            await self._mark()

    def _note_written(self) -> None:
        self._written.set()

    async def _mark(self) -> None:
        """Journals how far each log is durable, where that has changed."""
        records = []
        for partition, (log, files) in self._open.items():
            if log.busy:
                continue
            active = files.active
            mark = MarkRecord(partition, active.entry.file, active.end)
            if self._remembered.marks.get(partition) != mark:
                records.append(self._remembered.apply(mark))
        if records:
            await self._journal.append(records)

    async def close(self) -> None:
        """See `ports.NodeStorage.close`; logs are closed before."""
        with trio.CancelScope(shield=True):
            try:
                await self._mark()
                await self._journal.close()
            except StorageError:
                # The journal has failed before: its marks are older than they could be, no more.
                self._open.clear()
            finally:
                self._key.wipe()
                self._disk.unlock()


def _identity_in(document: bytes) -> Identity:
    try:
        return msgspec.msgpack.decode(clear_part(document), type=Identity)
    except msgspec.MsgspecError:
        raise DamageDetected("the identity of this directory is malformed") from None


def _identity_place(identity: Identity) -> Place:
    return Place(Purpose.IDENTITY, identity.cluster, _CONTROL, UUID(int=identity.node))


def _save_identity(
    disk: Disk, identity: Identity, key: SecretKey, private: _Private, entropy: Entropy
) -> None:
    place = _identity_place(identity)
    document = seal_document(
        msgspec.msgpack.encode(private),
        clear=msgspec.msgpack.encode(identity),
        place=place,
        key=file_key(key, place.encoded()),
        entropy=entropy,
    )
    disk.replace(_IDENTITY, document)


def _open_sealed(
    disk: Disk, identity: Identity, key: SecretKey, file: UUID, entropy: Entropy
) -> FileJournal:
    place = Place(Purpose.JOURNAL, identity.cluster, _CONTROL, file)
    return open_journal(
        disk, f"node-{file}", place=place, key=file_key(key, place.encoded()), entropy=entropy
    )


async def _open_node_journal(
    disk: Disk, document: bytes, identity: Identity, key: SecretKey, entropy: Entropy
) -> tuple[FileJournal, Remembered]:
    """The node journal that the identity names, begun anew when it has grown."""
    place = _identity_place(identity)
    content = open_document(document, place=place, key=file_key(key, place.encoded()))
    private = msgspec.msgpack.decode(content, type=_Private)
    name = f"node-{private.journal}"
    if name not in disk.names("."):
        raise DamageDetected("the node journal is gone: this node must not return under its id")
    journal = _open_sealed(disk, identity, key, private.journal, entropy)
    remembered = Remembered()
    remembered.replay(await journal.read_all())
    if journal.end <= _MAX_JOURNAL_BYTES:
        return journal, remembered
    fresh_id = UUID(bytes=entropy.random_bytes(16))
    fresh = _open_sealed(disk, identity, key, fresh_id, entropy)
    await fresh.append(remembered.snapshot())
    _save_identity(disk, identity, key, _Private(fresh_id), entropy)
    await journal.close()
    disk.remove(name)
    return fresh, remembered
