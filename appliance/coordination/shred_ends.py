"""Where a topic's logs go on after a shredding, from what nodes said of where theirs ended.

Rules: as in Raft, what a majority holds is all that can have been acknowledged, so a log's end is
known once a majority of those who hold it has told theirs; the furthest counts. While a group
moves, that takes a majority of the old members and one of the new. Offsets and leader epochs never
go back: the group that takes the place begins behind both.
"""

from collections.abc import Collection

from appliance.coordination.cluster_commands import Assignment
from appliance.coordination.key_commands import LogBegin, LogEnd, Shredding
from appliance.types import NodeId, PartitionId, Position


def begin_after(
    shredding: Shredding, partition: PartitionId, assignment: Assignment, successor: PartitionId
) -> LogBegin | None:
    """Where `successor` begins, or None until enough nodes have said where `partition` ended."""
    told: dict[NodeId, LogEnd] = {
        each.node: end
        for each in shredding.confirmations
        for end in each.ends
        if end.partition == partition
    }
    members = [assignment.replicas, *([assignment.target] if assignment.target else [])]
    if not all(_majority(told, nodes) for nodes in members):
        return None
    furthest = max(told.values(), key=lambda end: end.position)
    term = max(furthest.position.term, *(end.term for end in told.values()))
    offset = max(end.offset for end in told.values() if end.position == furthest.position)
    return LogBegin(successor, Position(term, furthest.position.index), offset)


def _majority(told: Collection[NodeId], nodes: tuple[NodeId, ...]) -> bool:
    return 2 * len(set(told) & set(nodes)) > len(nodes)
