"""The consensus core of one group: inputs are method calls, the output is `Ready`.

Rules, by section of the Raft paper (Ongaro and Ousterhout, extended version):

- 5.1: a term has at most one leader; terms only grow, and stay below 2^31 (DESIGN section 4).
- 5.2: a vote counts once it is durable, the node's own vote included.
- 5.3: a leader never overwrites its log; it appends only.
- 5.4.2: a leader commits entries of earlier terms only through one of its own term: hence the
  no-op with which each term begins.
- The leader counts itself only for what is durable at itself (thesis, section 10.2.1).

Every voter of the group lives in this process now: nothing sends or receives. The inside grows
when there are peers; `campaign`, `propose`, `ready` and `advance` stay.
"""

from appliance.invariant import invariant
from appliance.limits import MAX_TERM
from appliance.ports import HardState
from appliance.raft.log import LogView
from appliance.raft.messages import Run
from appliance.raft.quorum import carried, held_by_majority
from appliance.raft.ready import NotLeader, Ready, Recovered, Role
from appliance.types import EntryKind, Index, NodeId, Position, Term


class Core:
    """One voter of one group."""

    __slots__ = ("_commit", "_entries", "_log", "_match", "_node", "_role", "_state", "_unsaved",
                 "_voters", "_votes")  # fmt: skip

    def __init__(self, *, node: NodeId, recovered: Recovered) -> None:
        """Takes what recovery found: the saved hard state, and the last durable entry."""
        voters = recovered.configurations[-1].configuration.voters
        state, last = recovered.state, recovered.last
        invariant(node in voters, "a core is run by a voter")
        invariant(state.term >= last.term, "the journal's term covers the log's")
        self._node = node
        self._voters = voters
        self._state = state
        self._unsaved: HardState | None = None
        self._log = LogView(last)
        self._role = Role.FOLLOWER
        self._votes: set[NodeId] = set()
        self._match: dict[NodeId, Index] = {}
        self._commit = Index(0)
        self._entries: list[Run] = []

    @property
    def role(self) -> Role:
        """What this voter is in its term."""
        return self._role

    @property
    def term(self) -> Term:
        """The current term."""
        return self._state.term

    @property
    def last(self) -> Position:
        """The last entry, durable or not."""
        return self._log.last

    @property
    def commit(self) -> Index:
        """The last entry known to be decided."""
        return self._commit

    def term_at(self, index: Index) -> Term | None:
        """The term of an entry since recovery, or None."""
        return self._log.term_at(index)

    def campaign(self) -> None:
        """Begins a new term as candidate and votes for itself (section 5.2)."""
        invariant(self._role is not Role.LEADER, "a leader does not campaign")
        invariant(self._state.term < MAX_TERM, "terms stay below 2^31")
        self._role = Role.CANDIDATE
        self._votes.clear()
        self._state = HardState(term=Term(self._state.term + 1), vote=self._node)
        self._unsaved = self._state

    def propose(self, kind: EntryKind, payload_bytes: int) -> Position:
        """Gives an entry its place in this term; raises NotLeader."""
        if self._role is not Role.LEADER:
            raise NotLeader
        return self._append(kind, payload_bytes)

    def ready(self) -> Ready:
        """What the shell has to do; entries and hard state are handed out once."""
        ready = Ready(self._unsaved, None, tuple(self._entries), self._commit)
        self._unsaved = None
        self._entries.clear()
        return ready

    def advance(self, *, saved: HardState | None = None, persisted: Position | None = None) -> None:
        """Learns what has become durable here.

        Args:
            saved: the hard state that the journal now holds.
            persisted: the last entry up to which the log is synced.
        """
        if saved is not None and saved == self._state:
            self._vote_counted()
        if persisted is not None and self._log.holds(persisted):
            before = self._match.get(self._node, Index(0))
            self._match[self._node] = max(before, persisted.index)
            self._maybe_commit()

    def resign(self) -> None:
        """Stops leading: this node cannot keep its promises any more (its log failed)."""
        self._role = Role.FOLLOWER
        self._match.clear()
        self._votes.clear()

    def _append(self, kind: EntryKind, payload_bytes: int) -> Position:
        position = self._log.append(self._state.term)
        self._entries.append(Run(position.index, position.term, kind, (payload_bytes,)))
        return position

    def _vote_counted(self) -> None:
        if self._role is not Role.CANDIDATE:
            return
        self._votes.add(self._node)
        if carried(self._voters, self._votes):
            self._role = Role.LEADER
            self._append(EntryKind.NO_OP, 0)

    def _maybe_commit(self) -> None:
        """Section 5.4.2: a majority holds it, and it is of the leader's own term."""
        if self._role is not Role.LEADER:
            return
        held = held_by_majority(self._voters, self._match)
        if held > self._commit and self._log.term_at(held) == self._state.term:
            self._commit = held
