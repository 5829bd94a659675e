"""The nodes of the cluster and what lies on them (native dialect only)."""

from typing import Annotated

from msgspec import Meta

from appliance.errors import ErrorCode
from appliance.types import NodeId, PartitionIndex, TopicName
from appliance.wire.requests.base import Part, Request, Response

NodeNumber = Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]
HostName = Annotated[str, Meta(min_length=1, max_length=255)]


class DescribeNodes(Request, frozen=True):
    """Asks how the cluster is: its nodes, and every partition that is not as it should be."""


class NodeStatus(Part, frozen=True):
    """One node as the catalogue's leader sees it; `host` is empty until it has joined."""

    node: NodeId
    host: str
    rack: str | None
    address: str
    alive: bool
    draining: bool
    holds: int
    """Partitions that lie on it, the internal ones among them."""
    prefers: int
    """Partitions that it is the first choice to lead."""
    leads: int
    """Partitions that it leads now."""
    level: int
    """The newest feature level that it knows."""


class GroupStatus(Part, frozen=True):
    """One partition that is not as it should be, or an internal log."""

    name: str
    """`topic/partition`, or the internal log's name."""
    leader: int
    term: int
    replicas: tuple[NodeId, ...]
    offline: tuple[NodeId, ...]
    target: tuple[NodeId, ...] = ()
    """Where it is being moved to."""


class DescribeNodesResult(Response, frozen=True):
    """Answer to DescribeNodes."""

    error: ErrorCode = ErrorCode.NONE
    controller: int = -1
    level: int = 0
    nodes: tuple[NodeStatus, ...] = ()
    partition_count: int = 0
    internal: tuple[GroupStatus, ...] = ()
    unsound: tuple[GroupStatus, ...] = ()
    """Partitions without a leader or with a replica offline, at most MAX_LISTED_GROUPS."""
    moving: tuple[GroupStatus, ...] = ()
    """Partitions that are being moved, at most MAX_LISTED_GROUPS."""


class AddNode(Request, frozen=True):
    """Lets a node with a fresh id join; its peer listener is reached at this address."""

    node: NodeNumber
    host: HostName
    port: Annotated[int, Meta(ge=1, le=65_535)]


class RemoveNode(Request, frozen=True):
    """Moves everything off a node; once nothing lies on it, takes it out for good."""

    node: NodeNumber


class DrainNode(Request, frozen=True):
    """Keeps leadership and new partitions off a node, or no longer."""

    node: NodeNumber
    draining: bool


class MovePartition(Request, frozen=True):
    """Says which nodes are to hold a partition, the first choice for its leader first."""

    topic: TopicName
    partition: PartitionIndex
    replicas: Annotated[tuple[NodeNumber, ...], Meta(min_length=1, max_length=7)]


class LeadPartition(Request, frozen=True):
    """Has a node lead a partition that it holds."""

    topic: TopicName
    partition: PartitionIndex
    node: NodeNumber


class ClusterChanged(Response, frozen=True):
    """What became of a change of the cluster; the message is for people, also when it worked."""

    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
