"""What a majority of voters holds: the arithmetic behind votes and commits.

Rules: a quorum is more than half of the voters (Raft paper, section 5.2), and any two quorums
share a voter. Who is not a voter counts for nothing, however much it holds.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from appliance.invariant import invariant
from appliance.types import Index, NodeId


def majority(voters: int) -> int:
    """How many of `voters` make a quorum."""
    invariant(voters > 0, "a group has a voter")
    return voters // 2 + 1


def carried(voters: AbstractSet[NodeId], votes: AbstractSet[NodeId]) -> bool:
    """Whether those who voted, voters only, are a quorum."""
    return len(voters & votes) >= majority(len(voters))


def held_by_majority(voters: AbstractSet[NodeId], match: Mapping[NodeId, Index]) -> Index:
    """The largest index up to which a quorum holds the log durably (section 5.3).

    Args:
        voters: who counts.
        match: per node, the last index known to be durable there; a missing one holds nothing.
    """
    held = sorted((match.get(voter, Index(0)) for voter in voters), reverse=True)
    return held[majority(len(voters)) - 1]
