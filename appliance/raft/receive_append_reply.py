"""The answer to an append, at the leader (Raft paper, section 5.3).

Rules: a match index only grows, but for one case: a new incarnation of a member that does not hold
what it had acknowledged. Somebody restored an old disk, or lost one; that is told (DESIGN section
8), and from then on it counts for what it holds. Late answers count for nothing.
"""

from appliance.raft import leader, replication, transfer
from appliance.raft.messages import AppendReply, Conflict
from appliance.raft.progress import Mode, Progress
from appliance.raft.ready import Refusal, Shrunk
from appliance.raft.state import Leading, State
from appliance.types import Index, NodeId


def receive(s: State, m: AppendReply) -> Refusal | None:
    """Learns what a member holds, and sends what it lacks."""
    leading = s.leading
    progress = None if leading is None else leading.progress.get(m.sender)
    if leading is None or progress is None:
        return Refusal.UNEXPECTED
    if m.match > s.log.last.index or m.match < 0:
        return Refusal.MALFORMED
    if m.incarnation < progress.incarnation:
        return Refusal.STALE_INCARNATION
    if m.incarnation > progress.incarnation:
        progress.incarnation = m.incarnation
        progress.commit_known = Index(0)
    leader.heard(s, leading, m.sender)
    progress.commit_known = max(progress.commit_known, m.commit)
    if m.conflict is not None:
        return _rejected(s, leading, progress, m, m.conflict)
    matched(s, leading, m.sender, m.match)
    return None


def matched(s: State, leading: Leading, node: NodeId, match: Index) -> None:
    """A member holds the log durably up to an index."""
    progress = leading.progress[node]
    if match > leading.match.get(node, -1):
        leading.match[node] = match
        progress.match_incarnation = progress.incarnation
    progress.agreed(leading.match[node])
    leader.maybe_commit(s, leading)
    if s.leading is leading and leading.transfer == node:
        transfer.proceed(s, leading)


def _rejected(
    s: State, leading: Leading, progress: Progress, m: AppendReply, conflict: Conflict
) -> Refusal | None:
    known = leading.match.get(m.sender, Index(-1))
    agreed = replication.meeting_point(s, conflict.hint)
    if agreed >= conflict.rejected or conflict.hint.index < 0:
        return Refusal.MALFORMED
    if conflict.rejected <= known:
        if m.incarnation <= progress.match_incarnation:
            return Refusal.STALE
        s.out.shrunk.append(Shrunk(m.sender, known, conflict.hint.index))
        s.explain(f"{m.sender} acknowledged {known} and holds {conflict.hint.index}")
        leading.match[m.sender] = agreed
        progress.match_incarnation = progress.incarnation
        progress.probe(Index(agreed + 1))
        return None
    if progress.mode is Mode.SNAPSHOT:
        return Refusal.STALE
    if progress.mode is Mode.PROBE and conflict.rejected != progress.next - 1:
        return Refusal.STALE
    progress.silent_ticks = 0
    progress.probe(Index(max(agreed, known, 0) + 1))
    return None
