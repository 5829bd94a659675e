"""What the members of one group say to each other.

Rules: a message is of one group, which its frame names and this package does not. It carries its
sender's term. Entries travel as runs: what the core needs to know of them, never a payload. The
shell puts the payloads beside the runs and hands them over by index.
"""

import msgspec

from appliance.raft.configuration import Configuration
from appliance.types import EntryKind, Index, NodeId, Position, Term


class Run(msgspec.Struct, frozen=True, gc=False):
    """Consecutive entries of one term and one kind; an entry of a configuration stands alone."""

    first: Index
    term: Term
    kind: EntryKind
    sizes: tuple[int, ...]
    """Payload bytes of each entry."""
    configuration: Configuration | None = None

    @property
    def last(self) -> Index:
        """The index of the last entry."""
        return Index(self.first + len(self.sizes) - 1)

    @property
    def position(self) -> Position:
        """Term and index of the last entry."""
        return Position(self.term, self.last)

    @property
    def payload_bytes(self) -> int:
        """Payload bytes of all its entries."""
        return sum(self.sizes)

    def upto(self, index: Index) -> "Run":
        """The part up to an index that this run holds."""
        return Run(
            self.first,
            self.term,
            self.kind,
            self.sizes[: index + 1 - self.first],
            self.configuration,
        )

    def after(self, index: Index) -> "Run":
        """The part behind an index that this run holds."""
        return Run(
            Index(index + 1),
            self.term,
            self.kind,
            self.sizes[index + 1 - self.first :],
            self.configuration,
        )


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What every message carries."""

    sender: NodeId
    to: NodeId
    term: Term


class PreVote(Message, frozen=True, gc=False, kw_only=True):
    """Would you vote for me in this coming term (thesis, section 9.6)? Changes no one's term."""

    last: Position


class PreVoteReply(Message, frozen=True, gc=False, kw_only=True):
    """`term` is the one asked about when granted, else the sender's own."""

    granted: bool


class Vote(Message, frozen=True, gc=False, kw_only=True):
    """RequestVote (Raft paper, figure 2)."""

    last: Position
    """The last entry that the candidate holds durably."""
    transferred: bool = False
    """The leader itself asked for this election: its followers need not protect it."""


class VoteReply(Message, frozen=True, gc=False, kw_only=True):
    """A vote, durable at the voter before it left; or a refusal."""

    granted: bool


class Append(Message, frozen=True, gc=False, kw_only=True):
    """AppendEntries (Raft paper, figure 2); without runs it probes, or tells the commit index."""

    previous: Position
    commit: Index
    runs: tuple[Run, ...] = ()

    @property
    def last(self) -> Index:
        """Up to here the receiver's log equals the leader's if it takes this."""
        return self.runs[-1].last if self.runs else self.previous.index


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """Why entries did not fit: the place asked for, and where the logs may agree."""

    rejected: Index
    hint: Position
    """The last entry of the follower that can still agree with what was asked (section 5.3)."""


class AppendReply(Message, frozen=True, gc=False, kw_only=True):
    """Up to `match` the log equals the leader's and is durable at the sender."""

    match: Index
    conflict: Conflict | None = None
    commit: Index
    """Up to here the sender knows the log to be decided."""
    incarnation: int = 0
    """Grows with each start of the sender's process: tells a shrunk log from a late reply."""


class Heartbeat(Message, frozen=True, gc=False, kw_only=True):
    """Keeps followers from campaigning, and confirms leadership for reads of its round."""

    match: Position
    """Up to here the leader takes the receiver's log to be its own and durable."""
    commit: Index
    round: int = 0
    """The newest round of ReadIndex (thesis, section 6.4); 0 when none waits."""


class HeartbeatReply(Message, frozen=True, gc=False, kw_only=True):
    """The sender had not heard of a later term."""

    round: int = 0


class SnapshotOffer(Message, frozen=True, gc=False, kw_only=True):
    """InstallSnapshot: the log before is gone; the shell moves the snapshot itself."""

    position: Position
    configuration: Configuration
    configured_at: Index
    """Index of the entry that holds the configuration."""


class SnapshotReply(Message, frozen=True, gc=False, kw_only=True):
    """The snapshot is installed durably up to `match`; or the receiver could not take it."""

    match: Index
    taken: bool
    incarnation: int = 0


class TimeoutNow(Message, frozen=True, gc=False, kw_only=True):
    """Campaign at once: the leader hands over (thesis, section 3.10)."""


PeerMessage = (
    Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | SnapshotOffer
    | SnapshotReply
    | TimeoutNow
)
"""All of them: who dispatches by type is held to be complete."""
