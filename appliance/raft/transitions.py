"""Roles and what leads from one to another: the whole of Raft's figure 4 as a table.

Rules: a member changes its role by an event of this table and in no other way. The diagram in
docs/raft.md is made from it.
"""

from enum import Enum

from appliance.invariant import invariant
from appliance.raft.ready import Role


class Event(Enum):
    """Why a member takes another part."""

    SILENCE = "hears no leader for its election time-out"
    SUPPORTED = "a quorum would vote for it"
    TOLD = "is told to take over"
    ELECTED = "has the votes of a quorum, its own durable"
    REFUSED = "a quorum cannot be won any more"
    LED = "hears the leader of its term"
    LATER_TERM = "hears of a later term"
    QUORUM_LOST = "has heard no quorum for an election time-out"
    REMOVED = "is no voter of the committed configuration"
    RESIGNED = "cannot keep its promises"


TRANSITIONS: dict[tuple[Role, Event], Role] = {
    (Role.FOLLOWER, Event.SILENCE): Role.PRE_CANDIDATE,
    (Role.FOLLOWER, Event.TOLD): Role.CANDIDATE,
    (Role.FOLLOWER, Event.LED): Role.FOLLOWER,
    (Role.FOLLOWER, Event.LATER_TERM): Role.FOLLOWER,
    (Role.FOLLOWER, Event.RESIGNED): Role.FOLLOWER,
    (Role.PRE_CANDIDATE, Event.SILENCE): Role.PRE_CANDIDATE,
    (Role.PRE_CANDIDATE, Event.SUPPORTED): Role.CANDIDATE,
    (Role.PRE_CANDIDATE, Event.TOLD): Role.CANDIDATE,
    (Role.PRE_CANDIDATE, Event.REFUSED): Role.FOLLOWER,
    (Role.PRE_CANDIDATE, Event.LED): Role.FOLLOWER,
    (Role.PRE_CANDIDATE, Event.LATER_TERM): Role.FOLLOWER,
    (Role.PRE_CANDIDATE, Event.RESIGNED): Role.FOLLOWER,
    (Role.CANDIDATE, Event.SILENCE): Role.PRE_CANDIDATE,
    (Role.CANDIDATE, Event.ELECTED): Role.LEADER,
    (Role.CANDIDATE, Event.REFUSED): Role.FOLLOWER,
    (Role.CANDIDATE, Event.LED): Role.FOLLOWER,
    (Role.CANDIDATE, Event.LATER_TERM): Role.FOLLOWER,
    (Role.CANDIDATE, Event.RESIGNED): Role.FOLLOWER,
    (Role.LEADER, Event.LATER_TERM): Role.FOLLOWER,
    (Role.LEADER, Event.QUORUM_LOST): Role.FOLLOWER,
    (Role.LEADER, Event.REMOVED): Role.FOLLOWER,
    (Role.LEADER, Event.RESIGNED): Role.FOLLOWER,
}


def after(role: Role, event: Event) -> Role:
    """The role that an event leads to."""
    found = TRANSITIONS.get((role, event))
    invariant(found is not None, f"{event.name} can happen to a {role.name.lower()}")
    return role if found is None else found
