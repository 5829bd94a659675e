"""What goes wrong in one run, drawn from its seed."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio
from nodes.machine import DISK_FAULTS, Machine
from nodes.verdict import founded

from appliance.raft.ready import Role
from tests.simulation.disk import Action, Fault

if TYPE_CHECKING:
    from nodes.world import World

SILENT = frozenset({Fault.LOST, Fault.MISDIRECTED})
LIES = tuple(each for each in DISK_FAULTS if each[1] in SILENT)
"""Drawn by themselves as well: one that is due on another machine does not come about."""


class Nemesis:
    """Strikes now and then until told to stop."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._dice = world.dice
        self._pace_s = self._dice.choice((0.25, 0.6, 1.0))
        self._acts: tuple[Callable[[], None], ...] = (
            self._crash, self._crash, self._crash_leader, self._stop, self._pause, self._pause,
            self._partition, self._partition, self._one_way, self._clog, self._weather,
            self._weather, self._jump, self._fail_disk, self._fail_disk, self._lie, self._rot,
            self._power_cut, self._crash_in_step, self._crash_in_step,
        )  # fmt: skip
        self._faulty: Machine | None = None
        self._weather()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(self._dice.random() * 2 * self._pace_s)
            self._dice.choice(self._acts)()

    def _some(self) -> Machine:
        return self._dice.choice([self._world.machines[n] for n in sorted(self._world.machines)])

    def _leader(self) -> Machine | None:
        """Somebody who leads many groups."""
        led = {
            machine: sum(r.role is Role.LEADER for r in machine.member.consensus.replicas())
            for machine in self._world.machines.values()
            if machine.member is not None
        }
        return max(led, key=lambda machine: (led[machine], machine.node), default=None)

    # --- processes ------------------------------------------------------------------------------

    def _down(self, machine: Machine) -> None:
        if machine.member is not None:
            self._world.faults["crashes"] += 1
            machine.crash()

    def _crash(self) -> None:
        self._down(self._some())

    def _crash_in_step(self) -> None:
        self._some().crash_in_steps = self._dice.randint(1, 12)

    def _crash_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            self._down(leader)

    def _power_cut(self) -> None:
        """All at once, now and then."""
        if self._dice.random() < 0.3:
            self._world.faults["whole power cuts"] += 1
            for node in sorted(self._world.machines):
                self._down(self._world.machines[node])

    def _stop(self) -> None:
        self._some().stop()

    def _pause(self) -> None:
        machine = self._leader() if self._dice.random() < 0.5 else self._some()
        if machine is None or machine.member is None or self._world.queue.is_stopped(machine.node):
            return
        self._world.faults["pauses"] += 1
        self._world.say(f"{machine.node} is PAUSED")
        self._world.queue.stop(machine.node)
        self._later(self._dice.random() * 2.5, lambda: self._go_on(machine.node))

    def _go_on(self, node: int) -> None:
        if self._world.queue.is_stopped(node):
            self._world.say(f"{node} goes on")
            self._world.queue.go_on(node)

    def _jump(self) -> None:
        self._world.faults["clock jumps"] += 1
        self._some().clock.jump(self._dice.choice((-60_000, -1_000, 1_000, 60_000)))

    # --- disks ----------------------------------------------------------------------------------

    def _fail_disk(self) -> None:
        """The next step of some kind fails; one that lies about it is on one machine of a run."""
        self._due(DISK_FAULTS)

    def _lie(self) -> None:
        self._due(LIES)

    def _due(self, faults: Sequence[tuple[Action, Fault]]) -> None:
        action, fault = self._dice.choice(faults)
        machine = self._some()
        if fault in SILENT and not self._may_lie(machine):
            return
        machine.faults_due.append((action, fault))

    def _may_lie(self, machine: Machine) -> bool:
        """One machine of a run, while every group can bear its loss."""
        if self._faulty not in {None, machine} or not founded(self._world):
            return False
        self._faulty = machine
        return True

    def _rot(self) -> None:
        machine = self._some()
        if not self._may_lie(machine):
            return
        self._down(machine)
        if self._world.network is not None:
            self._later(0.0001, lambda: self._rots(machine))

    def _rots(self, machine: Machine) -> None:
        if machine.rot():
            self._world.faults["bit rot"] += 1

    # --- network --------------------------------------------------------------------------------

    def _partition(self) -> None:
        nodes = sorted(self._world.machines)
        side = set(self._dice.sample(nodes, self._dice.randint(1, len(nodes) - 1)))
        self._world.faults["partitions"] += 1
        self._world.say(f"PARTITION {sorted(side)} from the rest")
        self._cut([(a, b) for a in nodes for b in nodes if (a in side) != (b in side)])

    def _one_way(self) -> None:
        node, nodes = self._some().node, sorted(self._world.machines)
        self._world.faults["one-way partitions"] += 1
        self._world.say(f"{node} is cut off ONE WAY")
        inward = self._dice.random() < 0.5
        self._cut([(o, node) if inward else (node, o) for o in nodes if o != node])

    def _cut(self, ways: list[tuple[int, int]]) -> None:
        network = self._world.network
        network.cut.update(ways)
        if self._dice.random() < 0.5:
            network.break_all(lambda link: link.ends in ways or link.ends[::-1] in ways)
        self._later(self._dice.random() * 2.0, lambda: network.cut.difference_update(ways))

    def _clog(self) -> None:
        network = self._world.network
        one, other = self._dice.sample(sorted(self._world.machines), 2)
        self._world.faults["clogs"] += 1
        network.clog(one, other)
        self._later(self._dice.random() * 1.5, lambda: network.unclog(one, other))

    def _weather(self) -> None:
        network, dice = self._world.network, self._dice
        network.loss = dice.choice((0.0, 0.0, 0.02, 0.1, 0.3))
        network.duplication = dice.choice((0.0, 0.0, 0.05, 0.5))
        network.slow = dice.choice((0.0, 0.1, 0.4))

    # --- and after it ---------------------------------------------------------------------------

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        async def acts() -> None:
            await trio.sleep(delay_s)
            act()

        self._world.nursery.start_soon(acts)

    def end(self) -> None:
        """All faults stop."""
        world = self._world
        world.say("ALL FAULTS END")
        world.stormy = False
        world.network.heal()
        for node in sorted(world.machines):
            world.machines[node].faults_due.clear()
            world.machines[node].crash_in_steps = 0
            self._go_on(node)
