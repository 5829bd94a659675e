"""What the core asks of its shell: values out, acknowledged by `Core.advance`.

Rules for the shell, in the order in which it carries out one Ready:

1. `messages`, `sends` and `offers` may go at once: whatever must wait for a persist (responses to
   appends and votes, the node's own vote, the leader's own match index) is kept in the core and
   comes out of a later Ready, after `advance` named what it waited for.
2. `hard_state` becomes durable before any entry of this Ready does; then `advance(saved=)`.
3. `truncate_after`, when there is one, comes before `entries`: all entries after that index are
   void. Then `entries` are appended in order; then `advance(persisted=)` with term and index of the
   last one as it was appended. Several may be outstanding. One that was issued before a truncation
   is reported before the truncation is written, or never (DESIGN section 7).
4. `install` is fetched from its sender, made durable in place of the log, and then reported by
   `advance(snapshot=)`; or given up by `Core.refuse_snapshot`.
5. Entries up to `commit` are applied in order, once durable here; then `advance(applied=)`.
6. `reads` may be served once everything up to their index is applied.
"""

from enum import IntEnum

import msgspec

from appliance.ports import HardState
from appliance.raft.configuration import Configuration, Placed
from appliance.raft.messages import Append, PeerMessage, Run, SnapshotOffer
from appliance.types import Index, NodeId, Position, Term


class Role(IntEnum):
    """A voter's part in its term (Raft paper, section 5.1)."""

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class Leadership(msgspec.Struct, frozen=True, gc=False):
    """Who leads which term, as this member knows it."""

    role: Role
    term: Term
    leader: NodeId | None


class SendEntries(msgspec.Struct, frozen=True, gc=False):
    """Send the entries [first, last] to a follower; `last` is below `first` when there are none.

    The shell reads the entries from its log. If `Core.sends_for` no longer holds when it has read
    them, it drops them: the log may not be this leader's any more. Where they are more than one
    message may hold, each part's `previous` is the last entry of the part before.
    """

    to: NodeId
    term: Term
    previous: Position
    first: Index
    last: Index
    commit: Index

    def message(
        self, sender: NodeId, runs: tuple[Run, ...], previous: Position | None = None
    ) -> Append:
        """The message, or one part of it, once the shell has read what the entries are."""
        return Append(
            sender=sender,
            to=self.to,
            term=self.term,
            previous=self.previous if previous is None else previous,
            commit=self.commit,
            runs=runs,
        )


class ReadState(msgspec.Struct, frozen=True, gc=False):
    """A read may be served from state applied up to `index` (thesis, section 6.4)."""

    context: int
    index: Index


class Shrunk(msgspec.Struct, frozen=True, gc=False):
    """A follower holds less than it acknowledged: somebody restored an old disk, or lost one."""

    node: NodeId
    acknowledged: Index
    held: Index


class Ready(msgspec.Struct, frozen=True, gc=False):
    """Everything that has come to be since the last Ready."""

    hard_state: HardState | None
    truncate_after: Index | None
    entries: tuple[Run, ...]
    commit: Index
    messages: tuple[PeerMessage, ...] = ()
    sends: tuple[SendEntries, ...] = ()
    install: SnapshotOffer | None = None
    reads: tuple[ReadState, ...] = ()
    reads_lost: tuple[int, ...] = ()
    """Contexts of reads that this node cannot answer: it leads no more."""
    leadership: Leadership | None = None
    """Role, term or leader have changed."""
    configuration: Placed | None = None
    """Another configuration is in force."""
    shrunk: tuple[Shrunk, ...] = ()


class Refusal(IntEnum):
    """Why the core did not act on a message; nothing that a peer sends raises."""

    STALE_TERM = 0
    STALE = 1
    STALE_INCARNATION = 2
    IMPOSSIBLE_TERM = 3
    NOT_FOR_US = 4
    MALFORMED = 5
    UNEXPECTED = 6
    CONTRADICTS_COMMITTED = 7
    TWO_LEADERS = 8
    NOT_ENTITLED = 9
    LEADER_HEARD = 10


class Recovered(msgspec.Struct, frozen=True):
    """What recovery found of one group: the start of a core."""

    state: HardState
    last: Position
    """The last entry that can be read, all of it durable."""
    base: Position = Position(Term(0), Index(0))
    """The entry before the first that can be sent; the log may know no terms before it."""
    terms: tuple[Position, ...] = ()
    """For each term in (base, last], where it begins."""
    configurations: tuple[Placed, ...] = ()
    """Configurations of the log or its snapshot, oldest first; at least one."""
    snapshot: Position = Position(Term(0), Index(0))
    """Everything up to here is in the snapshot, and so committed."""
    known_last: Position | None = None
    """A damaged log's last entry as its journal knows it (DESIGN section 5)."""


class Refused(Exception):
    """The core did not take a proposal; the shell answers with its protocol's error."""


class NotLeader(Refused):
    """Only a leader assigns indexes and answers reads."""


class HandingOver(Refused):
    """Leadership is being transferred; the next leader will take it, in a moment."""


class ChangePending(Refused):
    """A change of members is under way, or the term has committed nothing yet."""


class NotCaughtUp(Refused):
    """A new voter must first be a learner that holds nearly all of the log (thesis, 4.2.1)."""


class TooManyReads(Refused):
    """As many reads wait as may (`limits.MAX_READS_WAITING`)."""


class Impossible(Refused):
    """No group could work with these members."""


def single(voter: NodeId) -> tuple[Placed, ...]:
    """The configurations of a group that has one voter and never had another."""
    return (Placed(Index(0), Configuration(frozenset({voter}))),)
