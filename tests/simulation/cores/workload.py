"""What clients and administrators want of the group: writes, reads, other members, other leaders.

Rules: it knows nothing of what is right; the checkers do.
"""

from cores.group import Group
from cores.nemesis import Nemesis

from appliance.raft.ready import Refused, Role
from appliance.types import NodeId

NODES = 6


class Workload:
    """Asks for something every few milliseconds."""

    def __init__(self, group: Group, nemesis: Nemesis) -> None:
        self._group = group
        self._world = group.world
        self._nemesis = nemesis
        self._over = False
        self._made = 0
        self._pace_ms = self._world.random.choice((20, 40, 90))
        self._next()

    def _next(self) -> None:
        if not self._over:
            self._world.after(self._world.random.random() * 2 * self._pace_ms, self._ask)

    def _ask(self) -> None:
        if self._over:
            return
        self._made += 1
        draw = self._world.random.random()
        if draw < 0.05:
            self._each_leader(self._change)
        elif draw < 0.07:
            self._hand_over()
        elif draw < 0.3:
            self._each_leader(self._read)
        else:
            self._each_leader(self._write)
        self._next()

    def _each_leader(self, ask: object) -> None:
        """Asks everyone who thinks that it leads: an old leader must not answer wrongly."""
        for node, member in list(self._group.members.items()):
            if member.up and not member.paused and member.core.role is Role.LEADER:
                ask(node)  # type: ignore[operator]

    def _write(self, node: int) -> None:
        member = self._group.members[node]
        for _ in range(self._world.random.choice((1, 1, 1, 4))):
            self._made += 1
            member.propose(self._made)

    def _read(self, node: int) -> None:
        self._made += 1
        self._group.members[node].read(self._made)

    def _hand_over(self) -> None:
        leader = self._group.leader()
        if leader is None or leader.paused:
            return
        to = self._world.random.choice(sorted(leader.core.configuration.voters))
        try:
            leader.core.transfer_leadership(to)
        except Refused:
            return
        self._world.faults["transfers"] += 1
        leader.drain()

    def _change(self, node: int) -> None:
        leader = self._group.members[node]
        dice = self._world.random
        now = leader.core.configuration
        nodes = list(range(1, NODES + 1))
        voters, learners = set(now.voters), set(now.learners)
        spare = [n for n in nodes if n not in now.members]
        draw = dice.random()
        if draw < 0.4 and spare:
            learners.add(NodeId(dice.choice(spare)))
        elif draw < 0.75 and learners:
            promoted = dice.choice(sorted(learners))
            learners.discard(promoted)
            voters.add(promoted)
            if len(voters) > 4 and dice.random() < 0.6:
                voters.discard(dice.choice(sorted(voters)))
        elif len(voters) > 2 + (not self._group.whole):
            gone = dice.choice(sorted(voters))
            voters.discard(gone)
            if dice.random() < 0.3:
                learners.add(gone)
        if not voters:
            return
        try:
            leader.core.propose_configuration(frozenset(voters), frozenset(learners - voters))
        except Refused:
            return
        self._world.faults["membership changes"] += 1
        for new in sorted((voters | learners) - self._group.members.keys()):
            self._nemesis.drift(self._group.join(new))
        leader.drain()
        self._nemesis.change_strikes(leader)

    def end(self) -> None:
        """No more requests."""
        self._over = True
