"""A leader: takes entries, decides when they are committed, and knows whether it still leads.

Rules: it only appends to its log (Raft paper, section 5.3); it commits entries of earlier terms
only through one of its own, hence the no-op with which each term begins (section 5.4.2); it counts
itself only for what is durable here (thesis, section 10.2.1); and it steps down when it has heard
no quorum for an election time-out (section 6.2).
"""

from appliance.limits import (
    RAFT_ELECTION_TICKS,
    RAFT_HEARTBEAT_TICKS,
    RAFT_RETRY_TICKS,
)
from appliance.raft import membership, replication, transfer
from appliance.raft.state import Leading, State
from appliance.raft.transitions import Event
from appliance.types import EntryKind, NodeId


def begin(s: State) -> None:
    """Leads from now on; the term begins with a no-op."""
    s.become(Event.ELECTED, s.node)
    s.leading = Leading()
    s.leading.match[s.node] = s.durable
    membership.meet(s)
    replication.append(s, EntryKind.NO_OP, 0)


def persisted(s: State, leading: Leading) -> None:
    """More of the own log is durable."""
    leading.match[s.node] = s.durable
    maybe_commit(s, leading)


def maybe_commit(s: State, leading: Leading) -> None:
    """Section 5.4.2: a quorum holds it, and it is of the leader's own term."""
    held = s.configuration.held(leading.match)
    if held <= s.commit or s.log.term_at(held) != s.term:
        return
    s.commit_to(held)
    leading.reads.commit_known(s.commit)
    membership.committed(s)


def tick(s: State, leading: Leading, ticks: int) -> None:
    """Heartbeats, retries, and the check that a quorum is still there."""
    leading.heartbeat_ticks += ticks
    if leading.heartbeat_ticks >= RAFT_HEARTBEAT_TICKS:
        leading.heartbeat_ticks = 0
        replication.heartbeat(s, leading)
    for node in sorted(leading.progress):
        progress = leading.progress[node]
        if replication.outstanding(s, leading, node, progress):
            progress.silent_ticks += ticks
            if progress.silent_ticks >= RAFT_RETRY_TICKS:
                replication.lost(s, leading, node, progress)
    transfer.tick(leading, ticks)
    leading.quorum_ticks += ticks
    if leading.quorum_ticks >= RAFT_ELECTION_TICKS:
        leading.quorum_ticks = 0
        check_quorum(s, leading)


def check_quorum(s: State, leading: Leading) -> None:
    """Steps down unless a quorum was heard since the last check."""
    heard = {s.node}
    for node, progress in leading.progress.items():
        if progress.active:
            heard.add(node)
        progress.active = False
    if not s.configuration.carried(heard):
        s.explain("has heard no quorum")
        s.become(Event.QUORUM_LOST)


def heard(s: State, leading: Leading, node: NodeId) -> None:
    """A member is there."""
    progress = leading.progress.get(node)
    if progress is not None:
        progress.active = True
        progress.reachable = True


def idle(s: State, leading: Leading) -> bool:
    """Whether nothing here waits for time to pass: every member that is reached has it all."""
    reached = {s.node}
    for node, progress in leading.progress.items():
        if not progress.reachable:
            continue
        reached.add(node)
        if replication.outstanding(s, leading, node, progress):
            return False
    return (
        s.commit == s.log.last.index
        and leading.transfer is None
        and not len(leading.reads)
        and s.configuration.carried(reached)
    )
