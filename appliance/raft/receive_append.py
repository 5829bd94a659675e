"""AppendEntries at its receiver (Raft paper, figure 2 and section 5.3).

Rules: entries are taken only behind one that both logs hold. What is held already is not written
again; the first entry that differs, and all behind it, are taken back, unless they are committed:
then the sender contradicts what a quorum decided, and is refused. The answer waits for the sync.
"""

from appliance.invariant import invariant
from appliance.raft import follower
from appliance.raft.messages import Append, Conflict, Run
from appliance.raft.ready import Refusal
from appliance.raft.state import State
from appliance.types import EntryKind, Index, Position


def receive(s: State, m: Append) -> Refusal | None:
    """Takes entries, or tells the leader where to look for an agreement."""
    if not _well_formed(m):
        return Refusal.MALFORMED
    follower.follow(s, m.term, m.sender)
    if s.installing is not None:
        return Refusal.UNEXPECTED
    base = s.log.base.index
    if m.last < base:
        follower.matched_up_to(s, m.last, m.commit)
        return None
    if m.previous.index >= base and not s.log.holds(m.previous):
        s.explain(f"does not hold {m.previous.term}:{m.previous.index}")
        follower.reply(s, Conflict(m.previous.index, s.log.can_agree(m.previous)))
        return None
    new = _unknown(s, m.runs)
    if new and new[0].first <= s.commit:
        return Refusal.CONTRADICTS_COMMITTED
    if new and new[0].first <= s.log.last.index:
        s.explain(f"takes back what is behind {new[0].first - 1}")
        s.truncate(Index(new[0].first - 1))
    for run in new:
        s.extend(run)
    invariant(s.log.last.index >= m.last, "what was taken is held")
    follower.matched_up_to(s, m.last, m.commit)
    return None


def _well_formed(m: Append) -> bool:
    """Contiguous runs, terms that never fall, up to the leader's; sound configurations."""
    end = m.previous
    if end.index < 0 or m.commit < 0:
        return False
    for run in m.runs:
        if run.first != end.index + 1 or not run.sizes or run.term < end.term:
            return False
        if (run.kind is EntryKind.CONFIGURATION) != (run.configuration is not None):
            return False
        if run.configuration is not None and not (
            run.configuration.sound() and len(run.sizes) == 1
        ):
            return False
        end = run.position
    return end.term <= m.term


def _unknown(s: State, runs: tuple[Run, ...]) -> list[Run]:
    """The part of the runs from the first entry on that this log does not hold."""
    if runs and runs[0].first == s.log.last.index + 1:
        return list(runs)
    base = s.log.base
    new: list[Run] = []
    for run in runs:
        if new:
            new.append(run)
            continue
        first = max(run.first, Index(base.index + 1))
        agreed = s.log.agrees_up_to(first, run.last, run.term) if first <= run.last else run.last
        if agreed < run.last:
            new.append(run if agreed < run.first else run.after(agreed))
    return new


def position_known(s: State, position: Position) -> bool:
    """Whether an entry is part of this log, or of what its snapshot holds."""
    return position.index <= s.commit or s.log.holds(position)
