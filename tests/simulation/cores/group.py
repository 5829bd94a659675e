"""One group of members on one network, and what is true of it as a whole."""

from checkers import Checkers, Violation
from cores.disk import Disk, Snapshot
from cores.member import Member
from cores.network import Network
from cores.world import World

from appliance.raft.configuration import Configuration
from appliance.raft.ready import Role
from appliance.types import NodeId, Position


class Group:
    """The members, whoever they are by now."""

    def __init__(self, world: World, voters: int, *, quiet: bool, part_entries: int) -> None:
        self.world = world
        self.quiet = quiet
        """Whether idle groups get no ticks, and nodes vouch for each other instead."""
        self.part_entries = part_entries
        self.checkers = Checkers()
        self.network = Network(world, self._deliver)
        self.first = Configuration(frozenset(NodeId(n) for n in range(1, voters + 1)))
        self.members: dict[int, Member] = {}
        self.snapshots: dict[Position, Snapshot] = {}
        self._digests: dict[int, int] = {0: 0}
        for node in sorted(self.first.voters):
            self.join(node)

    def join(self, node: int) -> Member:
        """A new node with an empty disk."""
        member = Member(self, node, Disk(self.first))
        self.members[node] = member
        member.start()
        return member

    def _deliver(self, to: int, payload: object) -> None:
        member = self.members.get(to)
        if member is not None:
            member.receive(payload)  # type: ignore[arg-type]

    def reaches(self, sender: int, to: int) -> bool:
        """Whether a stream between two nodes would stand now."""
        cut = self.network.cut
        return self.members[sender].up and (sender, to) not in cut and (to, sender) not in cut

    @property
    def whole(self) -> bool:
        """Whether no member's log is damaged, or about to be."""
        return all(m.disk.known_last is None and not m.rot for m in self.members.values())

    @property
    def fewest_voters(self) -> int:
        """In the smallest set of voters that anybody goes by."""
        sets = [m.core.configuration for m in self.members.values()]
        return min(min(len(c.voters), len(c.outgoing or c.voters)) for c in sets)

    def vouch(self, member: Member) -> None:
        """Liveness by pairs of nodes (DESIGN section 7), for a member whose core is idle."""
        for node, other in self.members.items():
            if node == member.node or not other.up or other.paused:
                continue
            if (node, member.node) in self.network.cut:
                if node == member.core.leader:
                    member.core.tick()
                else:
                    member.core.report_unreachable(NodeId(node))
            elif other.core.role is Role.LEADER:
                member.core.heard(NodeId(node), other.core.term)
            else:
                member.core.reached(NodeId(node))
        leader = member.core.leader
        if leader is not None and leader != member.node:
            other = self.members[leader]
            if not other.up or other.paused or other.core.leader != leader:
                member.core.tick()
        member.drain()

    def connection_lost(self, node: int) -> None:
        """The other members learn, as from a reset connection, that a node is gone."""
        others = [m for m in self.members.values() if m.node != node and m.up and not m.paused]
        for turn, member in enumerate(others):
            member.core.lost(NodeId(node), turn)
            member.drain()

    def digest(self, index: int, before: int, value: int) -> int:
        """The state after an entry; the same at every member, or state-machine safety is broken."""
        digest = hash((before, index, value))
        known = self._digests.setdefault(index, digest)
        if known != digest:
            raise Violation("state-machine-safety", f"two states at {index}")
        return digest

    def leader(self) -> Member | None:
        """The member that leads the latest term, if any does."""
        found: Member | None = None
        for member in self.members.values():
            if (
                member.up
                and member.core.role is Role.LEADER
                and (found is None or member.core.term > found.core.term)
            ):
                found = member
        return found

    def leadership(self) -> tuple[int, int]:
        """(node, term) of whoever leads."""
        leader = self.leader()
        return (0, 0) if leader is None else (leader.node, leader.core.term)

    def deafen_one(self) -> None:
        """One voter of several hears its leader no more; it must not disturb the others."""
        leader = self.leader()
        if leader is None or len(leader.core.configuration.voters) < 3:
            return
        others = sorted(leader.core.configuration.voters - {leader.node})
        self.world.faults["a deaf member"] += 1
        self.network.cut.add((leader.node, self.world.random.choice(others)))

    def converged(self) -> bool:
        """Whether everybody who belongs to the group has applied all of its leader's log."""
        leader = self.leader()
        return leader is not None and all(
            self.members[node].applied == leader.core.last.index
            for node in leader.core.configuration.members
        )

    def ended(self) -> None:
        """The liveness phase is over."""
        leader = self.leader()
        if leader is None or not leader.core.settled:
            raise Violation("liveness", "nobody leads at the end")
        configuration = leader.core.configuration
        if configuration.joint or leader.node not in configuration.voters:
            raise Violation("liveness", f"{leader.node} is stuck in {configuration}")
        ends = [
            (node, member.applied, member.digest)
            for node, member in sorted(self.members.items())
            if node in leader.core.configuration.members
        ]
        self.checkers.ended(ends, self._digests)
