"""The answer to a heartbeat, at the leader (thesis, section 6.4)."""

from appliance.raft import leader
from appliance.raft.messages import HeartbeatReply
from appliance.raft.ready import Refusal
from appliance.raft.state import State


def receive(s: State, m: HeartbeatReply) -> Refusal | None:
    """The sender still follows: reads of its round may be served once a quorum says so."""
    leading = s.leading
    if leading is None or m.sender not in leading.progress:
        return Refusal.UNEXPECTED
    leader.heard(s, leading, m.sender)
    leading.reads.acknowledge(m.sender, m.round)
    s.out.reads.extend(leading.reads.confirmed(s.configuration))
    return None
