"""A snapshot in place of entries that are gone (Raft paper, section 7; thesis, chapter 5).

Rules: it replaces the log only if it holds what the log does not. While it is being fetched no
entry is taken: the log that would hold it is about to be replaced. What a snapshot holds is
committed, whoever leads by the time that it is installed.
"""

from appliance.raft import follower
from appliance.raft.configuration import Placed
from appliance.raft.log import LogView
from appliance.raft.messages import SnapshotOffer, SnapshotReply
from appliance.raft.ready import Refusal
from appliance.raft.receive_append import position_known
from appliance.raft.state import State
from appliance.types import Position


def receive(s: State, m: SnapshotOffer) -> Refusal | None:
    """Has the shell fetch what this log lacks."""
    if (
        not m.configuration.sound()
        or not 0 <= m.configured_at <= m.position.index
        or m.position.term > m.term
    ):
        return Refusal.MALFORMED
    follower.follow(s, m.term, m.sender)
    if position_known(s, m.position):
        follower.matched_up_to(s, m.position.index, m.position.index)
        return None
    if s.installing is None or s.installing.position.index < m.position.index:
        s.installing = m
        s.out.install = m
    return None


def installed(s: State, position: Position) -> None:
    """The shell has made the snapshot durable in place of the log."""
    offer = s.installing
    if offer is None or offer.position != position:
        return
    s.installing = None
    s.log = LogView(position, (), position)
    s.durable = s.commit = s.applied = position.index
    s.snapshot = position
    s.configurations = [Placed(offer.configured_at, offer.configuration)]
    s.out.configuration = s.placed
    s.matched = position.index
    if s.known_last is not None and position >= s.known_last:
        s.known_last = None
    answer(s, taken=True)


def refused(s: State) -> None:
    """The shell could not take the snapshot: the leader will offer again."""
    s.installing = None
    answer(s, taken=False)


def answer(s: State, *, taken: bool) -> None:
    """Tells the leader, whoever that is by now."""
    if s.leader is not None and s.saved.term == s.term:
        s.out.messages.append(
            SnapshotReply(
                sender=s.node,
                to=s.leader,
                term=s.term,
                match=s.durable,
                taken=taken,
                incarnation=s.incarnation,
            )
        )
