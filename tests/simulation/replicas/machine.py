"""One machine: a simulated disk that outlives its processes, and a process with one replica.

Rules: a process ends between any two steps of its tasks, as by kill -9 or a power cut; of what was
written and not synced, a power cut keeps whatever the seed says. A sync that fails ends the
process too: nothing that it wrote can be trusted to be there (DESIGN section 8).
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import trio
from checkers import Violation

from appliance.broker import snapshots
from appliance.broker.hosting import Environment
from appliance.broker.pacing import MovePace
from appliance.broker.recovering import recover
from appliance.broker.replica import Replica
from appliance.broker.snapshots import Offered
from appliance.errors import StorageError
from appliance.limits import DEFAULT_MOVES_MB_PER_S, RAFT_TICK_MS
from appliance.raft.messages import AppendReply, PeerMessage, SnapshotOffer, VoteReply
from appliance.raft.ready import Leadership, Role, Shrunk
from appliance.storage.node import NodeDirectory
from appliance.types import (
    ClusterId,
    Entry,
    EntryHeader,
    Index,
    KeyDomainId,
    NodeId,
    PartitionId,
    TimestampMs,
)
from tests.simulation.disk import Action, Fault, SimulatedDisk
from tests.simulation.keys import SeededEntropy

if TYPE_CHECKING:
    from replicas.cluster import Cluster

CLUSTER = ClusterId(UUID(int=21))
DOMAIN = KeyDomainId(UUID(int=22))
PARTITION = PartitionId(UUID(int=23))
SEGMENT_BYTES = 1500


def stamp(payload: bytearray, header: EntryHeader) -> None:
    """As a batch's base offset is written: its first 8 bytes."""
    payload[:8] = header.base_offset.to_bytes(8, "big")


class SimulatedClock:
    """The run's clock."""

    def now_ms(self) -> TimestampMs:
        return TimestampMs(int(trio.current_time() * 1000))

    def monotonic(self) -> float:
        return trio.current_time()


