"""The answer to a snapshot, at the leader (Raft paper, section 7)."""

from appliance.raft import leader
from appliance.raft.messages import SnapshotReply
from appliance.raft.progress import Mode
from appliance.raft.ready import Refusal
from appliance.raft.receive_append_reply import matched
from appliance.raft.state import State


def receive(s: State, m: SnapshotReply) -> Refusal | None:
    """Goes on with entries behind the snapshot; one that was not taken is offered again later."""
    leading = s.leading
    progress = None if leading is None else leading.progress.get(m.sender)
    if leading is None or progress is None:
        return Refusal.UNEXPECTED
    if m.match > s.log.last.index or m.match < 0:
        return Refusal.MALFORMED
    leader.heard(s, leading, m.sender)
    if not m.taken or progress.mode is not Mode.SNAPSHOT:
        return None
    progress.incarnation = max(progress.incarnation, m.incarnation)
    matched(s, leading, m.sender, m.match)
    return None
