"""How a leader feeds its members (Raft paper, section 5.3; thesis, section 10.2.1).

Rules: entries go out as ranges that the shell reads, at once, whether durable here or not. What
was proposed between two Readies travels together. A member that has everything is told a new
commit index by an append without entries.
"""

from appliance.limits import MAX_APPEND_BYTES, MAX_APPEND_ENTRIES
from appliance.raft.configuration import Configuration
from appliance.raft.messages import Heartbeat, Run, SnapshotOffer
from appliance.raft.progress import Mode, Progress
from appliance.raft.ready import SendEntries
from appliance.raft.state import Leading, State
from appliance.types import EntryKind, Index, NodeId, Position, Term


def append(
    s: State, kind: EntryKind, payload_bytes: int, configuration: Configuration | None = None
) -> Run:
    """Gives an entry its place in the leader's term."""
    index = Index(s.log.last.index + 1)
    run = Run(index, s.term, kind, (payload_bytes,), configuration)
    s.extend(run)
    return run


def feed_all(s: State, leading: Leading) -> None:
    """Gives every member what it lacks, as far as its window allows."""
    last = s.log.last.index
    for node, progress in leading.progress.items():
        behind = progress.next <= last or progress.commit_told < s.commit
        if behind or progress.mode is not Mode.REPLICATE:
            feed(s, node, progress)


def feed(s: State, node: NodeId, progress: Progress) -> None:
    """Gives one member what it lacks, as far as its window allows."""
    base, last = s.log.base.index, s.log.last.index
    while progress.may_send:
        if progress.next <= base:
            offer(s, node, progress)
            return
        if progress.next > last:
            if progress.commit_told < s.commit or progress.mode is Mode.PROBE:
                _send(s, node, progress, Index(progress.next - 1))
            return
        end = s.log.cut(progress.next, MAX_APPEND_ENTRIES, MAX_APPEND_BYTES)
        _send(s, node, progress, end)
        progress.sent(end)


def _send(s: State, node: NodeId, progress: Progress, last: Index) -> None:
    before = Index(progress.next - 1)
    s.out.sends.append(
        SendEntries(
            to=node,
            term=s.term,
            previous=Position(s.log.term_at(before) or Term(0), before),
            first=progress.next,
            last=last,
            commit=s.commit,
        )
    )
    progress.commit_told = min(s.commit, last)
    if progress.mode is Mode.PROBE:
        progress.waiting = True


def offer(s: State, node: NodeId, progress: Progress) -> None:
    """The entries that a member needs are gone: it gets the snapshot."""
    placed = s.configurations[0]
    for later in s.configurations:
        if later.index <= s.snapshot.index:
            placed = later
    progress.offer(s.snapshot.index)
    s.out.messages.append(
        SnapshotOffer(
            sender=s.node,
            to=node,
            term=s.term,
            position=s.snapshot,
            configuration=placed.configuration,
            configured_at=placed.index,
        )
    )


def outstanding(s: State, leading: Leading, node: NodeId, progress: Progress) -> bool:
    """Whether a member still has to say that it has everything and knows what is committed."""
    return (
        leading.match.get(node, 0) < s.log.last.index
        or progress.commit_known < s.commit
        or progress.mode is not Mode.REPLICATE
    )


def lost(s: State, leading: Leading, node: NodeId, progress: Progress) -> None:
    """Nothing came back for too long: it is asked for, or sent again from the last agreement.

    A member that is fed may just be slow. It is asked by an append without entries, behind all that
    is under way to it: if it lacks what comes before, it says so, and is probed.
    """
    progress.silent_ticks = 0
    if progress.mode is Mode.SNAPSHOT:
        offer(s, node, progress)
    elif progress.mode is Mode.REPLICATE and progress.reachable:
        _send(s, node, progress, Index(progress.next - 1))
    else:
        match = leading.match.get(node)
        progress.probe(progress.next if match is None else Index(match + 1))


def unreachable(leading: Leading, node: NodeId) -> None:
    """Nothing is sent to a member until it is heard again; then it has to say what it knows."""
    progress = leading.progress[node]
    match = leading.match.get(node)
    progress.probe(progress.next if match is None else Index(match + 1))
    progress.reachable = False
    progress.commit_known = Index(0)


def meeting_point(s: State, hint: Position) -> Index:
    """Where the leader's log and one that ends in `hint` may agree at the latest (section 5.3)."""
    base = s.log.base
    if hint.index < base.index:
        return hint.index
    found = s.log.can_agree(hint)
    return found.index if found.term <= hint.term else Index(base.index - 1)


def heartbeat(s: State, leading: Leading) -> None:
    """Tells every member that this leader is there, and begins a round of reads if some wait."""
    round_ = leading.reads.begin_round()
    leading.reads.acknowledge(s.node, round_)
    for node in leading.progress:
        match = leading.match.get(node, Index(0))
        term = s.log.term_at(match)
        position = Position(Term(0), Index(0)) if term is None else Position(term, match)
        s.out.messages.append(
            Heartbeat(
                sender=s.node,
                to=node,
                term=s.term,
                match=position,
                commit=s.commit,
                round=round_,
            )
        )
    s.out.reads.extend(leading.reads.confirmed(s.configuration))
