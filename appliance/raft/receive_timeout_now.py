"""The leader's word to take over, at its target (thesis, section 3.10)."""

from appliance.raft import candidate
from appliance.raft.messages import TimeoutNow
from appliance.raft.ready import Refusal, Role
from appliance.raft.state import State
from appliance.raft.transitions import Event


def receive(s: State, m: TimeoutNow) -> Refusal | None:
    """Campaigns at once, if it is the leader that says so and this node may."""
    if m.sender != s.leader or s.role is not Role.FOLLOWER:
        return Refusal.UNEXPECTED
    if not s.may_campaign:
        return Refusal.NOT_ENTITLED
    candidate.stand(s, Event.TOLD)
    return None
