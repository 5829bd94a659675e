"""The catalogue's part about nodes and replicas: who there is, who was, and who holds what.

Rules: deterministic, as all of the catalogue. An id that was ever known is never admitted again. A
node that holds something cannot be retired, and a group is given to nodes that there are.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from appliance.coordination.cluster_commands import (
    FIRST_LEVEL,
    NEWEST_LEVEL,
    AdmitNode,
    AnnounceNode,
    Assignment,
    AssignReplicas,
    DrainNode,
    LevelSet,
    NodesChanged,
    NodeState,
    Reassigned,
    ReplicasMoved,
    RetireNode,
    SetFeatureLevel,
)
from appliance.coordination.commands import CommandRefused, RegisterNode
from appliance.errors import ErrorCode
from appliance.limits import MAX_NODES, MAX_REPLICAS
from appliance.types import NodeId, PartitionId

MembershipOutcome = NodesChanged | Reassigned | LevelSet | CommandRefused


class KeptMembership(msgspec.Struct, frozen=True):
    """What a snapshot holds of it."""

    nodes: tuple[NodeState, ...]
    retired: tuple[NodeId, ...]
    assignments: dict[PartitionId, Assignment]
    founder: NodeId
    level: int


class Membership:
    """Nodes, assignments and the feature level."""

    def __init__(self) -> None:
        """Nobody, holding nothing."""
        self._nodes: dict[NodeId, NodeState] = {}
        self._retired: set[NodeId] = set()
        self._assignments: dict[PartitionId, Assignment] = {}
        self._founder = NodeId(0)
        self.level = FIRST_LEVEL

    @property
    def nodes(self) -> Mapping[NodeId, NodeState]:
        """Every node that belongs to the cluster."""
        return MappingProxyType(self._nodes)

    @property
    def retired(self) -> frozenset[NodeId]:
        """Ids that are used up."""
        return frozenset(self._retired)

    @property
    def assignments(self) -> Mapping[PartitionId, Assignment]:
        """Who holds each group that was ever placed."""
        return MappingProxyType(self._assignments)

    def assignment(self, group: PartitionId) -> Assignment:
        """Who holds a group; what was made before placing was known lies on the first node."""
        known = self._assignments.get(group)
        return known if known is not None else Assignment((self._founder,))

    def place(self, group: PartitionId, replicas: tuple[NodeId, ...]) -> None:
        """Notes who holds a new group."""
        self._assignments[group] = Assignment(replicas)

    def forget(self, group: PartitionId) -> None:
        """The group is gone."""
        self._assignments.pop(group, None)

    def succeed(self, group: PartitionId, successor: PartitionId) -> None:
        """Another group takes a group's place, on the same nodes."""
        known = self._assignments.pop(group, None)
        if known is not None:
            self._assignments[successor] = known

    def fault_in(self, replicas: tuple[NodeId, ...]) -> CommandRefused | None:
        """Why these nodes cannot hold a group, or None."""
        unknown = sorted(set(replicas) - self._nodes.keys())
        if unknown:
            return _refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"there is no node {unknown[0]}")
        if not 0 < len(replicas) <= MAX_REPLICAS or len(set(replicas)) != len(replicas):
            return _refused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"1 to {MAX_REPLICAS} different nodes hold a partition",
            )
        return None

    def kept(self) -> KeptMembership:
        """Everything, for a snapshot."""
        return KeptMembership(
            tuple(self._nodes.values()),
            tuple(sorted(self._retired)),
            dict(self._assignments),
            self._founder,
            self.level,
        )

    def restore(self, kept: KeptMembership) -> None:
        """Holds what a snapshot holds, and nothing else."""
        self._nodes = {each.node: each for each in kept.nodes}
        self._retired = set(kept.retired)
        self._assignments = dict(kept.assignments)
        self._founder, self.level = kept.founder, kept.level

    # --- commands ---

    def register(self, command: RegisterNode) -> None:
        """A node of the first level says where it is."""
        self._know(
            NodeState(
                command.node,
                command.host,
                command.rack,
                command.endpoints,
                draining=self._is_draining(command.node),
            )
        )

    def announce(self, command: AnnounceNode) -> MembershipOutcome:
        """A node that belongs to the cluster says where it is."""
        if command.node in self._retired:
            return _refused(ErrorCode.INVALID_REQUEST, f"node {command.node} was removed for good")
        if command.levels[1] < self.level:
            return _refused(
                ErrorCode.INVALID_REQUEST,
                f"the cluster is at feature level {self.level}, which node {command.node} does not"
                " know: upgrade it first",
            )
        if self._nodes and command.node not in self._nodes:
            return _refused(
                ErrorCode.INVALID_REQUEST, f"node {command.node} has not been added to the cluster"
            )
        self._know(
            NodeState(
                command.node,
                command.host,
                command.rack,
                command.endpoints,
                command.levels,
                self._is_draining(command.node),
            )
        )
        return NodesChanged(command.node)

    def admit(self, command: AdmitNode) -> MembershipOutcome:
        """A fresh id may join."""
        if command.node in self._nodes:
            return _refused(
                ErrorCode.INVALID_REQUEST, f"node {command.node} belongs to the cluster already"
            )
        if command.node in self._retired:
            return _refused(
                ErrorCode.INVALID_REQUEST,
                f"node {command.node} was removed; an id is used once for all time",
            )
        if len(self._nodes) + len(self._retired) >= MAX_NODES:
            return _refused(ErrorCode.POLICY_VIOLATION, f"there have been {MAX_NODES} nodes")
        self._know(NodeState(command.node, endpoints=(command.address,)))
        return NodesChanged(command.node)

    def drain(self, command: DrainNode) -> MembershipOutcome:
        """Keeps leadership off a node, or no longer."""
        known = self._nodes.get(command.node)
        if known is None:
            return _refused(ErrorCode.INVALID_REQUEST, f"there is no node {command.node}")
        self._nodes[command.node] = msgspec.structs.replace(known, draining=command.draining)
        return NodesChanged(command.node)

    def retire(self, command: RetireNode) -> MembershipOutcome:
        """Takes a node out for good."""
        node = command.node
        if node not in self._nodes:
            return _refused(ErrorCode.INVALID_REQUEST, f"there is no node {node}")
        holding = sum(node in each.everyone for each in self._assignments.values())
        if holding:
            return _refused(
                ErrorCode.INVALID_REQUEST,
                f"node {node} holds {holding} partition(s): move them first, with"
                f" `cluster remove {node}`",
            )
        if len(self._nodes) == 1:
            return _refused(ErrorCode.INVALID_REQUEST, "the last node stays")
        del self._nodes[node]
        self._retired.add(node)
        return NodesChanged(node)

    def assign(self, command: AssignReplicas) -> MembershipOutcome:
        """Says who is to hold a group."""
        fault = self.fault_in(command.replicas)
        if fault is not None:
            return fault
        known = self.assignment(command.group)
        same = set(command.replicas) == set(known.replicas)
        assignment = (
            Assignment(command.replicas)
            if same and known.target is None
            else Assignment(
                known.replicas,
                command.replicas,
                tuple(sorted(known.everyone.difference(known.replicas, command.replicas))),
            )
        )
        self._assignments[command.group] = assignment
        return Reassigned(command.group, assignment)

    def moved(self, command: ReplicasMoved) -> MembershipOutcome:
        """Says who holds a group now."""
        known = self._assignments.get(command.group)
        if known is None or set(known.target or known.replicas) != set(command.replicas):
            return _refused(ErrorCode.INVALID_REQUEST, "that is not who is to hold the group")
        assignment = Assignment(known.target or known.replicas)
        self._assignments[command.group] = assignment
        return Reassigned(command.group, assignment)

    def set_level(self, command: SetFeatureLevel) -> MembershipOutcome:
        """Allows the commands of a level that every node knows."""
        if not self.level <= command.level <= NEWEST_LEVEL:
            return _refused(
                ErrorCode.INVALID_REQUEST, f"the level is {self.level} and only ever rises"
            )
        behind = [known.node for known in self._nodes.values() if known.levels[1] < command.level]
        if behind:
            return _refused(
                ErrorCode.INVALID_REQUEST,
                f"node {min(behind)} does not know level {command.level}: upgrade it first",
            )
        self.level = command.level
        return LevelSet(self.level)

    def _know(self, state: NodeState) -> None:
        if not self._nodes:
            self._founder = state.node
        self._nodes[state.node] = state

    def _is_draining(self, node: NodeId) -> bool:
        known = self._nodes.get(node)
        return known is not None and known.draining


def _refused(error: ErrorCode, message: str) -> CommandRefused:
    return CommandRefused(error, message)
