"""Which nodes hold a group, which one leads it, and which are to hold a new one.

Rules: handlers ask here and nowhere else. Replicas of a partition never share a host where hosts
suffice, and spread over racks (DESIGN section 8); within that, each goes where least lies. Nodes
that are being drained get nothing new.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from appliance.broker.catalogue import Catalogue
from appliance.broker.consensus import Consensus
from appliance.broker.foundation import GROUPS_LOG
from appliance.broker.leaders import Leader
from appliance.broker.replica import Replica
from appliance.coordination.cluster_commands import CLUSTER_LEVEL, NodeState
from appliance.errors import ErrorCode, RequestError
from appliance.types import NodeId, PartitionId, Term

DEFAULT_REPLICAS = 3
"""Of a topic that does not say, where there are so many nodes."""


class TopicDefaults(msgspec.Struct, frozen=True):
    """What a topic gets that does not say; replicas None: as many as is usual."""

    partition_count: int = 1
    replication_factor: int | None = None


class Placement:
    """Every group on its nodes."""

    def __init__(
        self,
        node: NodeId,
        catalogue: Catalogue,
        consensus: Consensus,
        kept_term: Callable[[PartitionId], Term],
    ) -> None:
        """Follows the catalogue, and who leads what; `kept_term` is a group's last term here."""
        self._kept_term = kept_term
        self._node = node
        self._catalogue = catalogue
        self._consensus = consensus

    @property
    def node(self) -> NodeId:
        """This node."""
        return self._node

    @property
    def controller(self) -> NodeId:
        """The node that leads the catalogue; this one, which sends on, while nobody is known to.

        A client that is told of none looks for one again only after minutes.
        """
        return self._catalogue.leader.node or self._node

    @property
    def max_replication_factor(self) -> int:
        """How many replicas a partition can have on different nodes."""
        if self._catalogue.state.membership.level < CLUSTER_LEVEL:
            return 1
        return len(self._candidates())

    def default_replicas(self, configured: int | None) -> int:
        """How many replicas a partition gets whose topic does not say."""
        return min(configured or DEFAULT_REPLICAS, self.max_replication_factor)

    def leader(self, group: PartitionId) -> Leader:
        """The node that serves a group, as far as is known here."""
        return self._consensus.leaders.of(group)

    async def settled(self, groups: Iterable[PartitionId]) -> None:
        """Waits a moment for those of these groups that have just lost their leader."""
        await self._consensus.leaders.replaced(groups)

    def leads(self, group: PartitionId) -> NodeId | None:
        """The node that serves a group; one that holds it alone leads it as soon as it is asked."""
        node = self.leader(group).node
        replicas = self.replicas(group)
        return replicas[0] if node is None and len(replicas) == 1 else node

    def epoch(self, group: PartitionId) -> Term | None:
        """The epoch of a group's leader, or None where it is not known.

        A log that lies here alone has the epoch of its last leader until it is opened again: a
        client that was told of it keeps it, and waits, until it is told of none below (KIP-320).
        """
        term = self.leader(group).term
        if not term and self.replicas(group) == (self._node,):
            term = self._kept_term(group)
        return term or None

    def replicas(self, group: PartitionId) -> tuple[NodeId, ...]:
        """The nodes that hold a group, the preferred leader first."""
        return self._catalogue.state.membership.assignment(group).replicas

    def in_sync(self, group: PartitionId) -> tuple[NodeId, ...]:
        """Those of them that are there, as far as this node hears."""
        return tuple(node for node in self.replicas(group) if self._consensus.alive(node))

    def may_lead(self, node: NodeId) -> bool:
        """Whether a node is there and is to be given leadership."""
        known = self._catalogue.state.nodes.get(node)
        return known is not None and not known.draining and self._consensus.alive(node)

    def stands_in(self, rack: str) -> bool:
        """Whether this node is in a rack that a reader says it is in; an empty one is none."""
        known = self._catalogue.state.nodes.get(self._node)
        return bool(rack) and known is not None and known.rack == rack

    def nearer_reader(self, replica: Replica[None], rack: str) -> NodeId | None:
        """Who, of the replicas in a reader's rack, serves it instead of this leader (KIP-392).

        It lives, stays, and holds all that is committed; of several, it is the one that holds most.
        None if this node is in that rack itself, or none of them is.
        """
        if not rack or self.stands_in(rack):
            return None
        nodes, commit = self._catalogue.state.nodes, replica.core.commit
        matched = {
            node: replica.core.matched(node) or 0
            for node in sorted(replica.configuration.voters)
            if node in nodes
            and nodes[node].rack == rack
            and not nodes[node].draining
            and self._consensus.alive(node)
        }
        nearest = max(matched, key=lambda node: matched[node], default=None)
        return nearest if nearest is not None and matched[nearest] >= commit else None

    def coordinator(self, _: str) -> NodeId | None:
        """The node that coordinates a group of consumers, or None while nobody does."""
        return self.leader(GROUPS_LOG).node

    def choose(self, partition_count: int, factor: int) -> tuple[tuple[NodeId, ...], ...]:
        """Nodes for a new topic's partitions; raises RequestError."""
        candidates = self._candidates()
        if not 0 < factor <= len(candidates):
            raise RequestError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"there can be 1 to {len(candidates)} replicas with the nodes there are",
            )
        held, led = self._load()
        chosen = []
        for _ in range(partition_count):
            replicas = pick(candidates, factor, held=held, led=led)
            chosen.append(replicas)
            led[replicas[0]] += 1
            held.update(replicas)
        return tuple(chosen)

    def check(self, replicas: tuple[NodeId, ...]) -> None:
        """Raises RequestError unless these nodes can hold a partition."""
        fault = self._catalogue.state.membership.fault_in(replicas)
        if fault is not None:
            raise RequestError(fault.error, fault.message)
        if len(replicas) > self.max_replication_factor:
            raise RequestError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"there can be at most {self.max_replication_factor} replicas now",
            )

    def replacement(self, group: PartitionId, leaving: NodeId) -> tuple[NodeId, ...]:
        """Who is to hold a group once a node has left; raises RequestError.

        Of a group that moves already, it is who it moves to that is changed: two nodes that leave
        at once do not name each other again in turn.
        """
        assignment = self._catalogue.state.membership.assignment(group)
        staying = [node for node in assignment.target or assignment.replicas if node != leaving]
        held, led = self._load()
        others = [node for node in self._candidates() if node.node not in {leaving, *staying}]
        if not others:
            if staying:
                return tuple(staying)
            raise RequestError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT, "there is no other node to move this to"
            )
        known = self._catalogue.state.nodes
        kept = [known[node] for node in staying if node in known]
        new = min(others, key=lambda node: _cost(node, kept, held=held, led=led, first=False))
        return (*staying, new.node)

    def _candidates(self) -> list[NodeState]:
        nodes = self._catalogue.state.nodes.values()
        return [node for node in nodes if node.host and not node.draining]

    def _load(self) -> tuple[Counter[NodeId], Counter[NodeId]]:
        """How many partitions each node holds, and of how many it is the preferred leader."""
        held: Counter[NodeId] = Counter()
        led: Counter[NodeId] = Counter()
        for assignment in self._catalogue.state.membership.assignments.values():
            held.update(assignment.everyone)
            led[(assignment.target or assignment.replicas)[0]] += 1
        return held, led


def pick(
    candidates: Sequence[NodeState],
    factor: int,
    *,
    held: Counter[NodeId],
    led: Counter[NodeId],
) -> tuple[NodeId, ...]:
    """Nodes for one partition, the preferred leader first."""
    chosen: list[NodeState] = []
    left = list(candidates)
    while len(chosen) < factor:
        best = min(left, key=lambda node: _cost(node, chosen, held=held, led=led, first=not chosen))
        left.remove(best)
        chosen.append(best)
    return tuple(node.node for node in chosen)


def _cost(
    node: NodeState,
    chosen: Sequence[NodeState],
    *,
    held: Counter[NodeId],
    led: Counter[NodeId],
    first: bool,
) -> tuple[int, int, int, int, int]:
    """What speaks against a node, the weightiest first."""
    return (
        sum(other.host == node.host for other in chosen),
        sum(other.rack == node.rack for other in chosen),
        led[node.node] if first else 0,
        held[node.node],
        node.node,
    )
