"""Sealing a node's data anew under new data keys, in the background, at a pace.

A domain's key has been rotated by its custodian before: each log then gets a data key of the new
epoch, ends its active file, and has its closed files written anew, one after another
(`ports.PartitionLog.rekey`). Each replica does that for itself, so nothing is decided by consensus.

Rules: whatever stops a run, the next one goes on with the files that are still under an older key;
there is nothing to remember. What fails for one log is told, and does not hold up the others. A
topic that is being shredded is left alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import structlog
import trio

from appliance.broker.foundation import Foundation
from appliance.broker.topics import Topics
from appliance.errors import KeyProviderError, RequestError, StorageError
from appliance.limits import REKEY_BYTES_PER_S
from appliance.ports import PartitionLog
from appliance.types import KeyDomainId, PartitionId

log = structlog.get_logger()


class RekeyProgress(msgspec.Struct, frozen=True):
    """How far a run is: bytes of files under older keys, at its start and now."""

    running: bool = False
    total_bytes: int = 0
    left_bytes: int = 0
    failed: tuple[str, ...] = ()


class Rekeyer:
    """At most one run at a time."""

    def __init__(self, foundation: Foundation, topics: Topics) -> None:
        self._foundation = foundation
        self._topics = topics
        self._running = False
        self._total_bytes = 0
        self._logs: dict[PartitionId, PartitionLog] = {}
        """Those that this run has still to do."""
        self._failed: list[str] = []

    def start(self, domain: KeyDomainId | None) -> None:
        """Begins a run over one domain's logs, or all; unless one is under way."""
        if not self._running:
            self._running = True
            self._total_bytes, self._failed = 0, []
            self._foundation.nursery.start_soon(self._run, domain)

    def progress(self) -> RekeyProgress:
        """Where the last run stands."""
        left_bytes = sum(each.outdated_bytes for each in self._logs.values())
        return RekeyProgress(self._running, self._total_bytes, left_bytes, tuple(self._failed))

    async def _run(self, domain: KeyDomainId | None) -> None:
        try:
            asked: set[KeyDomainId] = set()
            for partition in sorted(self._foundation.held):
                with self._noting(partition):
                    await self._find(partition, domain, asked)
            self._total_bytes = self.progress().left_bytes
            for partition, each in tuple(self._logs.items()):
                with self._noting(partition):
                    while await each.rekey(_rest):
                        await trio.lowlevel.checkpoint()
                del self._logs[partition]
            log.info("data was sealed anew", bytes=self._total_bytes, failed=len(self._failed))
        finally:
            self._running = False
            self._logs.clear()

    @contextmanager
    def _noting(self, partition: PartitionId) -> Iterator[None]:
        try:
            yield
        except (RequestError, StorageError, KeyProviderError) as error:
            log.warning("a log is not sealed anew", partition=str(partition), reason=str(error))
            self._failed.append(f"log {partition}: {error}")

    async def _find(
        self, partition: PartitionId, wanted: KeyDomainId | None, asked: set[KeyDomainId]
    ) -> None:
        """Takes a log on, with a data key of its domain's newest epoch for what is written next.

        The provider is asked once for that epoch, of each domain.
        """
        storage = self._foundation.storage
        domain = await storage.domain_of(partition)
        if wanted not in {None, domain}:
            return
        held = await self._opened(partition)
        if held is not None:
            if domain not in asked:
                await storage.keys.status(domain)
                asked.add(domain)
            await storage.keys.advance(partition)
            self._logs[partition] = held

    async def _opened(self, partition: PartitionId) -> PartitionLog | None:
        replica = self._foundation.consensus.replica(partition)
        if replica is not None:
            return replica.log
        opened = await self._topics.hold(partition)
        return opened.log if opened is not None else None


async def _rest(written_bytes: int) -> None:
    """Leaves the disk to others, so that a run takes its share and no more."""
    await trio.sleep(written_bytes / REKEY_BYTES_PER_S)
