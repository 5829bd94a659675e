"""One node's data directory: its lock, its identity, its journal, its logs.

    DIR/identity            which cluster and node; the wrapped key of the cluster's domain
    DIR/<uuid>              the node journal that the identity names
    DIR/journals/<uuid>     sealed journals of their own, such as the audit log
    DIR/<partition>/        a manifest, and the data files that it names

A directory is made by an explicit act: an empty one never becomes a node by being opened. Nothing
here is named by anything but a UUID.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from uuid import UUID

import msgspec
import trio

from appliance.crypto.aead import TAG_BYTES
from appliance.crypto.chain import GENESIS
from appliance.crypto.keyring import check_commitment, commitment
from appliance.crypto.sealed import FORMAT
from appliance.errors import ConfigurationError, DamageDetected, StorageError, StorageFull
from appliance.invariant import invariant
from appliance.limits import (
    MARK_AFTER_IDLE_MS,
    MARK_AT_LEAST_EVERY_MS,
    MAX_DOCUMENT_BYTES,
    SCRUB_PERIOD_S,
)
from appliance.ports import (
    BEGINNING_OF_LOGS,
    Entropy,
    HardState,
    KeyPlace,
    KeyProvider,
    SecretKey,
    WrappedKey,
)
from appliance.storage.ahead import ReadAhead
from appliance.storage.cache import TailCache
from appliance.storage.contents import ContentsCache
from appliance.storage.disk import Disk
from appliance.storage.epochs import Epoch
from appliance.storage.files import LogFiles
from appliance.storage.identity import (
    CONTROL,
    FIRST_EPOCH,
    IDENTITY,
    Identity,
    Private,
    identity_in,
    private_in,
    save_identity,
)
from appliance.storage.journal import FileJournal
from appliance.storage.layout import Stamp
from appliance.storage.log import SealedLog
from appliance.storage.logfile import LogFile
from appliance.storage.manifest import FileEntry, Manifest, ManifestStore
from appliance.storage.marks import GoneRecord, LossRecord, VoteRecord
from appliance.storage.node_journal import JournalHome, NodeJournal
from appliance.storage.node_keys import ControlKey, KeptWrap, NodeKeys, NodeLogs
from appliance.storage.quarantine import Quarantine
from appliance.storage.recovery import recover
from appliance.storage.rounds import WriteRounds
from appliance.storage.scrub import Scrubber
from appliance.types import (
    ClusterId,
    Index,
    KeyDomainId,
    NodeId,
    Offset,
    PartitionId,
    Position,
    Term,
)

_JOURNALS = "journals"

invariant(len(GENESIS) == TAG_BYTES, "a chain begins with a tag")


class NodeDirectory:
    """See `ports.NodeStorage`."""

    def __init__(
        self,
        disk: Disk,
        identity: Identity,
        key: SecretKey,
        journals: JournalHome,
        journal: NodeJournal,
        *,
        keys: KeyProvider,
        entropy: Entropy,
        stamp: Stamp,
    ) -> None:
        """For `create` and `open`."""
        self._disk = disk
        self._identity = identity
        self._key = key
        self._journals = journals
        self._journal = journal
        self._naming = threading.Lock()
        self._keys = keys
        self._entropy = entropy
        self._stamp = stamp
        self._cache = TailCache()
        self._ahead = ReadAhead()
        self._contents = ContentsCache()
        self._rounds = WriteRounds(disk)
        self._manifests = ManifestStore(
            disk,
            cluster=identity.cluster,
            key=key,
            entropy=entropy,
            journal=lambda: journal.sequence,
        )
        self.scrubber = Scrubber(self._all_files)
        self._written = trio.Event()
        self._open: dict[PartitionId, tuple[SealedLog, LogFiles]] = {}
        self._kept_journals: dict[PartitionId, FileJournal] = {}
        self._locks: dict[PartitionId, trio.Lock] = {}
        self._node_keys = NodeKeys(
            keys,
            self._manifests,
            cluster=identity.cluster,
            control=ControlKey(self._kept_identity, self._replace_identity_wrap),
            logs=NodeLogs(self.partitions, self._files_of, self._lock_of),
        )

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
        place = KeyPlace(cluster, CONTROL, domain, FIRST_EPOCH, FORMAT)
        await keys.create_domain(domain)
        fresh = await keys.new_data_key(place)
        identity = Identity(cluster, node, domain, fresh.wrapped, commitment(fresh.secret, place))
        disk.make_directory(_JOURNALS)
        journals = JournalHome(disk, cluster, fresh.secret, entropy)
        journal = NodeJournal.create(journals)
        save_identity(disk, identity, fresh.secret, Private(journal.file), entropy)
        return cls(
            disk, identity, fresh.secret, journals, journal,
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
        document = disk.read(IDENTITY, MAX_DOCUMENT_BYTES)
        if document is None:
            raise ConfigurationError(f"{disk} holds no node; make one with `node create`")
        disk.lock()
        try:
            disk.settle()
            identity = identity_in(document)
            key = await keys.unwrap(identity.key_place(), identity.wrapped)
            check_commitment(key, identity.key_place(), identity.commitment)
            private = private_in(document, identity, key)
            journals = JournalHome(disk, identity.cluster, key, entropy)
            journal = await NodeJournal.open(journals, private.journal)
            private.check(journal.sequence)
        except BaseException:
            disk.unlock()
            raise
        return cls(disk, identity, key, journals, journal, keys=keys, entropy=entropy, stamp=stamp)

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

    # --- keys ----------------------------------------------------------------------------------

    @property
    def keys(self) -> NodeKeys:
        """See `ports.NodeStorage.keys`."""
        return self._node_keys

    def tell_damage(self, to: Callable[[PartitionId], None]) -> None:
        """See `ports.NodeStorage.tell_damage`."""
        self.scrubber.on_damage = to

    def _all_files(self) -> Iterator[tuple[PartitionId, LogFile]]:
        for partition, (log, files) in tuple(self._open.items()):
            for file in () if log.closed else files:
                yield partition, file

    def _files_of(self, partition: PartitionId) -> LogFiles | None:
        found = self._open.get(partition)
        return found[1] if found is not None and not found[0].closed else None

    def _lock_of(self, partition: PartitionId) -> trio.Lock:
        """Held while a log is made, opened, removed, or its closed manifest replaced."""
        return self._locks.setdefault(partition, trio.Lock())

    def _kept_identity(self) -> KeptWrap:
        identity = self._identity
        return KeptWrap(CONTROL, identity.key_place(), identity.wrapped, identity.commitment)

    def _replace_identity_wrap(self, wrapped: WrappedKey) -> None:
        """Seals the identity anew around another wrap of the same data key. Blocks."""
        with self._naming:
            document = self._disk.read(IDENTITY, MAX_DOCUMENT_BYTES)
            if document is None:
                raise DamageDetected("the identity of this directory is gone")
            private = private_in(document, self._identity, self._key)
            identity = msgspec.structs.replace(self._identity, wrapped=wrapped)
            save_identity(self._disk, identity, self._key, private, self._entropy)
            self._identity = identity

    def _name_journal(self, file: UUID) -> None:
        """Has the identity name another node journal. Blocks."""
        with self._naming:
            private = Private(file, self._journal.sequence)
            save_identity(self._disk, self._identity, self._key, private, self._entropy)

    # --- logs ----------------------------------------------------------------------------------

    async def domain_of(self, partition: PartitionId) -> KeyDomainId:
        """See `ports.NodeStorage.domain_of`."""
        files = self._files_of(partition)
        if files is not None:
            return files.manifest.domain
        return (await trio.to_thread.run_sync(self._manifests.read, partition)).domain

    def _new_file_id(self) -> UUID:
        return UUID(bytes=self._entropy.random_bytes(16))

    async def create_log(
        self,
        partition: PartitionId,
        domain: KeyDomainId,
        position: Position = BEGINNING_OF_LOGS,
        offset: Offset = Offset(0),  # noqa: B008 - a number
    ) -> SealedLog:
        """See `ports.NodeStorage.create_log`."""
        invariant(partition not in self._open, "a log is made once")
        async with self._lock_of(partition):
            epoch = self._keys.epoch(domain)
            key, secret = await self._node_keys.new_key(partition, domain, epoch)
            index = Index(position.index + 1)
            first = FileEntry(self._new_file_id(), key.epoch, index, offset, GENESIS)
            table = (Epoch(position.term, position.index, offset),)
            manifest = Manifest(1, domain, (key,), (first,), table, offset)

            def make() -> None:
                self._disk.make_directory(str(partition))
                self._disk.create(f"{partition}/{first.file}").close()
                self._manifests.replace(partition, manifest)

            await trio.to_thread.run_sync(make)
            return await self._opened(partition, manifest, {key.epoch: secret})

    async def open_log(self, partition: PartitionId) -> SealedLog:
        """See `ports.NodeStorage.open_log`."""
        async with self._lock_of(partition):
            manifest = await trio.to_thread.run_sync(self._manifests.read, partition)
            data_keys = await self._node_keys.open_keys(partition, manifest)
            return await self._opened(partition, manifest, data_keys)

    async def _opened(
        self, partition: PartitionId, manifest: Manifest, data_keys: dict[int, SecretKey]
    ) -> SealedLog:
        def open_files() -> tuple[SealedLog, LogFiles]:
            files = LogFiles(
                self._disk,
                self._manifests,
                cluster=self.cluster,
                partition=partition,
                manifest=manifest,
                data_keys=data_keys,
                entropy=self._entropy,
                cache=self._contents,
            )
            active = files.active.entry.file
            found = recover(
                files,
                self._disk,
                f"{partition}/{active}.torn",
                mark=self._journal.mark(partition),
            )
            log = SealedLog(
                files,
                stamp=self._stamp,
                cache=self._cache,
                ahead=self._ahead,
                rounds=self._rounds,
                on_idle=self._note_written,
                found=found,
            )
            return log, files

        self._open[partition] = await trio.to_thread.run_sync(open_files)
        return self._open[partition][0]

    def known_last(self, partition: PartitionId) -> Position | None:
        """See `ports.NodeStorage.known_last`."""
        record = self._journal.loss(partition)
        return None if record is None else record.known_last

    async def begin_life(self, at_least: int) -> int:
        """See `ports.NodeStorage.begin_life`."""
        return await self._journal.begin_life(at_least)

    async def save_known_last(self, partition: PartitionId, known_last: Position | None) -> None:
        """See `ports.NodeStorage.save_known_last`."""
        await self._journal.record([LossRecord(partition, known_last)])

    async def quarantine(self, partition: PartitionId, *, distrusted: bool = False) -> bool:
        """See `ports.NodeStorage.quarantine`."""
        async with self._lock_of(partition):
            manifest = await trio.to_thread.run_sync(self._manifests.read, partition)
            data_keys = await self._node_keys.open_keys(partition, manifest)
            damaged = Quarantine(
                self._disk, self.cluster, partition, manifest,
                data_keys=data_keys, entropy=self._entropy,
            )  # fmt: skip
            try:
                survey = await trio.to_thread.run_sync(
                    damaged.survey, self._journal.mark(partition)
                )
                stands = await trio.to_thread.run_sync(
                    damaged.has_snapshot, self._manifests.snapshots
                )
                whole = min(survey.whole, len(manifest.files) - distrusted)
                if stands and whole == len(manifest.files):
                    return False
                known = max(survey.known_last, self.known_last(partition) or survey.known_last)
                await self.save_known_last(partition, known)
                cut = partial(damaged.cut, whole) if stands else damaged.begun_anew
                shortened = await trio.to_thread.run_sync(cut)
                await trio.to_thread.run_sync(self._manifests.replace, partition, shortened)
            finally:
                for secret in data_keys.values():
                    secret.wipe()
            self._open.pop(partition, None)
            self.scrubber.damaged.pop(partition, None)
            return True

    async def delete_log(self, partition: PartitionId) -> None:
        """See `ports.NodeStorage.delete_log`."""
        async with self._lock_of(partition):
            self._open.pop(partition, None)
            await self._journal.record([GoneRecord(partition)])
            await trio.to_thread.run_sync(self._disk.remove, str(partition))
        self._locks.pop(partition, None)

    # --- journals ------------------------------------------------------------------------------

    async def open_journal(self, name: PartitionId) -> FileJournal:
        """See `ports.NodeStorage.open_journal`."""
        opened = await trio.to_thread.run_sync(
            self._journals.opened, f"{_JOURNALS}/{name}", name, self._journal.mark(name)
        )
        opened.on_broken = self._note_written
        self._kept_journals[name] = opened
        return opened

    def hard_state(self, partition: PartitionId) -> HardState:
        """See `ports.NodeStorage.hard_state`."""
        record = self._journal.vote(partition)
        return HardState() if record is None else HardState(record.term, record.vote)

    async def save_hard_state(self, partition: PartitionId, state: HardState) -> None:
        """See `ports.NodeStorage.save_hard_state`."""
        record = VoteRecord(partition, Term(state.term), state.vote)
        await self._journal.record([record])

    async def run(self, scrub_period_s: float = SCRUB_PERIOD_S) -> None:
        """Marks idle logs, reads ahead, follows rotations of keys, and scrubs, until cancelled.

        Raises StorageError when a journal has failed: what must be recorded first, the audit of
        every login and change among it, could not be done any more, and a start anew can mend that.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ahead.run)
            nursery.start_soon(self._node_keys.follow, lambda: tuple(self._open))
            nursery.start_soon(self.scrubber.run, scrub_period_s)
            await self._mark_idle()

    async def _mark_idle(self) -> None:
        """Marks logs that have gone idle, others now and then; sleeps while nothing is written."""
        all_marked = trio.current_time()
        while True:
            await self._written.wait()
            self._written = trio.Event()
            await trio.sleep(MARK_AFTER_IDLE_MS / 1000)
            too_long_ago = trio.current_time() - MARK_AT_LEAST_EVERY_MS / 1000
            busy_too = all_marked < too_long_ago
            with suppress(StorageFull):  # marks are older for a while than they could be, no more
                await self._mark(busy_too=busy_too)
                await self._journal.rotate_if_grown(self._name_journal)
            all_marked = trio.current_time() if busy_too else all_marked

    def _note_written(self) -> None:
        self._written.set()

    async def _mark(self, *, busy_too: bool = True) -> None:
        """Journals how far each log and each other journal is durable, where that has changed."""
        for journal in self._kept_journals.values():
            journal.check()
        marks = [journal.mark(name) for name, journal in self._kept_journals.items()]
        records = [mark for mark in marks if self._journal.mark(mark.partition) != mark]
        for partition, (log, _) in self._open.items():
            if log.busy and not busy_too:
                continue
            mark = log.mark()
            if self._journal.mark(partition) != mark:
                records.append(mark)
        if records:
            await self._journal.record(records)

    async def close(self) -> None:
        """See `ports.NodeStorage.close`; logs are closed before."""
        with trio.CancelScope(shield=True):
            try:
                await self._mark()
                await self._journal.close()
                await trio.to_thread.run_sync(self._name_journal, self._journal.file)
            except StorageError:
                # The journal has failed before: its marks are older than they could be, no more.
                self._open.clear()
            finally:
                self._key.wipe()
                self._disk.unlock()
