"""Who belongs to a group, and how its members count.

Rules (Raft paper, section 6; thesis, chapter 4): while two sets of voters overlap (joint consensus)
every decision takes a majority of each. Learners receive the log and count for nothing. A
configuration is in force from the moment its entry is appended, and no longer once that entry is
truncated.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from appliance.limits import MAX_RAFT_MEMBERS
from appliance.raft.quorum import carried, held_by_majority
from appliance.types import Index, NodeId


class Configuration(msgspec.Struct, frozen=True):
    """The members of one group; `outgoing` is empty unless two configurations overlap."""

    voters: frozenset[NodeId]
    outgoing: frozenset[NodeId] = frozenset()
    """The voters before, which count as well until the change is through."""
    learners: frozenset[NodeId] = frozenset()
    """May name an outgoing voter: it stays on as a learner."""

    @property
    def joint(self) -> bool:
        """Whether two sets of voters overlap."""
        return bool(self.outgoing)

    @property
    def members(self) -> frozenset[NodeId]:
        """Everybody who receives the log."""
        return self.voters | self.outgoing | self.learners

    def votes(self, node: NodeId) -> bool:
        """Whether a node counts for decisions."""
        return node in self.voters or node in self.outgoing

    def carried(self, nodes: AbstractSet[NodeId]) -> bool:
        """Whether these nodes are a quorum, of both sets where two overlap."""
        return carried(self.voters, nodes) and (not self.outgoing or carried(self.outgoing, nodes))

    def held(self, match: Mapping[NodeId, Index]) -> Index:
        """The largest index that a quorum holds, of both sets where two overlap."""
        held = held_by_majority(self.voters, match)
        return min(held, held_by_majority(self.outgoing, match)) if self.outgoing else held

    def changed(self, voters: frozenset[NodeId], learners: frozenset[NodeId]) -> "Configuration":
        """The next step towards these members: joint if the voters differ."""
        outgoing = self.voters if voters != self.voters else frozenset[NodeId]()
        return Configuration(voters, outgoing, learners)

    def left(self) -> "Configuration":
        """What a joint configuration ends in."""
        return Configuration(self.voters, frozenset(), self.learners)

    def sound(self) -> bool:
        """Whether this can be a group's configuration: a peer's word is checked by this."""
        return (
            len(self.voters) > 0
            and len(self.members) <= MAX_RAFT_MEMBERS
            and not self.voters & self.learners
        )

    def __str__(self) -> str:
        """`1 2 3`, with `from 1 2 4` while joint and `learning 5`."""
        parts = [_listed(self.voters)]
        if self.outgoing:
            parts.append(f"from {_listed(self.outgoing)}")
        if self.learners:
            parts.append(f"learning {_listed(self.learners)}")
        return " ".join(parts)


class Placed(msgspec.Struct, frozen=True):
    """A configuration and the index of the entry that holds it."""

    index: Index
    configuration: Configuration


def _listed(nodes: AbstractSet[NodeId]) -> str:
    return " ".join(map(str, sorted(nodes)))
