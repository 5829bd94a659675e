"""Requests for votes, at the voter (Raft paper, sections 5.2 and 5.4.1; thesis, 4.2.3 and 9.6).

Rules: one vote a term, given only to a log at least as far as this one, a damaged log counted for
what it once held. A vote leaves once it is durable. While a leader is heard no one else gets a vote
and no term is taken over from a candidate, unless that leader itself asked for the election. A
member votes whether or not its configuration knows the candidate: its own may be behind.
"""

from appliance.raft import candidate, follower
from appliance.raft.messages import PreVote, PreVoteReply, Vote, VoteReply
from appliance.raft.ready import Refusal, Role
from appliance.raft.state import State
from appliance.types import NodeId, Position


def receive_pre_vote(s: State, m: PreVote) -> Refusal | None:
    """Says whether it would vote; who has more, and no leader either, asks in its place."""
    free = m.term > s.term and not follower.protects_leader(s)
    granted = free and _far_enough(s, m.last)
    s.out.messages.append(
        PreVoteReply(
            sender=s.node, to=m.sender, term=m.term if granted else s.term, granted=granted
        )
    )
    if free and not granted and s.role is Role.FOLLOWER and m.last < s.last_durable:
        s.explain(f"holds more than {m.sender}, and hears no leader")
        candidate.campaign(s)
    return None


def receive(s: State, m: Vote) -> Refusal | None:
    """Grants or refuses its vote."""
    if m.term > s.term:
        if follower.protects_leader(s) and not m.transferred:
            s.explain(f"protects {s.leader}")
            return Refusal.LEADER_HEARD
        follower.step_down(s, m.term)
    if m.term < s.term or not _may_have(s, m.sender) or not _far_enough(s, m.last):
        s.out.messages.append(VoteReply(sender=s.node, to=m.sender, term=s.term, granted=False))
        return None
    if s.hard.vote is None:
        s.adopt(s.term, m.sender)
    s.vote_owed = m.sender
    s.draw_timeout()
    give_vote(s)
    return None


def give_vote(s: State) -> None:
    """Sends the vote that is owed, once it is durable."""
    if s.vote_owed is not None and s.saved == s.hard:
        s.out.messages.append(VoteReply(sender=s.node, to=s.vote_owed, term=s.term, granted=True))
        s.vote_owed = None


def _may_have(s: State, candidate: NodeId) -> bool:
    """Its vote of this term is free, or was this candidate's already."""
    return s.hard.vote == candidate or (s.hard.vote is None and s.leader is None)


def _far_enough(s: State, last: Position) -> bool:
    """Section 5.4.1: by term, then by index."""
    return last >= s.last_known
