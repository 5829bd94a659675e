"""The coordinator of all consumer groups: requests and ticks in, effects out.

Rules: membership lives in memory and is lost with the process, as a member is whose heartbeat goes
unheard; what must survive goes through `Persist` (see `group_store`). Times are milliseconds of one
clock that never goes back. Every public method may leave effects: `drain` after each.
"""

from appliance.coordination.group import Group, Member
from appliance.coordination.group_messages import (
    Claim,
    Effect,
    ForgetGroup,
    Join,
    Joined,
    Persist,
    Sync,
    Synced,
    Ticket,
)
from appliance.coordination.group_states import GroupState
from appliance.coordination.group_store import GroupStore
from appliance.coordination.joining import Joining, identify, join_fault, name_fault
from appliance.coordination.rebalance import Rebalance
from appliance.errors import ErrorCode
from appliance.limits import MAX_GROUP_METADATA_BYTES, MAX_GROUPS
from appliance.types import GroupName, MemberId


class Groups:
    """Every group that has members or expects some."""

    def __init__(self, store: GroupStore, *, first_join_delay_ms: int) -> None:
        """`first_join_delay_ms`: how long an empty group waits for further first members."""
        self._store = store
        self._groups: dict[GroupName, Group] = {}
        self._rebalance = Rebalance(first_join_delay_ms=first_join_delay_ms)
        self._joining = Joining(self._rebalance)

    @property
    def nearest_deadline_ms(self) -> int | None:
        """When `tick` has something to look at, or None."""
        return self._rebalance.deadlines.nearest_ms

    def drain(self) -> list[Effect]:
        """The effects since the last call, in order."""
        effects = self._rebalance.effects
        self._rebalance.effects = []
        return effects

    def state_of(self, name: GroupName) -> GroupState:
        """A group's state; DEAD if nothing is known of it."""
        group = self._groups.get(name)
        if group is not None:
            return group.state
        return GroupState.EMPTY if name in self._store else GroupState.DEAD

    def names(self) -> tuple[GroupName, ...]:
        """Every group of which anything is known, sorted."""
        return tuple(sorted({*self._store.names(), *self._groups}))

    def look_at(self, name: GroupName) -> tuple[GroupState, str, Group | None]:
        """A group's state, its protocol type, and the group itself if it has members."""
        group = self._groups.get(name)
        protocol_type = group.protocol_type if group is not None else ""
        return self.state_of(name), protocol_type or self._store.protocol_type(name), group

    def join(self, ticket: Ticket, join: Join, now_ms: int) -> None:
        """Takes a member in, or answers why not; the ticket is answered when all have joined."""
        error = join_fault(join)
        group = self._groups.get(join.group)
        if error is ErrorCode.NONE and group is None:
            error, group = self._open(join)
        if error is not ErrorCode.NONE or group is None:
            self._rebalance.answer(ticket, Joined(error=error, member=join.member))
            return
        self._joining.join(group, ticket, join, now_ms)
        self._settle(group)

    def _open(self, join: Join) -> tuple[ErrorCode, Group | None]:
        if join.member != "":
            return ErrorCode.UNKNOWN_MEMBER_ID, None
        if len(self._groups) >= MAX_GROUPS or not self._store.has_room(join.group):
            return ErrorCode.POLICY_VIOLATION, None
        group = Group(join.group, self._store.generation(join.group))
        self._groups[join.group] = group
        return ErrorCode.NONE, group

    def sync(self, ticket: Ticket, sync: Sync, now_ms: int) -> None:
        """Takes the leader's assignments, or parks a member until they are there."""
        found = self._claimed(Claim(sync.group, sync.member, sync.instance, sync.generation))
        if isinstance(found, ErrorCode):
            self._rebalance.answer(ticket, Synced(error=found))
            return
        group, member = found
        error = _sync_fault(group, sync)
        if error is not ErrorCode.NONE:
            self._rebalance.answer(ticket, Synced(error=error))
            return
        member.deadline_ms = now_ms + member.session_timeout_ms
        self._rebalance.release_sync(member, ErrorCode.REBALANCE_IN_PROGRESS)
        member.syncing = ticket
        if group.state is GroupState.COMPLETING_REBALANCE and group.leader == member.member:
            assigned = dict(sync.assignments)
            for each in group.members.values():
                each.assignment = assigned.get(each.member, b"")
            group.phase_deadline_ms = None
            group.move(GroupState.STABLE)
        if group.state is GroupState.STABLE:
            self._assign(group, now_ms)

    def _assign(self, group: Group, now_ms: int) -> None:
        for member in group.members.values():
            if member.syncing is not None:
                self._rebalance.answer(
                    member.syncing,
                    Synced(ErrorCode.NONE, member.assignment, group.protocol_type, group.protocol),
                )
                member.syncing = None
                member.deadline_ms = now_ms + member.session_timeout_ms

    def heartbeat(self, claim: Claim, now_ms: int) -> ErrorCode:
        """Notes that a member lives; REBALANCE_IN_PROGRESS calls it to join again."""
        found = self._claimed(claim)
        if isinstance(found, ErrorCode):
            return found
        group, member = found
        member.deadline_ms = now_ms + member.session_timeout_ms
        if group.state is GroupState.PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def leave(
        self, name: GroupName, member_id: MemberId, instance: str | None, now_ms: int
    ) -> ErrorCode:
        """Takes a member out; a static one may be named by its instance alone (KIP-345)."""
        group = self._groups.get(name)
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if group.expected.pop(member_id, None) is not None:
            self._rebalance.maybe_complete(group, now_ms)
            self._settle(group)
            return ErrorCode.NONE
        if instance is not None and member_id == "":
            member_id = group.instances.get(instance, member_id)
        member = identify(group, member_id, instance)
        if isinstance(member, ErrorCode):
            return member
        self._rebalance.lose(group, member, now_ms)
        self._settle(group)
        return ErrorCode.NONE

    def may_commit(self, claim: Claim, now_ms: int) -> ErrorCode:
        """Whether these may be the group's offsets: from a member, or from outside any generation.

        A commit is a sign of life.
        """
        error = name_fault(claim.group)
        if error is not ErrorCode.NONE:
            return error
        group = self._groups.get(claim.group)
        if group is None or group.state is GroupState.EMPTY:
            if claim.generation >= 0:
                return ErrorCode.ILLEGAL_GENERATION
            room = self._store.has_room(claim.group)
            return ErrorCode.NONE if room else ErrorCode.POLICY_VIOLATION
        found = self._claimed(claim)
        if isinstance(found, ErrorCode):
            return found
        found[1].deadline_ms = now_ms + found[1].session_timeout_ms
        if group.state is GroupState.COMPLETING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def abandon(self, name: GroupName, ticket: Ticket) -> None:
        """Gives a parked request up; its member has its session's time to come back."""
        group = self._groups.get(name)
        for member in group.members.values() if group is not None else ():
            if member.joining == ticket:
                member.joining = None
            if member.syncing == ticket:
                member.syncing = None

    def tick(self, now_ms: int) -> None:
        """Acts on what has fallen due."""
        deadlines = self._rebalance.deadlines
        for name, member_id in deadlines.due(now_ms):
            group = self._groups.get(name)
            if group is None:
                continue
            if member_id is None:
                self._rebalance.phase_over(group, now_ms)
            else:
                self._look_at(group, member_id, now_ms)
            self._settle(group)
        if deadlines.is_wasteful:
            deadlines.rebuild(entry for group in self._groups.values() for entry in _alive(group))

    def _look_at(self, group: Group, member_id: MemberId, now_ms: int) -> None:
        member = group.members.get(member_id)
        if member is None:
            if group.expected.get(member_id, now_ms + 1) <= now_ms:
                del group.expected[member_id]
                self._rebalance.maybe_complete(group, now_ms)
            return
        if member.is_parked:
            member.deadline_ms = now_ms + member.session_timeout_ms
        if member.deadline_ms > now_ms:
            self._rebalance.deadlines.add(member.deadline_ms, (group.name, member_id))
        else:
            self._rebalance.lose(group, member, now_ms)

    def _claimed(self, claim: Claim) -> tuple[Group, Member] | ErrorCode:
        group = self._groups.get(claim.group)
        if group is None:
            return name_fault(claim.group) or ErrorCode.UNKNOWN_MEMBER_ID
        member = identify(group, claim.member, claim.instance)
        if isinstance(member, ErrorCode):
            return member
        if claim.generation != group.generation:
            return ErrorCode.ILLEGAL_GENERATION
        return group, member

    def _settle(self, group: Group) -> None:
        """Lets go of a group that nobody is in or expected in."""
        if group.state is GroupState.EMPTY and not group.expected:
            group.move(GroupState.DEAD)
            del self._groups[group.name]
            if group.name in self._store and not self._store.offsets(group.name):
                self._rebalance.effects.append(Persist(ForgetGroup(group.name)))


def _sync_fault(group: Group, sync: Sync) -> ErrorCode:
    if sync.protocol_type is not None and sync.protocol_type != group.protocol_type:
        return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    if sync.protocol is not None and sync.protocol != group.protocol:
        return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    if sum(len(assignment) for _, assignment in sync.assignments) > MAX_GROUP_METADATA_BYTES:
        return ErrorCode.INVALID_REQUEST
    if group.state is GroupState.PREPARING_REBALANCE:
        return ErrorCode.REBALANCE_IN_PROGRESS
    return ErrorCode.NONE


def _alive(group: Group) -> list[tuple[int, tuple[GroupName, MemberId | None]]]:
    """What there is to look at in a group, and when."""
    alive: list[tuple[int, tuple[GroupName, MemberId | None]]] = [
        (member.deadline_ms, (group.name, member.member)) for member in group.members.values()
    ]
    alive += [(until_ms, (group.name, member)) for member, until_ms in group.expected.items()]
    if group.phase_deadline_ms is not None:
        alive.append((group.phase_deadline_ms, (group.name, None)))
    return alive
