"""Commands of the catalogue about nodes, and about which of them hold what.

Rules: those of `commands`. A node's id is admitted once for all time: one that was retired never
comes back, so nothing that remembers it can be mistaken (DESIGN section 8). Each needs feature
level CLUSTER_LEVEL.
"""

from typing import Final

import msgspec

from appliance.coordination.commands import Command, Endpoint
from appliance.types import NodeId, PartitionId, TopicId, TopicName

FIRST_LEVEL: Final = 1
"""Commands of one node alone."""
CLUSTER_LEVEL: Final = 2
"""Nodes are admitted, and replicas placed."""
QUOTA_LEVEL: Final = 3
"""Quotas are set."""
CUT_LEVEL: Final = 4
"""The catalogue's log is cut behind its state, which a node must know to take up."""
NEWEST_LEVEL: Final = CUT_LEVEL


class SetFeatureLevel(Command, frozen=True, tag="set-feature-level/1"):
    """Allows the commands of a level; every node has said before that it knows them."""

    level: int


class PlaceTopic(Command, frozen=True, tag="create-topic/2"):
    """Makes a topic whose partition i lies on the nodes `replicas[i]`, preferred leader first."""

    topic: TopicId
    name: TopicName
    partitions: tuple[PartitionId, ...]
    replicas: tuple[tuple[NodeId, ...], ...]
    settings: tuple[tuple[str, str], ...] = ()


class PlacePartitions(Command, frozen=True, tag="add-partitions/2"):
    """Gives a topic that has `expected_count` partitions more, each on its nodes."""

    topic: TopicId
    expected_count: int
    partitions: tuple[PartitionId, ...]
    replicas: tuple[tuple[NodeId, ...], ...]


class AdmitNode(Command, frozen=True, tag="admit-node/1"):
    """Lets a node with a fresh id join; `address` is where its peer listener is reached."""

    node: NodeId
    address: Endpoint


class AnnounceNode(Command, frozen=True, tag="register-node/2"):
    """Says where a node is, how it is reached, and which feature levels it knows."""

    node: NodeId
    host: str
    rack: str | None
    endpoints: tuple[Endpoint, ...]
    levels: tuple[int, int]


class DrainNode(Command, frozen=True, tag="drain-node/1"):
    """Keeps leadership and new replicas off a node, or no longer."""

    node: NodeId
    draining: bool


class RetireNode(Command, frozen=True, tag="retire-node/1"):
    """Takes a node out for good; it must hold nothing any more."""

    node: NodeId


class AssignReplicas(Command, frozen=True, tag="assign-replicas/1"):
    """Says which nodes are to hold a group; its leader brings that about."""

    group: PartitionId
    replicas: tuple[NodeId, ...]


class ReplicasMoved(Command, frozen=True, tag="replicas-moved/1"):
    """Says which nodes hold a group now, by its leader, once the change is through."""

    group: PartitionId
    replicas: tuple[NodeId, ...]


ClusterCommand = (
    SetFeatureLevel | PlaceTopic | PlacePartitions | AdmitNode | AnnounceNode | DrainNode
    | RetireNode | AssignReplicas | ReplicasMoved
)  # fmt: skip


class NodeState(msgspec.Struct, frozen=True):
    """A node as the catalogue knows it; `host` is empty until it has announced itself."""

    node: NodeId
    host: str = ""
    rack: str | None = None
    endpoints: tuple[Endpoint, ...] = ()
    levels: tuple[int, int] = (FIRST_LEVEL, FIRST_LEVEL)
    draining: bool = False

    def endpoint(self, listener: str) -> Endpoint | None:
        """Where a listener is reached."""
        return next((each for each in self.endpoints if each.listener == listener), None)


class Assignment(msgspec.Struct, frozen=True, array_like=True):
    """Who holds a group; `target` is who is to hold it, while that is another set.

    `former` is who was to hold it by earlier targets that the move was not through with: they may
    be voters already, and keep what they have until it is known who holds the group now.
    """

    replicas: tuple[NodeId, ...]
    target: tuple[NodeId, ...] | None = None
    former: tuple[NodeId, ...] = ()

    @property
    def everyone(self) -> frozenset[NodeId]:
        """Who holds it or is to."""
        return frozenset(self.replicas) | frozenset(self.target or ()) | frozenset(self.former)


class NodesChanged(msgspec.Struct, frozen=True):
    """The nodes are as they were told to be."""

    node: NodeId


class Reassigned(msgspec.Struct, frozen=True):
    """A group's assignment has changed."""

    group: PartitionId
    assignment: Assignment


class LevelSet(msgspec.Struct, frozen=True):
    """The feature level in force."""

    level: int
