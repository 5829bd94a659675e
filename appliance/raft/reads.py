"""Linearizable reads without a log entry: ReadIndex (thesis, section 6.4).

Rules: a read gets the commit index of its arrival, and is served once a quorum has confirmed the
leader in a round of heartbeats that began no earlier. A leader whose term has committed nothing yet
does not know what is committed: its reads wait for that. All reads between two Readies share a
round.
"""

from collections import deque

from appliance.limits import MAX_READS_WAITING
from appliance.raft.configuration import Configuration
from appliance.raft.ready import ReadState
from appliance.types import Index, NodeId


class Reads:
    """The reads of one term of one leader."""

    __slots__ = ("_acknowledged", "_early", "_waiting", "due", "round")

    def __init__(self) -> None:
        """Starts with none."""
        self.round = 0
        """The newest round that heartbeats carry."""
        self.due = False
        """Reads wait for a round that has not begun."""
        self._early: list[int] = []
        self._waiting: deque[tuple[int, ReadState]] = deque()
        self._acknowledged: dict[NodeId, Index] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._early) + len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        return len(self) >= MAX_READS_WAITING

    def postpone(self, context: int) -> None:
        """Keeps a read until the term has committed something."""
        self._early.append(context)

    def add(self, context: int, commit: Index) -> None:
        """Takes a read into the next round."""
        self._waiting.append((self.round + 1, ReadState(context, commit)))
        self.due = True

    def commit_known(self, commit: Index) -> None:
        """The term has committed an entry: postponed reads may ask now."""
        early, self._early = self._early, []
        for context in early:
            self.add(context, commit)

    def begin_round(self) -> int:
        """The round that the next heartbeats carry."""
        if self.due:
            self.due = False
            self.round += 1
        return self.round

    def acknowledge(self, node: NodeId, round_: int) -> None:
        """A member has answered a heartbeat of a round that has begun."""
        if round_ <= self.round:
            known = self._acknowledged.get(node, Index(0))
            self._acknowledged[node] = max(known, Index(round_))

    def confirmed(self, configuration: Configuration) -> list[ReadState]:
        """The reads that a quorum has confirmed; each is given once."""
        if not self._waiting:
            return []
        through = configuration.held(self._acknowledged)
        states: list[ReadState] = []
        while self._waiting and self._waiting[0][0] <= through:
            states.append(self._waiting.popleft()[1])
        return states

    def contexts(self) -> list[int]:
        """All reads that are still unanswered."""
        return [*self._early, *(state.context for _, state in self._waiting)]
