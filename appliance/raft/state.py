"""What one member of one group knows: the state on which roles and messages act.

Rules: term and vote change only through `adopt`, so that whatever depends on their durability sees
it; the log changes only through `extend` and `truncate`, which keep the configurations in step with
it (thesis, section 4.1: in force when appended, undone by truncation). Nothing here decides.
"""

from collections.abc import Callable

from appliance.invariant import invariant
from appliance.limits import MAX_TERM, RAFT_ELECTION_TICKS, RAFT_ELECTION_TICKS_MAX
from appliance.ports import Entropy, HardState
from appliance.raft.configuration import Configuration, Placed
from appliance.raft.log import LogView
from appliance.raft.messages import Run, SnapshotOffer
from appliance.raft.outbox import Outbox
from appliance.raft.progress import Progress
from appliance.raft.reads import Reads
from appliance.raft.ready import Leadership, Recovered, Role
from appliance.raft.transitions import Event, after
from appliance.types import Index, NodeId, Position, Term


class Tally:
    """The answers to one campaign."""

    __slots__ = ("granted", "refused", "transferred")

    def __init__(self, *, transferred: bool) -> None:
        """Starts with none."""
        self.granted: set[NodeId] = set()
        self.refused: set[NodeId] = set()
        self.transferred = transferred


class Leading:
    """What only a leader has."""

    __slots__ = ("heartbeat_ticks", "match", "progress", "quorum_ticks", "reads", "transfer",
                 "transfer_ticks")  # fmt: skip

    def __init__(self) -> None:
        """Starts knowing nothing of anybody."""
        self.match: dict[NodeId, Index] = {}
        """Per member, itself included, up to where its log is this one and durable."""
        self.progress: dict[NodeId, Progress] = {}
        self.reads = Reads()
        self.heartbeat_ticks = 0
        self.quorum_ticks = 0
        self.transfer: NodeId | None = None
        self.transfer_ticks = 0


