"""The consensus core of one group: inputs are method calls, the output is `Ready`.

Rules:

- Nothing here waits, reads a clock or draws entropy of its own; the same inputs give the same
  outputs. A message refers to its sender's claim alone and never raises; what the shell must not do
  raises InvariantViolation; what a user may ask in vain raises Refused.
- After any input the shell takes `ready()` and carries it out as `raft.ready` says.
- A group that is `idle` needs no ticks as long as the nodes that matter to it are heard
  (`heard`, `reached`); when one falls silent, the shell ticks the groups that it matters to.

The parts: `state` (what is known), `follower`, `candidate`, `leader` (the roles), `transitions`
(what leads from one to another), `receive` and `receive_*` (one file a message), `replication`,
`membership`, `reads`, `transfer`.
"""

from appliance.invariant import invariant
from appliance.ports import Entropy, HardState
from appliance.raft import (
    candidate,
    follower,
    leader,
    membership,
    receive_snapshot,
    receive_vote,
    replication,
    transfer,
)
from appliance.raft import receive as reception
from appliance.raft.configuration import Configuration, Placed
from appliance.raft.messages import PeerMessage, SnapshotOffer
from appliance.raft.outbox import Outbox
from appliance.raft.ready import (
    HandingOver,
    NotLeader,
    Ready,
    Recovered,
    Refusal,
    Role,
    SendEntries,
    TooManyReads,
)
from appliance.raft.state import Leading, State
from appliance.raft.trace import Trace
from appliance.raft.transitions import Event
from appliance.types import EntryKind, Index, NodeId, Position, Term


