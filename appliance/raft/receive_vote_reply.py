"""Answers to requests for votes, at the candidate (Raft paper, section 5.2)."""

from appliance.raft import candidate
from appliance.raft.messages import PreVoteReply, VoteReply
from appliance.raft.ready import Refusal, Role
from appliance.raft.state import State


def receive(s: State, m: VoteReply) -> Refusal | None:
    """Counts a vote of this term."""
    if s.role is not Role.CANDIDATE or m.term != s.term:
        return Refusal.UNEXPECTED
    candidate.count(s, m.sender, granted=m.granted)
    return None


def receive_pre_vote(s: State, m: PreVoteReply) -> Refusal | None:
    """Counts an answer for the term that was asked about."""
    if s.role is not Role.PRE_CANDIDATE or (m.granted and m.term != s.term + 1):
        return Refusal.UNEXPECTED
    candidate.count(s, m.sender, granted=m.granted)
    return None
