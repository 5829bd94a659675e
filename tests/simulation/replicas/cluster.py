"""Three to five machines with a replica each, their network, their clients and their troubles."""

import random
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

import trio
from checkers import Checkers, Violation
from replicas.machine import Machine

from appliance.broker.snapshots import Offered
from appliance.errors import ErrorCode, RequestError
from appliance.raft.configuration import Configuration
from appliance.raft.messages import PeerMessage
from appliance.raft.ready import Refused
from appliance.types import Entry, EntryHeader, EntryKind, NodeId, Offset
from tests.simulation.keys import SeededKeys


class Cluster:
    """Everything of one run."""

    def __init__(
        self,
        dice: random.Random,
        checkers: Checkers,
        faults: Counter[str],
        lines: list[str] | None,
    ) -> None:
        self.dice, self.checkers, self.faults, self.lines = dice, checkers, faults, lines
        self.keys = SeededKeys(random.Random(dice.getrandbits(32)))
        self.first = Configuration(frozenset(map(NodeId, range(1, dice.choice((3, 3, 5)) + 1))))
        self.machines: dict[int, Machine] = {}
        self.loss = self.duplication = 0.0
        self.cut: set[tuple[int, int]] = set()
        self.ran_s = 0.0
        self.stormy = True
        self.log_start = Offset(0)
        """Nothing below it is to be seen any more; what is at or above it is never to be lost."""
        self._written = 0
        self._asked = False

    async def start(self, nursery: trio.Nursery) -> None:
        """All machines, with empty disks."""
        self.nursery = nursery
        self.began_s = trio.current_time()
        for node in sorted(self.first.voters):
            await self.join(node)

    async def join(self, node: int) -> None:
        """A machine with an empty disk."""
        machine = Machine(self, node)
        self.machines[node] = machine
        await machine.create()
        self.nursery.start_soon(machine.live)

    def say(self, line: str) -> None:
        """A line of the trace."""
        self.ran_s = trio.current_time() - self.began_s
        if self.lines is not None:
            self.lines.append(f"{self.ran_s:9.4f} {line}")

    def trace_hash(self) -> str:
        """Of every line."""
        return sha256("\n".join(self.lines or ()).encode()).hexdigest()

    # --- the network ----------------------------------------------------------------------------

    def send(
        self,
        sender: int,
        message: PeerMessage,
        entries: Sequence[Entry],
        offered: Offered | None,
    ) -> None:
        """A message leaves a machine."""
        if (sender, message.to) in self.cut:
            self.faults["cut off"] += 1
            return
        if self.dice.random() < self.loss:
            self.faults["lost"] += 1
            return
        self.nursery.start_soon(self._travel, sender, message, entries, offered)
        if self.dice.random() < self.duplication:
            self.faults["doubled"] += 1
            self.nursery.start_soon(self._travel, sender, message, entries, offered)

    async def _travel(
        self,
        sender: int,
        message: PeerMessage,
        entries: Sequence[Entry],
        offered: Offered | None,
    ) -> None:
        await trio.sleep(0.0003 + self.dice.random() * 0.004)
        machine = self.machines.get(message.to)
        if machine is not None and (sender, message.to) not in self.cut:
            machine.receive(message, entries, offered)

    # --- clients --------------------------------------------------------------------------------

    def leader(self) -> Machine | None:
        """Who leads the latest term."""
        found = [m for m in self.machines.values() if m.replica is not None and m.leads]
        return max(found, key=lambda m: m.term, default=None)

    async def clients(self) -> None:
        """Writes at everybody who thinks that it leads."""
        while True:
            await trio.sleep(self.dice.random() * 0.08)
            for machine in list(self.machines.values()):
                if machine.leads:
                    self._write(machine)
            draw = self.dice.random()
            if draw < 0.02:
                self._hand_over()
            elif draw < 0.05:
                await self._change()
            elif draw < 0.15:
                self._let_go()

    def _write(self, machine: Machine) -> bool:
        self._written += 1
        value = self._written
        payload = bytearray(8) + b"%016d" % value

        def told(code: ErrorCode, header: EntryHeader, _result: object) -> None:
            if code is ErrorCode.NONE:
                self.checkers.wrote(header.index, value)

        try:
            machine.replica.propose(EntryKind.BATCH, payload, 0, told)  # type: ignore[union-attr]
        except RequestError:
            return False
        return True

    def last_write(self) -> None:
        """One write when all is well again."""
        leader = self.leader()
        if not self._asked and leader is not None:
            self._asked = self._write(leader)

    def _let_go(self) -> None:
        """Most of what is decided is not wanted any more."""
        leader = self.leader()
        if leader is not None and leader.replica is not None:
            end = leader.replica.high_watermark
            self.log_start = max(self.log_start, Offset(end - self.dice.choice((0, 0, 5, 20))))

    def _hand_over(self) -> None:
        leader = self.leader()
        if leader is None or leader.replica is None:
            return
        try:
            leader.replica.hand_over(self.dice.choice(sorted(leader.replica.configuration.voters)))
        except Refused:
            return
        self.faults["transfers"] += 1

    async def _change(self) -> None:
        leader = self.leader()
        if leader is None or leader.replica is None:
            return
        now = leader.replica.configuration
        voters, learners = set(now.voters), set(now.learners)
        if learners:
            voters |= learners
            learners.clear()
        elif len(voters) > 3:
            voters.discard(self.dice.choice(sorted(voters)))
        else:
            learners.add(NodeId(max(self.machines) + 1 if len(self.machines) < 6 else 1))
        try:
            leader.replica.change(frozenset(voters), frozenset(learners - voters))
        except Refused:
            return
        self.faults["membership changes"] += 1
        for node in sorted(learners - self.machines.keys()):
            await self.join(node)

    # --- trouble --------------------------------------------------------------------------------

    async def trouble(self) -> None:
        """Something breaks now and then."""
        while True:
            await trio.sleep(self.dice.random() * 0.3)
            draw = self.dice.random()
            if draw < 0.35:
                self.dice.choice(list(self.machines.values())).crash()
            elif draw < 0.45:
                leader = self.leader()
                if leader is not None:
                    leader.crash()
            elif draw < 0.55:
                self.dice.choice(list(self.machines.values())).failing = True
            elif draw < 0.8:
                self._partition()
            else:
                self.loss = self.dice.choice((0.0, 0.02, 0.3))
                self.duplication = self.dice.choice((0.0, 0.1, 0.5))

    def _partition(self) -> None:
        self.faults["partitions"] += 1
        nodes = sorted(self.machines)
        side = set(self.dice.sample(nodes, self.dice.randint(1, len(nodes) - 1)))
        pairs = {(a, b) for a in nodes for b in nodes if (a in side) != (b in side)}
        self.cut |= pairs
        self.nursery.start_soon(self._mend, pairs, self.dice.random() * 1.5)

    async def _mend(self, pairs: set[tuple[int, int]], delay_s: float) -> None:
        await trio.sleep(delay_s)
        self.cut -= pairs

    def heal(self) -> None:
        """All troubles are over."""
        self.stormy = False
        self.cut.clear()
        self.loss = self.duplication = 0.0
        for machine in self.machines.values():
            machine.failing = False

    # --- judgement ------------------------------------------------------------------------------

    def converged(self) -> bool:
        """Whether everybody has applied what the leader holds."""
        leader = self.leader()
        if not self._asked or leader is None or leader.replica is None:
            return False
        last = leader.replica.core.last.index
        members = leader.replica.configuration.members
        return not leader.replica.configuration.joint and all(
            self.machines[node].replica is not None and self.machines[node].applied == last
            for node in members
        )

    async def judge(self) -> None:
        """Holds the end against the truth."""
        self.ran_s = trio.current_time() - self.began_s
        leader = self.leader()
        if not self.converged() or leader is None or leader.replica is None:
            ends = {n: (m.applied, m.replica is not None) for n, m in self.machines.items()}
            raise Violation("liveness", f"no convergence: {ends}, leader {leader and leader.node}")
        members = [self.machines[node] for node in sorted(leader.replica.configuration.members)]
        for machine in members:
            await machine.judge()
        digests = {leader.applied: leader.digest}
        self.checkers.ended([(m.node, m.applied, m.digest) for m in members], digests)
        self.say(f"ended with {leader.applied} applied")
