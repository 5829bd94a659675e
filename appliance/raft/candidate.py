"""A candidate, and one that asks first (Raft paper, section 5.2; thesis, section 9.6).

Rules: a pre-vote raises nobody's term, so a member that was cut off disturbs nobody when it comes
back; so it may be asked for again and again, of members that did not know yet that their leader is
gone. The node's own vote counts once it is durable, and without it nobody leads: a candidate that
forgot its term in a crash could otherwise lead the same term twice, with two logs. A request goes
out before the term is durable, so it claims only what is durable of the log: answers to it may
still arrive after a crash, and must then be true of what is left.
"""

from appliance.limits import MAX_TERM, RAFT_ASK_TICKS
from appliance.raft import leader
from appliance.raft.messages import PreVote, Vote
from appliance.raft.ready import Role
from appliance.raft.state import State, Tally
from appliance.raft.transitions import Event
from appliance.types import NodeId, Term


def tick(s: State, ticks: int) -> None:
    """An election that nobody wins is begun anew, by asking first."""
    asked = s.elapsed_ticks // RAFT_ASK_TICKS
    s.elapsed_ticks += ticks
    if s.elapsed_ticks >= s.timeout_ticks:
        campaign(s)
    elif s.role is Role.PRE_CANDIDATE and s.elapsed_ticks // RAFT_ASK_TICKS > asked:
        ask(s)


def campaign(s: State) -> None:
    """Asks whether a quorum would vote for this node in the next term."""
    if not s.may_campaign:
        s.draw_timeout()
        return
    s.become(Event.SILENCE)
    s.tally = Tally(transferred=False)
    ask(s)
    count(s, s.node, granted=True)


def ask(s: State) -> None:
    """Asks everybody who has not said yes."""
    granted = s.tally.granted if s.tally is not None else frozenset[NodeId]()
    for to in _others(s):
        if to not in granted:
            s.out.messages.append(
                PreVote(sender=s.node, to=to, term=Term(s.term + 1), last=s.last_durable)
            )


def stand(s: State, event: Event) -> None:
    """Begins a new term and asks for votes in it."""
    if s.term >= MAX_TERM:
        return
    s.adopt(Term(s.term + 1), s.node)
    s.become(event)
    s.tally = Tally(transferred=event is Event.TOLD)
    for to in _others(s):
        s.out.messages.append(
            Vote(
                sender=s.node,
                to=to,
                term=s.term,
                last=s.last_durable,
                transferred=s.tally.transferred,
            )
        )


def count(s: State, voter: NodeId, *, granted: bool) -> None:
    """An answer, or the own vote, has come."""
    tally = s.tally
    if tally is None:
        return
    (tally.granted if granted else tally.refused).add(voter)
    if granted:
        tally.refused.discard(voter)
    configuration = s.configuration
    if configuration.carried(tally.granted):
        if s.role is Role.PRE_CANDIDATE:
            stand(s, Event.SUPPORTED)
        elif s.node in tally.granted:
            leader.begin(s)
    elif not configuration.carried(configuration.members - tally.refused):
        s.become(Event.REFUSED)


def _others(s: State) -> list[NodeId]:
    configuration = s.configuration
    return sorted((configuration.voters | configuration.outgoing) - {s.node})
