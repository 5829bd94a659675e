"""A follower: listens to its leader, and campaigns when it hears none (Raft paper, section 5.2).

Rules: who has a leader protects it: it supports no other candidate until an election time-out has
passed in silence (thesis, section 4.2.3), or the leader's node is known to be gone. What it
acknowledges is durable, and of this term's log.
"""

from appliance.limits import RAFT_ELECTION_TICKS, RAFT_TURN_TICKS
from appliance.raft import candidate
from appliance.raft.messages import AppendReply, Conflict
from appliance.raft.ready import Role
from appliance.raft.state import State
from appliance.raft.transitions import Event
from appliance.types import Index, NodeId, Term


def tick(s: State, ticks: int) -> None:
    """Counts silence; campaigns when there was too much of it."""
    s.elapsed_ticks += ticks
    if s.elapsed_ticks < s.timeout_ticks:
        return
    if s.may_campaign:
        candidate.campaign(s)
    else:
        if s.leader is not None:
            s.explain("its leader is silent; it may not campaign")
            s.leader = None
            s.tell_leadership()
        s.draw_timeout()


def lost(s: State, leader: NodeId, turn: int) -> None:
    """The leader's node is gone for certain: nobody waits for a time-out, each for its turn.

    Turns, given by the shell from 0 on, keep two members from splitting the votes of the rest.
    """
    if s.role is not Role.FOLLOWER or s.leader != leader:
        return
    s.leader = None
    s.tell_leadership()
    s.elapsed_ticks = RAFT_ELECTION_TICKS
    s.timeout_ticks = RAFT_ELECTION_TICKS + turn * RAFT_TURN_TICKS


def protects_leader(s: State) -> bool:
    """Whether a leader was heard so lately that nobody else is supported."""
    return s.leader is not None and s.elapsed_ticks < RAFT_ELECTION_TICKS


def follow(s: State, term: Term, leader: NodeId) -> None:
    """A leader of this or a later term has spoken."""
    if term > s.term:
        s.adopt(term, None)
        s.become(Event.LATER_TERM, leader)
    elif s.role is not Role.FOLLOWER or s.leader != leader:
        s.become(Event.LED, leader)
    s.elapsed_ticks = 0


def step_down(s: State, term: Term) -> None:
    """Somebody is in a later term; who leads it is not known yet."""
    s.adopt(term, None)
    s.become(Event.LATER_TERM)


def matched_up_to(s: State, index: Index, commit: Index) -> None:
    """The leader has shown that the logs agree up to an index, and what is decided of that."""
    s.matched = max(s.matched, index)
    s.commit_to(min(commit, s.matched))
    s.answer_owed = True
    if s.durable >= s.matched:
        acknowledge(s)


def acknowledge(s: State) -> None:
    """Tells the leader what is durable of its log, once its term is too.

    An answer is owed until everything that matched is durable; on the way there each sync that
    brings more is told.
    """
    if not s.answer_owed or s.leader is None or s.saved.term != s.term:
        return
    s.answer_owed = s.durable < s.matched
    reply(s, None)


def introduce(s: State) -> None:
    """Tells a leader of a new incarnation that lacks something: at rest it would not ask."""
    if s.saved.term == s.term:
        reply(s, None)


def reply(s: State, conflict: Conflict | None) -> None:
    """Answers an append: what is durable here, and where it did not fit."""
    if s.leader is not None:
        s.out.messages.append(
            AppendReply(
                sender=s.node,
                to=s.leader,
                term=s.term,
                match=min(s.durable, s.matched),
                conflict=conflict,
                commit=s.commit,
                incarnation=s.incarnation,
            )
        )
