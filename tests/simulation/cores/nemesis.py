"""What goes wrong in one run, drawn from its seed; after that, everything is made good."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random

from cores.group import Group
from cores.member import Member

from appliance.limits import RAFT_ELECTION_TICKS_MAX
from appliance.raft.configuration import Configuration
from appliance.raft.ready import Refused, Role
from appliance.types import NodeId


class Nemesis:
    """Strikes now and then until told to stop."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._world = group.world
        self._over = False
        dice = self._world.random
        self._resets = Random(f"resets {self._world.seed}")
        """Of its own, and in one world of four: where leaders fall late, other bugs show."""
        self._reset_share = 0.5 if self._resets.random() < 0.25 else 0.0
        self._pace_ms = dice.choice((80, 200, 500))
        self._acts: tuple[Callable[[], None], ...] = (
            self._crash,
            self._crash,
            self._pause,
            self._jump,
            self._coup,
            self._coup,
            self._coup,
            self._coup,
            self._compact,
            self._compact,
            self._compact,
            self._isolate_leader,
            self._partition,
            self._partition,
            self._one_way,
            self._clog,
            self._weather,
            self._slow_disk,
            self._compact,
            self._compact,
            self._power_cut,
            self._crash_leader,
            self._rot,
            self._isolate_leader,
        )
        for member in group.members.values():
            self.drift(member)
        self._weather()
        self._next()

    def drift(self, member: Member) -> None:
        """Clocks do not agree."""
        member.drift = 0.9 + self._world.random.random() * 0.2
        self._world.faults["clock drift"] += 1

    def _next(self) -> None:
        if not self._over:
            self._world.after(self._world.random.random() * 2 * self._pace_ms, self._strike)

    def _strike(self) -> None:
        if self._over:
            return
        self._world.random.choice(self._acts)()
        if self._resets.random() < self._reset_share / 10:
            self._reset()
        self._next()

    def _some(self) -> Member:
        return self._world.random.choice(list(self._group.members.values()))

    def _crash(self) -> None:
        self._down(self._some())

    def _crash_leader(self) -> None:
        leader = self._group.leader()
        if leader is not None:
            self._down(leader)

    def change_strikes(self, member: Member) -> None:
        """A leader that has just begun a change of members is not always there to end it."""
        if self._world.random.random() < 0.3:
            back_ms = self._world.random.random() * 5
            self._world.after(back_ms, partial(self._down, member))
            nodes = sorted(self._group.members.keys() - {member.node})
            self._world.after(10, partial(self._rise, nodes))

    def _down(self, member: Member) -> None:
        if member.up:
            self._world.faults["crashes"] += 1
            member.crash()
            if self._resets.random() < self._reset_share:
                self._group.connection_lost(member.node)
            back_ms = self._world.random.random() * 800
            self._world.after(back_ms, partial(self._up, member))

    def _reset(self) -> None:
        """A leader's connections break, and it lives: its followers take it for gone."""
        leader = self._group.leader()
        if leader is not None:
            self._world.faults["connections reset"] += 1
            self._group.connection_lost(leader.node)

    def _up(self, member: Member) -> None:
        if not member.up:
            self._world.faults["restarts"] += 1
            member.start()

    def _rot(self) -> None:
        """A log loses its end, on one member at a time: more than a minority cannot be borne."""
        member = self._some()
        if member.up and self._group.whole and self._group.fewest_voters > 2:
            member.rot = True
            self._down(member)

    def _power_cut(self) -> None:
        if self._world.random.random() < 0.3:
            self._world.faults["whole power cuts"] += 1
            for member in list(self._group.members.values()):
                self._down(member)

    def _pause(self) -> None:
        member = self._some()
        if member.up and not member.paused:
            self._world.faults["pauses"] += 1
            member.paused = True
            self._world.after(self._world.random.random() * 1500, member.resume)

    def _jump(self) -> None:
        """Clocks jump ahead: many time-outs end at once, and rivals stand against each other."""
        dice = self._world.random
        self._world.faults["clock jumps"] += 1
        nodes = sorted(self._group.members)
        self._rise(dice.sample(nodes, dice.randint(0, len(nodes))))

    def _partition(self) -> None:
        dice = self._world.random
        nodes = sorted(self._group.members)
        side = set(dice.sample(nodes, dice.randint(1, len(nodes) - 1)))
        self._split(side, nodes)

    def _isolate_leader(self) -> None:
        leader = self._group.leader()
        if leader is not None:
            self._split({leader.node}, sorted(self._group.members))
            if self._world.random.random() < 0.5:
                self._jump()

    def _split(self, side: set[int], nodes: list[int]) -> None:
        self._world.say(f"PARTITION {sorted(side)} from the rest")
        self._world.faults["partitions"] += 1
        pairs = [(a, b) for a in nodes for b in nodes if (a in side) != (b in side)]
        self._cut(pairs)

    def _coup(self) -> None:
        """The leader is cut off with a few, and the others elect another before it notices."""
        leader, dice = self._group.leader(), self._world.random
        if leader is None or leader.paused:
            return
        self._world.faults["coups"] += 1
        nodes = sorted(self._group.members)
        side = {leader.node, *dice.sample(nodes, dice.randint(0, (len(nodes) - 1) // 2))}
        pairs = [(a, b) for a in nodes for b in nodes if (a in side) != (b in side)]
        self._world.after(dice.random() * 4, partial(self._cut, pairs, dice.choice((40, 80, 600))))
        self._world.after(4.5 + dice.random() * 9, partial(self._last_words, leader))
        rivals = [n for n in nodes if n not in side]
        self._world.after(5, partial(self._rise, rivals))
        if rivals and dice.random() < 0.5:
            self._stumble(dice.choice(rivals), nodes)

    def _last_words(self, leader: Member) -> None:
        """What it still takes is not known to those who elect another."""
        if not leader.up or leader.paused:
            return
        leader.propose(0)
        now = leader.core.configuration
        gone = self._world.random.choice(sorted(now.members))
        with suppress(Refused):
            if gone in now.learners:
                leader.core.propose_configuration(now.voters, now.learners - {gone})
            elif len(now.voters) > 3 + (not self._group.whole):
                leader.core.propose_configuration(now.voters - {gone}, now.learners)
            else:
                leader.core.propose_configuration(now.voters, now.learners | self._spare(now))
            leader.drain()

    def _spare(self, now: Configuration) -> frozenset[NodeId]:
        """A node that is there and does not belong to the group, if there is one."""
        return frozenset(sorted(self._group.members.keys() - now.members)[:1])  # type: ignore[arg-type]

    def _stumble(self, node: int, nodes: list[int]) -> None:
        """A rival is down and up again, and hears only then that others wanted its vote."""
        after, network = self._world.after, self._group.network
        for other in nodes:
            if other != node:
                after(8.5, partial(network.clog, other, node))
                after(70, partial(network.unclog, other, node))
        after(
            10 + self._world.random.random() * 40, partial(self._blink, self._group.members[node])
        )

    def _blink(self, member: Member) -> None:
        if member.up:
            self._world.faults["crashes"] += 1
            member.crash()
            self._world.after(self._world.random.random() * 5, partial(self._up, member))

    def _rise(self, nodes: list[int]) -> None:
        for node in nodes:
            member = self._group.members[node]
            if member.up and not member.paused and member.core.role is not Role.LEADER:
                member.core.tick(RAFT_ELECTION_TICKS_MAX)
                member.drain()

    def _one_way(self) -> None:
        self._world.faults["one-way partitions"] += 1
        node = self._some().node
        others = [n for n in sorted(self._group.members) if n != node]
        inward = self._world.random.random() < 0.5
        self._cut([(o, node) if inward else (node, o) for o in others])

    def _cut(self, pairs: list[tuple[int, int]], most_ms: float = 1200) -> None:
        cut = self._group.network.cut
        cut.update(pairs)
        back_ms = self._world.random.random() * most_ms
        self._world.after(back_ms, partial(cut.difference_update, pairs))

    def _clog(self) -> None:
        self._world.faults["clogs"] += 1
        a, b = self._world.random.sample(sorted(self._group.members), 2)
        self._group.network.clog(a, b)
        back_ms = self._world.random.random() * 1200
        self._world.after(back_ms, partial(self._group.network.unclog, a, b))

    def _weather(self) -> None:
        dice, network = self._world.random, self._group.network
        network.loss = dice.choice((0.0, 0.0, 0.02, 0.1, 0.3))
        network.duplication = dice.choice((0.0, 0.0, 0.05, 0.5))
        network.slow = dice.choice((0.0, 0.1, 0.4))

    def _slow_disk(self) -> None:
        self._world.faults["slow disks"] += 1
        self._some().sync_ms = self._world.random.choice((0.5, 2.0, 20.0, 120.0))

    def _compact(self) -> None:
        member = self._some()
        if member.up and not member.paused:
            member.compact(member.applied - self._world.random.choice((0, 0, 0, 3, 20)))

    def _last_blow(self) -> None:
        """A leader hands over to somebody who is down, and will be for a while."""
        leader = self._group.leader()
        if leader is None or leader.paused:
            return
        to = self._world.random.choice(sorted(leader.core.configuration.voters))
        if to == leader.node:
            return
        target = self._group.members[to]
        if target.up:
            target.crash()
        with suppress(Refused):
            leader.core.transfer_leadership(to)
            leader.drain()

    def end(self) -> None:
        """All faults stop; what is down comes up."""
        self._last_blow()
        self._over = True
        self._world.say("ALL FAULTS END")
        self._group.network.heal()
        for member in self._group.members.values():
            member.sync_ms = 1.0
            if not member.up:
                self._world.after(self._world.random.random() * 600, partial(self._up, member))
            member.resume()