class State:
    """One member of one group."""

    __slots__ = (
        "answer_owed", "applied", "commit", "configurations", "durable", "elapsed_ticks",
        "entropy", "hard", "incarnation", "installing", "known_last", "leader", "leading", "log",
        "matched", "node", "note", "out", "role", "saved", "snapshot", "suspect", "tally",
        "timeout_ticks",
        "vote_owed",
    )  # fmt: skip

    def __init__(
        self, node: NodeId, recovered: Recovered, entropy: Entropy, incarnation: int
    ) -> None:
        """Takes what recovery found."""
        invariant(bool(recovered.configurations), "a member knows a configuration")
        invariant(
            recovered.state.term >= recovered.last.term, "the journal's term covers the log's"
        )
        self.node = node
        self.entropy = entropy
        self.incarnation = incarnation
        self.note: Callable[[str], None] | None = None
        """Told, in words, why something was decided, where somebody listens."""
        self.hard = recovered.state
        self.saved = recovered.state
        self.log = LogView(recovered.base, recovered.terms, recovered.last)
        self.durable = recovered.last.index
        self.snapshot = max(recovered.snapshot, recovered.base)
        """The newest snapshot that is kept; the log may reach back further."""
        self.commit = recovered.snapshot.index
        self.applied = recovered.snapshot.index
        self.configurations = list(recovered.configurations)
        self.known_last = recovered.known_last
        self.suspect = False
        """Its log failed: what it says of it now would be a guess."""
        self.role = Role.FOLLOWER
        self.leader: NodeId | None = None
        self.elapsed_ticks = 0
        self.timeout_ticks = 0
        self.vote_owed: NodeId | None = None
        """Whose vote waits for its save."""
        self.matched = Index(0)
        """Up to here the log is known to be that of the term's leader."""
        self.answer_owed = False
        """Whether the leader still has to be told that all of it is durable."""
        self.installing: SnapshotOffer | None = None
        self.tally: Tally | None = None
        self.leading: Leading | None = None
        self.out = Outbox()
        self.draw_timeout()

    @property
    def term(self) -> Term:
        """The current term."""
        return self.hard.term

    @property
    def placed(self) -> Placed:
        """The configuration in force and where it stands."""
        return self.configurations[-1]

    @property
    def configuration(self) -> Configuration:
        """The configuration in force: the latest in the log, committed or not."""
        return self.configurations[-1].configuration

    @property
    def damaged(self) -> bool:
        """Whether the log is known to have held more than can be read of it."""
        return self.known_last is not None

    @property
    def may_campaign(self) -> bool:
        """A voter whose log is whole, and who is not about to replace it."""
        return (
            (self.configuration.votes(self.node) or self.leaving)
            and not self.damaged
            and not self.suspect
            and self.installing is None
            and self.term < MAX_TERM
        )

    @property
    def leaving(self) -> bool:
        """Whether it votes no more by an entry that is not known to be committed.

        Until it is, this member may be the only one that can lead: whoever shares its log may have
        lost a part of it (thesis, section 4.2.2). Its own vote does not count.
        """
        return (
            len(self.configurations) > 1
            and self.placed.index > self.commit
            and not self.configuration.votes(self.node)
            and self.configurations[-2].configuration.votes(self.node)
        )

    @property
    def last_known(self) -> Position:
        """What a candidate must have at least; a damaged log counts for what it once held."""
        last = self.log.last
        return last if self.known_last is None else max(last, self.known_last)

    @property
    def last_durable(self) -> Position:
        """The last entry that would survive a crash now."""
        term = self.log.term_at(self.durable)
        return self.log.base if term is None else Position(term, self.durable)

    def explain(self, text: str) -> None:
        """Notes why something was decided."""
        if self.note is not None:
            self.note(text)

    def draw_timeout(self) -> None:
        """A fresh random election time-out, so that members rarely campaign at once (5.2)."""
        self.elapsed_ticks = 0
        spread = RAFT_ELECTION_TICKS_MAX - RAFT_ELECTION_TICKS + 1
        self.timeout_ticks = RAFT_ELECTION_TICKS + self.entropy.random_bytes(1)[0] % spread

    def adopt(self, term: Term, vote: NodeId | None) -> None:
        """Another term, or a vote in this one; handed out to be saved."""
        invariant(self.hard.term <= term <= MAX_TERM, "terms only grow, to 2^31 - 1")
        invariant(term > self.hard.term or self.hard.vote in {None, vote}, "one vote a term (5.2)")
        if term > self.hard.term:
            self.matched = Index(0)
            self.answer_owed = False
        self.hard = HardState(term, vote)
        self.out.hard_state = self.hard

    def become(self, event: Event, leader: NodeId | None = None) -> None:
        """Takes the role that the event leads to, and drops what belonged to the one before."""
        role = after(self.role, event)
        if self.leading is not None:
            self.out.reads_lost.extend(self.leading.reads.contexts())
        self.role = role
        self.leader = leader
        self.tally = None
        self.leading = None
        self.vote_owed = None
        self.draw_timeout()
        self.tell_leadership()

    def tell_leadership(self) -> None:
        """Role, term or leader have changed."""
        self.out.leadership = Leadership(self.role, self.term, self.leader)

    def extend(self, run: Run) -> None:
        """Appends entries."""
        last = self.log.append(run.term, run.sizes)
        invariant(last.index - len(run.sizes) + 1 == run.first, "indexes are contiguous")
        self.out.entries.append(run)
        if run.configuration is not None:
            self.configurations.append(Placed(run.first, run.configuration))
            self.out.configuration = self.placed

    def truncate(self, keep: Index) -> None:
        """Takes back every entry behind `keep`, and the configurations among them."""
        invariant(keep >= self.commit, "what is committed stays")
        self.log.truncate(keep)
        self.out.truncate(keep)
        self.durable = min(self.durable, keep)
        self.matched = min(self.matched, keep)
        while self.placed.index > keep:
            self.configurations.pop()
            self.out.configuration = self.placed

    def persisted(self, position: Position) -> bool:
        """Whether that made more of the present log durable."""
        if position.index <= self.durable or not self.log.holds(position):
            return False
        self.durable = position.index
        if self.known_last is not None and position >= self.known_last:
            self.explain("holds again what it once held")
            self.known_last = None
        return True

    def commit_to(self, index: Index) -> None:
        """Everything up to an index is decided; what stands before is of no more use."""
        if index <= self.commit:
            return
        invariant(index <= self.log.last.index, "nothing is decided that is not held")
        self.commit = index
        self.log.forget_sizes(index)

    def compact(self, base: Index, snapshot: Position) -> None:
        """Entries up to `base` can be sent no more; a snapshot up to `snapshot` can."""
        invariant(self.log.holds(snapshot), "a snapshot is of this log")
        self.snapshot = max(self.snapshot, snapshot)
        self.log.compact(base)
        while len(self.configurations) > 1 and self.configurations[1].index <= base:
            del self.configurations[0]
