"""What every part of the broker stands on: storage, time, randomness and a nursery.

Rules: a log that has once been led and is not there any more was lost, not never made: it is not
made anew, because an empty log in its place would hide the loss. One that is damaged, and that
others hold too, is cut before its damage: they send what was cut.
"""

from typing import TypeVar, cast
from uuid import UUID

import msgspec
import structlog
import trio

from appliance.broker import snapshots
from appliance.broker.applying import Machine
from appliance.broker.consensus import Consensus
from appliance.broker.hosting import Environment
from appliance.broker.pacing import MovePace
from appliance.broker.peering import Peers
from appliance.broker.recovering import recover
from appliance.broker.replica import Replica
from appliance.broker.snapshots import GroupSnapshot
from appliance.coordination.key_commands import LogBegin
from appliance.errors import DamageDetected
from appliance.ports import (
    BEGINNING_OF_LOGS,
    Clock,
    Entropy,
    HardState,
    NodeStorage,
    PartitionLog,
)
from appliance.raft.configuration import Configuration
from appliance.raft.ready import Recovered
from appliance.types import KeyDomainId, NodeId, Offset, PartitionId

log = structlog.get_logger()

R = TypeVar("R")

CATALOGUE_LOG = PartitionId(UUID("00000000-0000-8000-8000-000000000001"))
GROUPS_LOG = PartitionId(UUID("00000000-0000-8000-8000-000000000002"))
"""Internal logs; fixed ids of version 8 (RFC 9562), which no random id of version 4 can be."""


class Foundation(msgspec.Struct, frozen=True):
    """`domain` is the cluster's key domain; flushes and timers run in `nursery`.

    `consensus` moves every replica; `peers` are the other nodes; `pace` holds moves back. `held`
    are the logs in storage: looked up there once, and followed from then on.
    """

    storage: NodeStorage
    clock: Clock
    entropy: Entropy
    nursery: trio.Nursery
    domain: KeyDomainId
    held: set[PartitionId]
    consensus: Consensus
    peers: Peers
    pace: MovePace

    @property
    def node(self) -> NodeId:
        """This node."""
        return self.storage.node

    def new_id(self) -> UUID:
        """A random UUID (version 4)."""
        return UUID(bytes=self.entropy.random_bytes(16), version=4)

    def new_session_number(self) -> int:
        """A random number from 1 to 2^31 - 1, which nobody can guess from others."""
        return int.from_bytes(self.entropy.random_bytes(4), "big") & 0x7FFF_FFFF or 1

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back."""
        return int(self.clock.monotonic() * 1000)

    async def open(
        self,
        partition: PartitionId,
        machine: Machine[R],
        genesis: Configuration,
        *,
        scan: bool,
        domain: KeyDomainId | None = None,
        begin: LogBegin | None = None,
        taken: GroupSnapshot | None = None,
    ) -> Replica[R]:
        """Opens or makes a log and lets its replica take part; a single voter leads at once.

        Args:
            partition: which group.
            machine: what its decided entries are applied to.
            genesis: the members that the group was made with.
            scan: whether its log may name others.
            domain: what a log that is made is sealed in; None is the cluster's.
            begin: where a log that is made begins, if it takes another's place.
            taken: what the machine has in it from an earlier opening of the same log.

        Raises StorageError (DamageDetected for a log that was lost), KeyProviderError.
        """
        storage = self.storage
        state = storage.hard_state(partition)
        if partition in self.held:
            opened_log, recovered, snapshot = await self._recovered(partition, genesis, scan=scan)
        elif state.term > 0:
            raise DamageDetected(f"log {partition} has been written and is not there any more")
        else:
            position = begin.position if begin is not None else BEGINNING_OF_LOGS
            offset = begin.offset if begin is not None else Offset(0)
            opened_log = await storage.create_log(
                partition, domain or self.domain, position, offset
            )
            self.held.add(partition)
            # A group that takes the place of one that had come so far: nobody has voted in it yet.
            state = max(state, HardState(opened_log.last.term), key=lambda each: each.term)
            recovered = await recover(opened_log, state, genesis, scan=False)
            snapshot = None
        if taken is not None and (snapshot is None or snapshot.index < taken.index):
            snapshot = taken
        opened = self.consensus.count_opening(partition)
        replica = Replica(
            partition,
            opened_log,
            machine,
            recovered,
            Environment(
                storage, self.clock, self.entropy, self.nursery, self.consensus, self.pace, opened
            ),
            snapshot=snapshot,
        )
        self.consensus.add(cast(Replica[object], replica))
        await replica.start()
        return replica

    async def _recovered(
        self, partition: PartitionId, genesis: Configuration, *, scan: bool
    ) -> tuple[PartitionLog, Recovered, GroupSnapshot | None]:
        """An open log, the start of its core, and its snapshot.

        A log that is damaged is cut first, if it may be.
        """
        try:
            return await self._read(partition, genesis, scan=scan)
        except DamageDetected as damage:
            if len(genesis.members) < 2:
                raise
            log.warning("damage found in a log: it is cut there, and filled by its other members",
                        partition=str(partition), reason=str(damage))  # fmt: skip
            if not await self.storage.quarantine(partition):
                raise
            return await self._read(partition, genesis, scan=scan)

    async def _read(
        self, partition: PartitionId, genesis: Configuration, *, scan: bool
    ) -> tuple[PartitionLog, Recovered, GroupSnapshot | None]:
        storage = self.storage
        opened = await storage.open_log(partition)
        state = storage.hard_state(partition)
        # A log that takes the place of one that had come further: nobody has voted in it yet.
        state = max(state, HardState(opened.last.term), key=lambda each: each.term)
        known_last = storage.known_last(partition)
        try:
            kept = await opened.read_snapshot()
            snapshot = snapshots.decode(kept.state) if kept is not None else None
            recovered = await recover(
                opened, state, genesis, scan=scan, known_last=known_last, snapshot=snapshot
            )
        except DamageDetected:
            await opened.close()
            raise
        return opened, recovered, snapshot

    async def remove(self, partition: PartitionId) -> None:
        """Removes a closed log, if there is one; raises StorageError."""
        if partition in self.held:
            await self.storage.delete_log(partition)
            self.held.discard(partition)
