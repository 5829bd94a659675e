"""The wrapped keys that one node keeps: counting them, wrapping them anew, following rotations.

Re-wrapping, in an order that any crash may interrupt, and that touches no data:
1. wraps of an older version than their domain's newest are read from the manifests;
2. the provider wraps the same keys under the newest version, a batch at a time;
3. each new wrap is opened, and the commitment beside the old one must fit what comes out;
4. the manifest is replaced, if the old wrap still stands there.
What was not reached is found by the next run, which looks at everything again: so it resumes.
"""

from collections.abc import Callable, Sequence

import msgspec
import structlog
import trio

from appliance.crypto.keyring import check_commitment, commitment
from appliance.crypto.sealed import FORMAT
from appliance.errors import KeyGone, KeyProviderError, StorageError, WrongKey
from appliance.ports import (
    DomainStatus,
    KeyPlace,
    KeyProvider,
    Rewrapped,
    SecretKey,
    WrapAt,
    WrapCount,
    WrappedKey,
)
from appliance.storage.files import LogFiles
from appliance.storage.manifest import EpochKey, Manifest, ManifestStore
from appliance.types import ClusterId, KeyDomainId, PartitionId

MAX_EXAMINED = 1_000
"""Manifests that one slice of re-wrapping looks at."""

FOLLOW_S = 10.0
"""Between looks for logs whose next file is to have a newer key."""

_log = structlog.get_logger()


class KeptWrap(msgspec.Struct, frozen=True):
    """A wrap where it is kept, and what tells its key from a wrong one."""

    partition: PartitionId
    place: KeyPlace
    wrapped: WrappedKey
    commitment: bytes


class ControlKey(msgspec.Struct, frozen=True):
    """The node's own data key: what is kept of it, and how another wrap takes its place."""

    kept: Callable[[], KeptWrap]
    replace: Callable[[WrappedKey], None]


class NodeLogs(msgspec.Struct, frozen=True):
    """What of a node's logs the keys need: which there are, those that are open, their locks."""

    partitions: Callable[[], frozenset[PartitionId]]
    files: Callable[[PartitionId], LogFiles | None]
    lock: Callable[[PartitionId], trio.Lock]


