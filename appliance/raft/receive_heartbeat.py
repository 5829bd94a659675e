"""A heartbeat at its receiver (Raft paper, section 5.2).

Rules: it also says up to where the leader takes this log to be its own: a member that restarted
learns by that what is committed, and one that lost entries says so.
"""

from appliance.raft import follower
from appliance.raft.messages import Conflict, Heartbeat, HeartbeatReply
from appliance.raft.ready import Refusal
from appliance.raft.state import State


def receive(s: State, m: Heartbeat) -> Refusal | None:
    """Stays a follower; confirms the leader for the reads of its round."""
    follower.follow(s, m.term, m.sender)
    if s.saved.term == s.term:
        s.out.messages.append(
            HeartbeatReply(sender=s.node, to=m.sender, term=s.term, round=m.round)
        )
    if s.installing is not None or m.match.index < s.log.base.index:
        return None
    if s.log.holds(m.match):
        s.matched = max(s.matched, m.match.index)
        s.commit_to(min(m.commit, s.matched))
    else:
        follower.reply(s, Conflict(m.match.index, s.log.can_agree(m.match)))
    return None