class Core:
    """One member of one group."""

    __slots__ = ("_state", "_trace")

    def __init__(
        self,
        *,
        node: NodeId,
        recovered: Recovered,
        entropy: Entropy,
        incarnation: int = 0,
        trace: Trace | None = None,
    ) -> None:
        """Takes what recovery found.

        Args:
            node: which member this is.
            recovered: the saved hard state and the durable log.
            entropy: for election time-outs.
            incarnation: grows with each start of this node.
            trace: written to at every step, where somebody reads it.
        """
        self._state = State(node, recovered, entropy, incarnation)
        self._trace = trace
        if trace is not None:
            trace.begin(self._state)
            self._state.note = trace.explain

    @property
    def role(self) -> Role:
        """What this member is in its term."""
        return self._state.role

    @property
    def term(self) -> Term:
        """The current term."""
        return self._state.term

    @property
    def leader(self) -> NodeId | None:
        """The leader of the current term, where it is known."""
        return self._state.leader

    @property
    def last(self) -> Position:
        """The last entry, durable or not."""
        return self._state.log.last

    @property
    def base(self) -> Position:
        """The entry before the first that can be sent."""
        return self._state.log.base

    @property
    def commit(self) -> Index:
        """The last entry known to be decided."""
        return self._state.commit

    @property
    def durable(self) -> Index:
        """Up to here the log, as it is now, is synced; what waits to be taken back is not of it."""
        return self._state.durable

    @property
    def configuration(self) -> Configuration:
        """The configuration in force."""
        return self._state.configuration

    @property
    def configurations(self) -> tuple[Placed, ...]:
        """The configurations of this log, from the one in force at its base on."""
        return tuple(self._state.configurations)

    @property
    def installing(self) -> SnapshotOffer | None:
        """The snapshot that the shell is to install, until it says how that went."""
        return self._state.installing

    @property
    def damaged(self) -> bool:
        """Whether the log once held more than can be read of it."""
        return self._state.damaged

    @property
    def settled(self) -> bool:
        """Whether this leads, and its term has committed an entry: the commit index is current."""
        return self._state.leading is not None and membership.settled(self._state)

    @property
    def idle(self) -> bool:
        """Whether nothing waits for time to pass while the nodes that matter are heard."""
        s = self._state
        if s.leading is not None:
            return leader.idle(s, s.leading)
        return s.role is Role.FOLLOWER and s.leader is not None and s.installing is None

    def matched(self, node: NodeId) -> Index | None:
        """Up to where a member is known to hold the log, or None; only a leader knows."""
        leading = self._state.leading
        return None if leading is None else leading.match.get(node)

    def reaches(self, node: NodeId) -> bool:
        """Whether a leader, which this is, has no reason to think that nothing reaches a member."""
        s = self._state
        if s.leading is None or node == s.node:
            return node == s.node
        progress = s.leading.progress.get(node)
        return progress is not None and progress.reachable

    def term_at(self, index: Index) -> Term | None:
        """The term of an entry, or None where this log does not reach."""
        return self._state.log.term_at(index)

    def sends_for(self, send: SendEntries) -> bool:
        """Whether this still leads the term for which entries were to be sent."""
        return self._state.leading is not None and self._state.term == send.term

    # --- inputs ---------------------------------------------------------------------------------

    def step(self, message: PeerMessage) -> Refusal | None:
        """Acts on a peer's message, or says why not."""
        if self._trace is not None:
            self._trace.message(message)
        refusal = reception.receive(self._state, message)
        if self._trace is not None and refusal is not None:
            self._trace.refused(refusal)
        return refusal

    def heard(self, node: NodeId, term: Term) -> Refusal | None:
        """A node says that it leads this group in a term: as good as a heartbeat."""
        if self._trace is not None:
            self._trace.told(f"hears that {node} leads term {term}")
        return reception.heard(self._state, node, term)

    def reached(self, node: NodeId) -> None:
        """A member's node was heard from, on whatever matter."""
        if self._state.leading is not None:
            leader.heard(self._state, self._state.leading, node)

    def lost(self, leader: NodeId, turn: int) -> None:
        """The leader's node is gone for certain: its followers campaign one after the other."""
        self._tell(f"knows {leader} to be gone; its turn is {turn}")
        follower.lost(self._state, leader, turn)

    def report_unreachable(self, node: NodeId) -> None:
        """Nothing reaches a member: what was sent to it may be lost, and nothing more is sent."""
        self._tell(f"cannot reach {node}")
        s = self._state
        if s.leading is not None and node in s.leading.progress:
            replication.unreachable(s.leading, node)
            transfer.unreachable(s.leading, node)

    def tick(self, ticks: int = 1) -> None:
        """Time has passed: `limits.RAFT_TICK_MS` for each tick."""
        s = self._state
        if s.leading is not None:
            leader.tick(s, s.leading, ticks)
        elif s.role is Role.FOLLOWER:
            follower.tick(s, ticks)
        else:
            candidate.tick(s, ticks)

    def restart_timer(self) -> None:
        """This node itself was late: its silence says nothing about the leader."""
        self._state.draw_timeout()

    def campaign(self) -> None:
        """Asks for leadership now, as if the leader had been silent."""
        invariant(self._state.role is not Role.LEADER, "a leader does not campaign")
        self._tell("campaigns")
        candidate.campaign(self._state)

    def propose(self, kind: EntryKind, payload_bytes: int) -> Position:
        """Gives an entry its place in this term.

        Raises NotLeader, or HandingOver while leadership is being transferred.
        """
        leading = self._state.leading
        if leading is None or leading.transfer is not None:
            self._proposing()
        if self._trace is not None:  # asked here, where text would be made for each entry
            self._trace.told(f"is given {kind.name.lower()} of {payload_bytes} bytes")
        replication.append(self._state, kind, payload_bytes)
        return self._state.log.last

    def propose_configuration(
        self, voters: frozenset[NodeId], learners: frozenset[NodeId] = frozenset()
    ) -> Position:
        """Begins a change to these members; the leader ends it by itself.

        Raises NotLeader, HandingOver, ChangePending, NotCaughtUp or Impossible.
        """
        leading = self._proposing()
        self._tell(f"is to change to {Configuration(voters, learners=learners)}")
        return membership.propose(self._state, leading, voters, learners).position

    def read_index(self, context: int) -> None:
        """Asks for an index at which a read is linearizable; the answer is in `Ready.reads`.

        Raises NotLeader, TooManyReads.
        """
        s = self._state
        if s.leading is None:
            raise NotLeader
        self._tell(f"is asked for read {context}")
        if s.leading.reads.full:
            raise TooManyReads
        if membership.settled(s):
            s.leading.reads.add(context, s.commit)
        else:
            s.leading.reads.postpone(context)

    def transfer_leadership(self, to: NodeId) -> None:
        """Hands over to another voter; proposals are refused meanwhile.

        Raises NotLeader, Impossible.
        """
        s = self._state
        if s.leading is None:
            raise NotLeader
        self._tell(f"is to hand over to {to}")
        transfer.start(s, s.leading, to)

    @property
    def handing_over(self) -> bool:
        """Whether leadership is being transferred, and proposals are refused meanwhile."""
        leading = self._state.leading
        return leading is not None and leading.transfer is not None

    def resign(self) -> None:
        """Leaves leadership for good: this node cannot keep its promises (its log failed)."""
        self._tell("resigns")
        self._state.suspect = True
        self._state.become(Event.RESIGNED)

    # --- the shell's side of Ready --------------------------------------------------------------

    def ready(self) -> Ready:
        """What the shell has to do; everything in it is handed out once."""
        s = self._state
        if s.leading is not None:
            if s.leading.reads.due:
                replication.heartbeat(s, s.leading)
            replication.feed_all(s, s.leading)
        out, s.out = s.out, Outbox()
        ready = out.ready(s.commit)
        if self._trace is not None:
            self._trace.ready(ready)
        return ready

    def advance(
        self,
        *,
        saved: HardState | None = None,
        persisted: Position | None = None,
        applied: Index | None = None,
        snapshot: Position | None = None,
    ) -> None:
        """Learns what has become durable or applied here.

        Args:
            saved: the hard state that the journal now holds.
            persisted: the entry up to which the log is synced, as it was when it was appended.
            applied: the last entry that the state machine has taken.
            snapshot: the snapshot that now stands in place of the log.
        """
        s = self._state
        if self._trace is not None:
            self._trace.advanced(saved, persisted, snapshot)
        if snapshot is not None:
            receive_snapshot.installed(s, snapshot)
        if saved is not None:
            self._saved(saved)
        if persisted is not None and s.persisted(persisted) and s.leading is not None:
            leader.persisted(s, s.leading)
        if applied is not None:
            invariant(s.applied <= applied <= s.commit, "what is decided is applied, in order")
            s.applied = applied
        if s.role is Role.FOLLOWER and (persisted is not None or saved is not None):
            follower.acknowledge(s)

    def _saved(self, saved: HardState) -> None:
        s = self._state
        if (saved.term, saved.vote is not None) > (s.saved.term, s.saved.vote is not None):
            s.saved = saved
        receive_vote.give_vote(s)
        if s.role is Role.CANDIDATE and s.saved == s.hard:
            candidate.count(s, s.node, granted=True)

    def refuse_snapshot(self) -> None:
        """The snapshot that was to be installed could not be had; it will be offered again."""
        self._tell("gives up the snapshot")
        receive_snapshot.refused(self._state)

    def compact(self, *, base: Index, snapshot: Position) -> None:
        """A snapshot up to `snapshot` is kept, and entries up to `base` may be gone."""
        s = self._state
        invariant(base <= snapshot.index <= s.applied, "a snapshot holds what was applied")
        self._tell(f"keeps a snapshot up to {snapshot.index} and entries after {base}")
        s.compact(base, snapshot)

    def _proposing(self) -> Leading:
        leading = self._state.leading
        if leading is None:
            raise NotLeader
        if leading.transfer is not None:
            raise HandingOver
        return leading

    def _tell(self, text: str) -> None:
        if self._trace is not None:
            self._trace.told(text)