class NodeKeys:
    """See `ports.KeyMaintenance`."""

    def __init__(
        self,
        keys: KeyProvider,
        manifests: ManifestStore,
        *,
        cluster: ClusterId,
        control: ControlKey,
        logs: NodeLogs,
    ) -> None:
        """Holds nothing of its own."""
        self._keys = keys
        self._manifests = manifests
        self._cluster = cluster
        self._control = control
        self._logs = logs

    # --- domains -------------------------------------------------------------------------------

    async def create_domain(self, domain: KeyDomainId) -> None:
        """See `ports.KeyMaintenance`."""
        await self._keys.create_domain(domain)

    async def status(self, domain: KeyDomainId) -> DomainStatus:
        """See `ports.KeyMaintenance`."""
        return await self._keys.status(domain)

    def epoch(self, domain: KeyDomainId) -> int:
        """See `ports.KeyMaintenance`."""
        return self._keys.epoch(domain)

    def lease_left_s(self, domain: KeyDomainId) -> float | None:
        """See `ports.KeyMaintenance`."""
        return self._keys.lease_left_s(domain)

    def forget(self, domain: KeyDomainId) -> None:
        """See `ports.KeyMaintenance`."""
        self._keys.forget(domain)

    @property
    def lease_s(self) -> float:
        """See `ports.KeyMaintenance.lease_s`."""
        return self._keys.lease_s

    async def any_opens(
        self, partitions: Sequence[PartitionId], domain: KeyDomainId, trials: Sequence[WrapAt] = ()
    ) -> bool:
        """See `ports.KeyMaintenance`."""
        self._keys.forget(domain)
        wraps = [*await self._wraps_in(partitions, domain), *trials]
        opened = await self._keys.unwrap_all(wraps)
        self._keys.forget(domain)
        return any(isinstance(outcome, SecretKey) for outcome in opened)

    async def trial(self, partitions: Sequence[PartitionId], domain: KeyDomainId) -> WrapAt | None:
        """See `ports.KeyMaintenance`."""
        return next(iter(await self._wraps_in(partitions, domain)), None)

    async def _wraps_in(
        self, partitions: Sequence[PartitionId], domain: KeyDomainId
    ) -> list[WrapAt]:
        held = self._logs.partitions()
        wraps = []
        for partition in partitions:
            if partition in held:
                kept = await trio.to_thread.run_sync(self._kept_of, partition)
                wraps += [WrapAt(w.place, w.wrapped) for w in kept if w.place.domain == domain]
        return wraps

    # --- wraps ---------------------------------------------------------------------------------

    async def count_wraps(self) -> list[WrapCount]:
        """See `ports.KeyMaintenance`."""
        kept = [self._control.kept()]
        for partition in sorted(self._logs.partitions()):
            try:
                kept += await trio.to_thread.run_sync(self._kept_of, partition)
            except StorageError as error:
                _log.warning("manifest not counted", partition=str(partition), reason=str(error))
        counts: dict[tuple[KeyDomainId, int], int] = {}
        for wrap in kept:
            at = (wrap.place.domain, self._keys.version_of(wrap.wrapped))
            counts[at] = counts.get(at, 0) + 1
        return [WrapCount(domain, version, count) for (domain, version), count in counts.items()]

    async def rewrap(self, after: PartitionId | None, limit: int) -> Rewrapped:
        """See `ports.KeyMaintenance`."""
        partitions = sorted(p for p in self._logs.partitions() if after is None or p > after)
        kept = [self._control.kept()] if after is None else []
        examined = len(kept)
        last = after
        for partition in partitions[:MAX_EXAMINED]:
            if len(kept) >= limit:
                break
            try:
                kept += await trio.to_thread.run_sync(self._kept_of, partition)
            except StorageError as error:
                return Rewrapped(0, 0, (str(error),), partition)
            last = partition
            examined += 1
        due, failed = await self._due(kept)
        rewrapped, refused = await self._rewrap(due)
        ends = not partitions or last == partitions[-1]
        return Rewrapped(examined, rewrapped, (*failed, *refused), None if ends else last)

    async def _due(self, kept: Sequence[KeptWrap]) -> tuple[list[KeptWrap], list[str]]:
        """Those of an older version than their domain's newest; and domains without a key."""
        newest: dict[KeyDomainId, int] = {}
        failed = []
        for domain in {wrap.place.domain for wrap in kept}:
            try:
                newest[domain] = (await self._keys.status(domain)).newest_version
            except KeyGone as error:
                newest[domain] = 0
                failed.append(str(error))
        due = [
            wrap for wrap in kept if self._keys.version_of(wrap.wrapped) < newest[wrap.place.domain]
        ]
        return due, failed

    async def _rewrap(self, due: Sequence[KeptWrap]) -> tuple[int, list[str]]:
        """Steps 2 to 4; how many were replaced, and what failed."""
        outcomes = await self._keys.rewrap_all([WrapAt(w.place, w.wrapped) for w in due])
        fresh = [
            (wrap, outcome)
            for wrap, outcome in zip(due, outcomes, strict=True)
            if isinstance(outcome, WrappedKey)
        ]
        failed = [str(outcome) for outcome in outcomes if isinstance(outcome, KeyProviderError)]
        opened = await self._keys.unwrap_all([WrapAt(w.place, new) for w, new in fresh])
        rewrapped = 0
        for (wrap, new), secret in zip(fresh, opened, strict=True):
            try:
                _check(secret, wrap)
                await self._replace(wrap, new)
            except (KeyProviderError, StorageError) as error:
                failed.append(str(error))
            else:
                rewrapped += 1
        return rewrapped, failed

    async def _replace(self, old: KeptWrap, new: WrappedKey) -> None:
        """Step 4, under the log's lock, so that nobody opens or removes it meanwhile."""
        if old.place == self._control.kept().place:
            await trio.to_thread.run_sync(self._control.replace, new)
            return
        async with self._logs.lock(old.partition):
            files = self._logs.files(old.partition)
            epoch = old.place.epoch
            if files is not None:
                await trio.to_thread.run_sync(files.replace_wrap, epoch, old.wrapped, new)
            elif old.partition in self._logs.partitions():
                await trio.to_thread.run_sync(self._replace_closed, old, new)

    def _replace_closed(self, old: KeptWrap, new: WrappedKey) -> None:
        manifest = self._manifests.read(old.partition)
        changed = manifest.with_wrap(old.place.epoch, old.wrapped, new)
        self._manifests.replace(
            old.partition, msgspec.structs.replace(changed, sequence=manifest.sequence + 1)
        )

    def _kept_of(self, partition: PartitionId) -> list[KeptWrap]:
        """A log's wraps. Blocks where the log is not open."""
        files = self._logs.files(partition)
        if files is not None:
            manifest, keys = files.manifest, files.kept_keys
        else:
            manifest = self._manifests.read(partition)
            keys = manifest.keys
        return [
            KeptWrap(
                partition, self.place(partition, manifest, key.epoch), key.wrapped, key.commitment
            )
            for key in keys
        ]

    def place(self, partition: PartitionId, manifest: Manifest, epoch: int) -> KeyPlace:
        """Where a log's data key of an epoch is bound to."""
        return KeyPlace(self._cluster, partition, manifest.domain, epoch, FORMAT)

    # --- data keys -----------------------------------------------------------------------------

    async def new_key(
        self, partition: PartitionId, domain: KeyDomainId, epoch: int
    ) -> tuple[EpochKey, SecretKey]:
        """A fresh data key of a log. Raises KeysUnavailable, KeysRefused."""
        place = KeyPlace(self._cluster, partition, domain, epoch, FORMAT)
        fresh = await self._keys.new_data_key(place)
        key = EpochKey(epoch, fresh.wrapped, commitment(fresh.secret, place))
        return key, fresh.secret

    async def open_keys(self, partition: PartitionId, manifest: Manifest) -> dict[int, SecretKey]:
        """The data key of each epoch of a log. Raises KeyProviderError; WrongKey by commitment."""
        wraps = [
            WrapAt(self.place(partition, manifest, key.epoch), key.wrapped) for key in manifest.keys
        ]
        opened = await self._keys.unwrap_all(wraps)
        secrets = {}
        for key, wrap, outcome in zip(manifest.keys, wraps, opened, strict=True):
            if isinstance(outcome, KeyProviderError):
                raise outcome
            check_commitment(outcome, wrap.place, key.commitment)
            secrets[key.epoch] = outcome
        return secrets

    async def follow(self, opened: Callable[[], Sequence[PartitionId]]) -> None:
        """Has open logs begin their next file under their domain's newest key, until cancelled.

        The key is fetched ahead, so that a roll makes no call. What cannot be had now is tried
        again at the next look.
        """
        while True:
            await trio.sleep(FOLLOW_S)
            await self.advance_all(opened())

    async def advance_all(self, partitions: Sequence[PartitionId]) -> None:
        """Fetches the next key of those open logs whose domain has a newer epoch."""
        for partition in partitions:
            try:
                await self.advance(partition)
            except KeyProviderError as error:
                _log.info("no newer data key yet", partition=str(partition), reason=str(error))

    async def advance(self, partition: PartitionId) -> None:
        """See `ports.KeyMaintenance`."""
        files = self._logs.files(partition)
        if files is None:
            return
        domain = files.manifest.domain
        epoch = self._keys.epoch(domain)
        if epoch <= files.newest_epoch:
            return
        key, secret = await self.new_key(partition, domain, epoch)
        if files.newest_epoch < epoch:
            files.stage_key(key, secret)


def _check(outcome: SecretKey | KeyProviderError, wrap: KeptWrap) -> None:
    """Step 3. Raises what the new wrap came to, or WrongKey when another key came out."""
    if isinstance(outcome, KeyProviderError):
        raise outcome
    try:
        check_commitment(outcome, wrap.place, wrap.commitment)
    except WrongKey:
        raise WrongKey(
            f"the new wrap of a key of partition {wrap.partition} opens to another key: the old "
            "one stays; have a custodian look at Vault"
        ) from None
    finally:
        outcome.wipe()
