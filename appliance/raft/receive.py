"""Where a message goes: what holds for all of them, and the one that deals with each.

Rules (Raft paper, section 5.1): whoever is in an earlier term is told of this one; whoever speaks
of a later one is believed, but for candidates, who are weighed first. A term has one leader. What
a peer sends is refused with a reason, and never raises.
"""

from typing import assert_never

from appliance.limits import MAX_TERM
from appliance.raft import (
    follower,
    receive_append,
    receive_append_reply,
    receive_heartbeat,
    receive_heartbeat_reply,
    receive_snapshot,
    receive_snapshot_reply,
    receive_timeout_now,
    receive_vote,
    receive_vote_reply,
)
from appliance.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PeerMessage,
    PreVote,
    PreVoteReply,
    SnapshotOffer,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from appliance.raft.ready import Refusal, Role
from appliance.raft.state import State
from appliance.types import Index, NodeId, Term


def receive(s: State, m: PeerMessage) -> Refusal | None:
    """Acts on a message, or says why not."""
    if m.to != s.node or m.sender == s.node:
        return Refusal.NOT_FOR_US
    return _weigh(s, m) if 0 <= m.term <= MAX_TERM else Refusal.IMPOSSIBLE_TERM


def _weigh(s: State, m: PeerMessage) -> Refusal | None:
    if isinstance(m, PreVote):
        return receive_vote.receive_pre_vote(s, m)
    if isinstance(m, Vote):
        return receive_vote.receive(s, m)
    if isinstance(m, Append | Heartbeat | SnapshotOffer):
        return _from_leader(s, m)
    if isinstance(m, PreVoteReply) and m.granted:
        return receive_vote_reply.receive_pre_vote(s, m)
    if m.term > s.term:
        follower.step_down(s, m.term)
        return None
    if m.term < s.term:
        return Refusal.STALE_TERM
    return _of_this_term(s, m)


def _from_leader(s: State, m: Append | Heartbeat | SnapshotOffer) -> Refusal | None:
    if m.term < s.term:
        outdated(s, m.sender)
        return Refusal.STALE_TERM
    if m.term == s.term and _another_leads(s, m.sender):
        return Refusal.TWO_LEADERS
    match m:
        case Append():
            return receive_append.receive(s, m)
        case Heartbeat():
            return receive_heartbeat.receive(s, m)
        case SnapshotOffer():
            return receive_snapshot.receive(s, m)
        case _:
            assert_never(m)


def _of_this_term(
    s: State,
    m: AppendReply | HeartbeatReply | PreVoteReply | VoteReply | SnapshotReply | TimeoutNow,
) -> Refusal | None:
    match m:
        case AppendReply():
            return receive_append_reply.receive(s, m)
        case HeartbeatReply():
            return receive_heartbeat_reply.receive(s, m)
        case VoteReply():
            return receive_vote_reply.receive(s, m)
        case PreVoteReply():
            return receive_vote_reply.receive_pre_vote(s, m)
        case SnapshotReply():
            return receive_snapshot_reply.receive(s, m)
        case TimeoutNow():
            return receive_timeout_now.receive(s, m)
        case _:
            assert_never(m)


def outdated(s: State, sender: NodeId) -> None:
    """Tells a leader of an earlier term that it is none: it steps down by the term alone."""
    s.out.messages.append(
        AppendReply(
            sender=s.node,
            to=sender,
            term=s.term,
            match=Index(0),
            commit=s.commit,
            incarnation=s.incarnation,
        )
    )


def heard(s: State, leader: NodeId, term: Term) -> Refusal | None:
    """A node says, for many groups at once, that it leads this one (DESIGN section 7)."""
    if leader == s.node:
        return Refusal.NOT_FOR_US
    if not 0 <= term <= MAX_TERM:
        return Refusal.IMPOSSIBLE_TERM
    if term < s.term:
        outdated(s, leader)
        return Refusal.STALE_TERM
    if term == s.term and _another_leads(s, leader):
        return Refusal.TWO_LEADERS
    follower.follow(s, term, leader)
    if s.damaged and not s.matched:
        follower.introduce(s)
    return None


def _another_leads(s: State, sender: NodeId) -> bool:
    return s.role is Role.LEADER or (s.leader is not None and s.leader != sender)
