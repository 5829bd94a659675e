"""Which nodes hold a partition, and which one leads it.

Rules: handlers ask here and nowhere else. One node holds and leads everything now; who replicates
to whom is decided inside this module when there are several.
"""

from appliance.types import NodeId, PartitionId


class Placement:
    """Every partition on the one node."""

    def __init__(self, node: NodeId) -> None:
        self._node = node

    @property
    def controller(self) -> NodeId:
        """The node that leads the catalogue."""
        return self._node

    @property
    def max_replication_factor(self) -> int:
        """How many replicas a partition can have on different nodes."""
        return 1

    def leader(self, _: PartitionId) -> NodeId:
        """The node that serves a partition."""
        return self._node

    def replicas(self, _: PartitionId) -> tuple[NodeId, ...]:
        """The nodes that hold a partition, the preferred leader first."""
        return (self._node,)

    def coordinator(self, _: str) -> NodeId:
        """The node that coordinates a group."""
        return self._node