class Machine:
    """See the module; it is its replica's host and state machine too."""

    def __init__(self, cluster: "Cluster", node: int) -> None:
        self.cluster, self.node = cluster, node
        self.source = random.Random(cluster.dice.getrandbits(32))
        self.disk = SimulatedDisk()
        self.incarnation = 0
        self.failing = False
        self.replica: Replica[int] | None = None
        self.digest = 0
        self._last = 0
        self._scope = trio.CancelScope()

    async def create(self) -> None:
        """The directory and the log, made once."""
        storage = await NodeDirectory.create(
            self.disk,
            cluster=CLUSTER,
            node=NodeId(self.node),
            domain=DOMAIN,
            keys=self.cluster.keys,
            entropy=SeededEntropy(self.source),
            stamp=stamp,
        )
        log = await storage.create_log(PARTITION, DOMAIN)
        await log.close()
        await storage.close()

    async def live(self) -> None:
        """One process after another."""
        while True:
            with trio.CancelScope() as self._scope:
                await self._process()
            self.replica = None
            self._cut_power()
            await trio.sleep(self.source.random() * (0.8 if self.cluster.stormy else 0.05))
            self.cluster.faults["restarts"] += 1

    async def _process(self) -> None:
        self.incarnation += 1
        self.disk.on_step = self._on_step
        storage = await NodeDirectory.open(
            self.disk, keys=self.cluster.keys, entropy=SeededEntropy(self.source), stamp=stamp
        )
        log = await storage.open_log(PARTITION)
        self.storage = storage
        log.limit_segments(max_bytes=SEGMENT_BYTES, max_ms=1 << 40)
        kept = await log.read_snapshot()
        snapshot = snapshots.decode(kept.state) if kept is not None else None
        recovered = await recover(
            log, storage.hard_state(PARTITION), self.cluster.first, scan=True, snapshot=snapshot
        )
        hard = recovered.state
        self.cluster.checkers.saved(self.node, hard.term, hard.vote)
        self._last = self.digest = 0
        async with trio.open_nursery() as nursery:
            clock = SimulatedClock()
            environment = Environment(
                storage,
                clock,
                SeededEntropy(self.source),
                nursery,
                self,
                MovePace(DEFAULT_MOVES_MB_PER_S << 20, clock),
            )
            self.replica = Replica(PARTITION, log, self, recovered, environment, snapshot=snapshot)
            self.log = log
            self.replica.beginning.keep_state()
            if snapshot is not None and snapshot.index >= log.first_index:
                self.cluster.faults["entries spared"] += 1
            nursery.start_soon(self._keep_house, self.replica)
            while not self.replica.failed:
                await trio.sleep(RAFT_TICK_MS / 1000)
                self.replica.tick()
            nursery.cancel_scope.cancel()

    async def _keep_house(self, replica: Replica[int]) -> None:
        """Frees what nobody is to see any more, now and then, as a partition does."""
        while True:
            await trio.sleep(self.source.random() * 0.6)
            first = self.log.first_index
            try:
                await replica.beginning.free(min(self.cluster.log_start, replica.high_watermark))
            except StorageError:
                return  # the log has failed: the process ends by itself
            if self.log.first_index > first:
                self.cluster.faults["files freed"] += 1

    def crash(self) -> None:
        """kill -9, or worse."""
        self.cluster.say(f"{self.node} CRASHES")
        self._scope.cancel()

    def _cut_power(self) -> None:
        image, dice = self.disk.image(), self.source
        if dice.random() < 0.3:
            self.cluster.faults["kills"] += 1
            self.cluster.say(f"{self.node} was killed")
            self.disk = image.after_a_kill()
            return
        self.cluster.faults["power cuts"] += 1
        self.cluster.say(f"{self.node} lost power")
        share = dice.choice((0.0, 0.5, 1.0))

        def keeps(_number: int, _atom: object) -> bool:
            kept = dice.random() < share
            self.cluster.faults["pending writes kept" if kept else "pending writes lost"] += 1
            return kept

        self.disk = image.after_a_power_cut(keeps)

    def _on_step(self, action: Action, _name: str) -> Fault | None:
        if self.failing and self.replica is not None and action is Action.SYNC:
            self.failing = False
            self.cluster.faults["failed syncs"] += 1
            return Fault.IO
        return None

    # --- what a replica needs of its node ---------------------------------------------------------

    def send(self, group: PartitionId, message: PeerMessage, entries: Sequence[Entry]) -> None:
        checkers = self.cluster.checkers
        if self.cluster.lines is not None:
            self.cluster.say(f"{self.node} sends {message}")
        hard = self.storage.hard_state(PARTITION)
        if isinstance(message, VoteReply) and message.granted:
            checkers.votes(self.node, message.term, message.to, (hard.term, hard.vote))
        elif isinstance(message, AppendReply) and message.conflict is None:
            held = message.match <= self.log.durable
            checkers.attested(self.node, message.term, message.match, hard.term, held=held)
        offered = None
        if isinstance(message, SnapshotOffer):
            offered = self.replica.beginning.offered(message.position)  # type: ignore[union-attr]
            if offered is None:
                return
        self.cluster.send(self.node, message, tuple(entries), offered)

    def led(self, group: PartitionId, leadership: Leadership) -> None:
        if leadership.role is Role.LEADER:
            hard = self.storage.hard_state(PARTITION)
            checkers = self.cluster.checkers
            checkers.votes(self.node, leadership.term, self.node, (hard.term, hard.vote))
            checkers.elected((self.node, self.incarnation), leadership.term)

    def stirred(self, group: PartitionId) -> None:
        """Every group here is ticked."""

    def shrunk(self, group: PartitionId, shrunk: Shrunk) -> None:
        """No disk here is older than its word: what was synced survives every crash."""
        raise Violation("promises-durable", f"{shrunk.node} holds less than it acknowledged")

    def damaged(self, group: PartitionId, *, distrusted: bool) -> None:
        """The process ends with its log, and starts again."""

    def receive(
        self, message: PeerMessage, entries: Sequence[Entry], offered: Offered | None
    ) -> None:
        """A message has arrived."""
        if self.replica is not None and not self._scope.cancel_called:
            self.replica.step(message, entries, offered)

    # --- the state machine ------------------------------------------------------------------------

    def apply(self, entry: Entry) -> int:
        """Takes a batch: its offset must be the next, and its value the one that all others see."""
        header = entry.header
        value = int(bytes(entry.payload[8:24]))
        checkers = self.cluster.checkers
        checkers.applied(self.node, header.index, header.term, value)
        checkers.reached["offsets"] += 1
        if header.base_offset != self._last:
            raise Violation(
                "offsets", f"{self.node} has offset {header.base_offset} after {self._last}"
            )
        self._last = header.base_offset + 1
        self.digest = hash((self.digest, header.index, value))
        return value

    def snapshot(self) -> bytes:
        """The offset that comes next, and what all values so far come to."""
        return f"{self._last} {self.digest}".encode()

    def restore(self, state: bytes) -> None:
        """Goes on from a snapshot: its own, or one that its leader has sent."""
        self._last, self.digest = map(int, state.split())
        if self.replica is not None:
            self.cluster.faults["begun anew"] += 1

    @property
    def applied(self) -> int:
        """The last entry of any kind whose effect is here."""
        return 0 if self.replica is None else self.replica.applied

    @property
    def leads(self) -> bool:
        """Whether this replica leads and serves."""
        return self.replica is not None and self.replica.serving

    @property
    def term(self) -> int:
        """Its term."""
        return 0 if self.replica is None else self.replica.term

    async def judge(self) -> None:
        """The sealed log, read back whole, must be the one that everybody holds."""
        index, last = self.log.first_index, self.log.last.index
        begins = self.log.segments()[0].first_offset
        if begins > self.cluster.log_start:
            raise Violation("nothing-acknowledged-lost", f"{self.node} begins at {begins}")
        before = self.log.term_at(Index(index - 1)) or 0
        while index <= last:
            for entry in await self.log.entries(index, last, 1 << 20):
                header = entry.header
                self.cluster.checkers.holds(
                    self.node, header.index, header.term, bytes(entry.payload[8:]), before
                )
                before = header.term
                index = Index(header.index + 1)
