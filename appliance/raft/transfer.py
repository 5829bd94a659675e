"""Handing leadership over on purpose (thesis, section 3.10).

Rules: proposals are refused while it lasts; the target is told to campaign once it holds the whole
log durably; a target that does not lead within an election time-out, or cannot be reached any
more, is given up, and the leader goes on.
"""

from appliance.limits import RAFT_ELECTION_TICKS
from appliance.raft.messages import TimeoutNow
from appliance.raft.ready import Impossible
from appliance.raft.state import Leading, State
from appliance.types import Index, NodeId


def start(s: State, leading: Leading, to: NodeId) -> None:
    """Begins to hand over to a voter; raises Impossible for anyone else."""
    if to not in s.configuration.voters or to == s.node:
        raise Impossible
    leading.transfer = to
    leading.transfer_ticks = 0
    proceed(s, leading)


def proceed(s: State, leading: Leading) -> None:
    """Tells the target to campaign if it holds everything."""
    to = leading.transfer
    if to is not None and leading.match.get(to) == s.log.last.index:
        s.out.messages.append(TimeoutNow(sender=s.node, to=to, term=s.term))


def tick(leading: Leading, ticks: int) -> None:
    """Gives up a target that takes too long."""
    if leading.transfer is None:
        return
    leading.transfer_ticks += ticks
    if leading.transfer_ticks >= RAFT_ELECTION_TICKS:
        leading.transfer = None


def unreachable(leading: Leading, node: NodeId) -> None:
    """Gives up a target that is gone: proposals need not wait for a time-out to show it."""
    if leading.transfer == node:
        leading.transfer = None


def pass_on(s: State, leading: Leading) -> None:
    """A leader that leaves tells the voter that holds most to take over, to spare a time-out."""
    held = [
        (leading.match.get(voter, Index(0)), -voter, voter)
        for voter in s.configuration.voters
        if voter != s.node
    ]
    if held:
        s.out.messages.append(TimeoutNow(sender=s.node, to=max(held)[2], term=s.term))
