"""One machine: a disk that outlives its processes, and a process with a whole node in it.

The broker, its consensus, the sealed log, the node journal, the gate and the audit log run as
`assembly` puts them together; the disk, the clock, entropy, the key provider and what lies between
nodes are simulated. Rules: a process ends between any two steps of its tasks, as by kill -9 or a
power cut, or by SIGTERM; of what was written and not synced a power cut keeps what the seed says.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import trio
from nodes.link import Links
from nodes.time import NODE, DriftingClock

from appliance.audit.sink import AuditLog
from appliance.authz.gate import Gate
from appliance.broker.caller import Caller
from appliance.broker.node import BrokerNode
from appliance.broker.settings import BrokerSettings
from appliance.coordination.commands import Endpoint
from appliance.errors import KeyProviderError, ProtocolViolation, StorageError
from appliance.raft.ready import Leadership, Role
from appliance.storage.node import NodeDirectory
from appliance.types import ClusterId, KeyDomainId, NodeId, PartitionId
from appliance.wire.kafka.batch import stamp
from appliance.wire.requests import Request, Response
from tests.simulation.disk import Action, Fault, SimulatedDisk
from tests.simulation.keys import SeededEntropy

if TYPE_CHECKING:
    from nodes.world import World

CLUSTER = ClusterId(UUID(int=31))
DOMAIN = KeyDomainId(UUID(int=32))
AUDIT = PartitionId(UUID("00000000-0000-8000-8000-000000000003"))
POLICY = "p, User:admin, *, *, *, allow\n"
WALL_MS = 1_700_000_000_000
STOP_S = 4.0
DEAD_STARTS = 3
"""Starts that the disk has ended before the machine is given up."""

Reply = Callable[[Response | None], None]


class Member:
    """A node's process while it lives."""

    def __init__(self, machine: "Machine", storage: NodeDirectory, node: BrokerNode) -> None:
        self.machine, self.storage, self.node = machine, storage, node
        self.joined = trio.Event()
        self.stopping = trio.Event()
        self.ended = trio.Event()
        self._send, self._inbox = trio.open_memory_channel[tuple[Any, ...]](100_000)

    def open(self, audit: AuditLog, clock: DriftingClock) -> None:
        """From here on it can be asked."""
        gate = Gate(self.node.policies, self.node.topic_names, clock)
        self.dispatcher = self.node.dispatcher(gate, audit)
        self.peer_dispatcher = self.node.peer_dispatcher(gate, audit)

    @property
    def consensus(self) -> Any:
        """All its groups."""
        return self.node._foundation.consensus

    def take(self, caller: Caller, request: Request, reply: Reply | None = None) -> None:
        """Something has arrived; without `reply`, a delivery of another node."""
        self._send.send_nowait((caller, request, reply))

    async def serve(self) -> None:
        """Takes what arrives, as listeners do."""
        async with trio.open_nursery() as nursery:
            async for caller, request, reply in self._inbox:
                if reply is None:
                    await self._take_in(caller, request)
                else:
                    nursery.start_soon(self._answer, caller, request, reply)

    async def _take_in(self, caller: Caller, delivery: Request) -> None:
        """A real listener closes the connection of a node that was removed; others behave."""
        try:
            await self.peer_dispatcher.dispatch(caller, delivery)
        except ProtocolViolation:
            sender = NodeId(int(caller.principal.name))
            if sender not in self.node.policies.state.membership.retired:
                raise
            here = self.machine.node
            self.machine.world.network.break_all(lambda link: link.has(sender) and link.has(here))

    async def _answer(self, caller: Caller, request: Request, reply: Reply) -> None:
        dispatcher = self.peer_dispatcher if caller.listener == "peer" else self.dispatcher
        answer: Any = await dispatcher.dispatch(caller, request)
        if hasattr(answer, "on_resolved"):
            done = trio.Event()
            answer.on_resolved(done.set)
            await done.wait()
            answer = answer.response
        reply(answer)


class Machine:
    """See the module."""

    def __init__(self, world: "World", node: int) -> None:
        self.world, self.node = world, node
        self.source = random.Random(world.dice.getrandbits(32))
        self.clock = DriftingClock(WALL_MS, 0.95 + 0.1 * self.source.random())
        self.disk = SimulatedDisk()
        self.member: Member | None = None
        self.lives = 0
        self._last: Member | None = None
        self.gone = False
        """It will not start any more."""
        self.faults_due: list[tuple[Action, Fault]] = []
        self.crash_in_steps = 0
        """Of its disk: it loses power in the middle of one."""
        self.doomed = False
        """A write went astray and nobody knows: what it promised is not on its disk."""
        self.rotten = False
        self._dead_starts = 0
        self._scope = trio.CancelScope()
        self._next_disk: SimulatedDisk | None = None

    async def create(self) -> None:
        """The data directory, made once."""
        storage = await NodeDirectory.create(
            self.disk, cluster=CLUSTER, node=NodeId(self.node), domain=DOMAIN,
            keys=self.world.keys, entropy=SeededEntropy(self.source), stamp=stamp,
        )  # fmt: skip
        await storage.close()

    async def live(self) -> None:
        """One process after another."""
        NODE.set(self.node)
        while not self.gone:
            with trio.CancelScope() as self._scope:
                try:
                    await self._process()
                    self._dead_starts = 0
                except* (StorageError, KeyProviderError) as group:
                    self._ended_by_disk(group)
            self.member = None
            if self._last is not None:
                self._last.ended.set()
            self.world.network.break_all(lambda link: link.has(self.node))
            self._settle_disk()
            await trio.sleep(self.source.random() * (0.8 if self.world.stormy else 0.05))
            self.world.faults["restarts"] += 1

    def _ended_by_disk(self, group: BaseExceptionGroup[Exception]) -> None:
        self.world.faults["ended by its disk"] += 1
        joined = self.member is not None and self.member.joined.is_set()
        self._dead_starts = 0 if joined else self._dead_starts + 1
        self.world.say(f"{self.node} ENDS: {[str(each) for each in group.exceptions]}")
        if self._dead_starts >= DEAD_STARTS and (self.rotten or self.doomed):
            self.gone = True

    # --- a process ------------------------------------------------------------------------------

    async def _process(self) -> None:
        self.lives += 1
        self.disk.on_step = self._on_step
        storage = await NodeDirectory.open(
            self.disk, keys=self.world.keys, entropy=SeededEntropy(self.source), stamp=stamp
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storage.run)
            node = await BrokerNode.prepare(
                self._settings(), storage=storage, clock=self.clock,
                entropy=SeededEntropy(self.source), nursery=nursery,
            )  # fmt: skip
            journal = await storage.open_journal(AUDIT)
            audit = AuditLog(journal, self.clock)
            await audit.start()
            self.member = self._last = member = Member(self, storage, node)
            member.open(audit, self.clock)
            self._observe(member)
            nursery.start_soon(member.serve)
            nursery.start_soon(Links(self.world, self.node, member).run)
            nursery.start_soon(self._join, member)
            nursery.start_soon(self._watch, member)
            await member.stopping.wait()
            await node.hand_over()
            with trio.move_on_after(STOP_S):
                await node.close()
                await journal.close()
            nursery.cancel_scope.cancel()
        await storage.close()

    def _observe(self, member: Member) -> None:
        """Tells who leads what."""
        consensus, life = member.consensus, self.lives
        led = consensus.led

        def observed(group: PartitionId, leadership: Leadership) -> None:
            if leadership.role is Role.LEADER:
                self.world.led(self.node, life, group, leadership.term)
            led(group, leadership)

        consensus.led = observed

    def _settings(self) -> BrokerSettings:
        return BrokerSettings(
            domain=DOMAIN,
            host=f"host-{self.node}",
            rack=None,
            endpoints=tuple(
                Endpoint(name, f"n{self.node}", port)
                for name, port in (("kafka", 9093), ("native", 9193), ("peer", 9293))
            ),
            first_policy=POLICY if self.node == 1 else None,
            joins=self.node != 1,
        )

    async def _join(self, member: Member) -> None:
        await member.node.join()
        member.joined.set()
        self.world.say(f"{self.node} serves")

    async def _watch(self, member: Member) -> None:
        """A replica whose log has failed is not repaired by its process: somebody restarts that."""
        while True:
            await trio.sleep(0.5)
            if any(replica.failed for replica in member.consensus.replicas()):
                self.world.say(f"{self.node} is RESTARTED for a failed log")
                self._scope.cancel()

    # --- ends -----------------------------------------------------------------------------------

    def crash(self) -> None:
        """kill -9, or the power goes."""
        self.crash_in_steps = 0
        if self.member is None:
            return
        world, dice = self.world, self.source
        world.queue.go_on(self.node)
        image = self.disk.image()
        if dice.random() < 0.3:
            world.faults["kills"] += 1
            self._next_disk = image.after_a_kill()
        else:
            world.faults["power cuts"] += 1
            share = dice.choice((0.0, 0.5, 1.0))
            self._next_disk = image.after_a_power_cut(lambda *_: self._keeps(share))
        world.say(f"{self.node} CRASHES")
        self.disk.on_step = lambda *_: Fault.IO  # whatever is still to run has no disk any more
        self.member = None
        self.gone |= self.doomed
        self._scope.cancel()

    def _keeps(self, share: float) -> bool:
        kept = self.source.random() < share
        self.world.faults["pending writes kept" if kept else "pending writes lost"] += 1
        return kept

    def stop(self) -> None:
        """SIGTERM."""
        if self.member is not None and self.member.joined.is_set():
            self.world.faults["clean stops"] += 1
            self.world.say(f"{self.node} STOPS")
            self.member.stopping.set()

    def retire(self) -> None:
        """The machine is taken away for good."""
        self.gone = True
        self.crash()

    def _settle_disk(self) -> None:
        disk, self._next_disk = self._next_disk, None
        self.disk = disk or self.disk.image().after_a_kill()
        self.disk.on_step = lambda *_: None

    def rot(self) -> bool:
        """One bit of what lies durable, in the first half of a log's file, turns over."""
        files = {
            name: content
            for name, content in sorted(self.disk.files().items())
            if is_log_data(name) and len(content) > 4096
        }
        if self.member is not None or not files:
            return False
        name = self.source.choice(sorted(files))
        content = bytearray(files[name])
        used = len(bytes(content).rstrip(b"\0"))
        content[self.source.randrange(max(1, used // 2))] ^= 1 << self.source.randrange(8)
        every = self.disk.files() | {name: bytes(content)}
        self.disk = SimulatedDisk.holding(every)
        self.rotten = True
        self.world.say(f"{self.node} has a bit of {name} ROTTEN")
        return True

    def _on_step(self, action: Action, name: str) -> Fault | None:
        if self.crash_in_steps and self.member is not None:
            self.crash_in_steps -= 1
            if not self.crash_in_steps:
                self.world.faults["crashes in a step of the disk"] += 1
                self.crash()
                return Fault.IO
        for due in self.faults_due:
            wanted, fault = due
            silent = fault in {Fault.LOST, Fault.MISDIRECTED}
            if wanted is action and (not silent or is_log_data(name)):
                self.faults_due.remove(due)
                self.doomed |= silent
                self.world.faults[_NAMES[fault, action]] += 1
                self.world.say(f"{self.node}'s disk: {fault.value} at {action.value} {name}")
                return fault
        return None


_NAMES = {
    (Fault.IO, Action.SYNC): "failed syncs",
    (Fault.IO, Action.WRITE): "failed writes",
    (Fault.SHORT, Action.WRITE): "short writes",
    (Fault.FULL, Action.WRITE): "full disks",
    (Fault.FULL, Action.RESERVE): "full disks",
    (Fault.IO, Action.READ): "failed reads",
    (Fault.MISDIRECTED, Action.WRITE): "misdirected writes",
    (Fault.LOST, Action.WRITE): "lost writes",
}
DISK_FAULTS = tuple((action, fault) for fault, action in _NAMES)


def is_log_data(name: str) -> bool:
    """Whether a file holds a log's entries."""
    folder, _, base = name.rpartition("/")
    return folder not in {"", "journals"} and "manifest" not in base and "." not in base
