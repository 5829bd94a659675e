"""Who may join a group, as whom, and whether that calls for a rebalance.

Sources: Kafka's classic protocol; KIP-394 (a member gets its id before it counts), KIP-345 (static
members keep their place under their instance's name).
"""

from appliance.coordination.group import Group, Member
from appliance.coordination.group_messages import Join, Joined, Ticket
from appliance.coordination.group_states import GroupState
from appliance.coordination.rebalance import Rebalance
from appliance.errors import ErrorCode
from appliance.limits import (
    MAX_GROUP_INSTANCE_ID_CHARACTERS,
    MAX_GROUP_MEMBERS,
    MAX_GROUP_METADATA_BYTES,
    MAX_GROUP_NAME_CHARACTERS,
    MAX_GROUP_PROTOCOLS,
    MAX_SESSION_TIMEOUT_MS,
    MIN_SESSION_TIMEOUT_MS,
)
from appliance.types import GroupName, MemberId


def name_fault(group: GroupName) -> ErrorCode:
    """INVALID_GROUP_ID for a name that no group may have, else NONE."""
    if 0 < len(group) <= MAX_GROUP_NAME_CHARACTERS:
        return ErrorCode.NONE
    return ErrorCode.INVALID_GROUP_ID


def join_fault(join: Join) -> ErrorCode:
    """What is wrong with the request itself, whatever the group; else NONE."""
    if not MIN_SESSION_TIMEOUT_MS <= join.session_timeout_ms <= MAX_SESSION_TIMEOUT_MS:
        return ErrorCode.INVALID_SESSION_TIMEOUT
    if not 0 < join.rebalance_timeout_ms <= MAX_SESSION_TIMEOUT_MS:
        return ErrorCode.INVALID_SESSION_TIMEOUT
    instance = join.instance
    if instance is not None and not 0 < len(instance) <= MAX_GROUP_INSTANCE_ID_CHARACTERS:
        return ErrorCode.INVALID_REQUEST
    if not join.protocol_type or not 0 < len(join.protocols) <= MAX_GROUP_PROTOCOLS:
        return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    return name_fault(join.group)


def identify(group: Group, member: MemberId, instance: str | None) -> Member | ErrorCode:
    """The member that speaks; FENCED_INSTANCE_ID if another took its instance's place."""
    if instance is not None:
        holder = group.instances.get(instance)
        if holder is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if holder != member:
            return ErrorCode.FENCED_INSTANCE_ID
    return group.members.get(member, ErrorCode.UNKNOWN_MEMBER_ID)


class Joining:
    """Takes a Join that is sound in itself to its group."""

    def __init__(self, rebalance: Rebalance) -> None:
        self._rebalance = rebalance

    def join(self, group: Group, ticket: Ticket, join: Join, now_ms: int) -> None:
        """Parks the ticket, or answers it."""
        error = self._admit(group, ticket, join, now_ms)
        if error is not ErrorCode.NONE:
            self._refuse(ticket, join, error)

    def _admit(self, group: Group, ticket: Ticket, join: Join, now_ms: int) -> ErrorCode:
        if join.member == "" and join.instance in group.instances:
            return self._replace(group, ticket, join, now_ms)
        if join.member == "":
            return self._first_time(group, ticket, join, now_ms)
        if join.member in group.expected:
            if join.instance is not None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            error = self._fits(group, join, of=None)
            if error is ErrorCode.NONE:
                del group.expected[join.member]
                self._enter(group, ticket, join, now_ms)
            return error
        member = identify(group, join.member, join.instance)
        if isinstance(member, ErrorCode):
            return member
        return self._again(group, member, ticket, join, now_ms)

    def _first_time(self, group: Group, ticket: Ticket, join: Join, now_ms: int) -> ErrorCode:
        if len(group.members) + len(group.expected) >= MAX_GROUP_MEMBERS:
            return ErrorCode.GROUP_MAX_SIZE_REACHED
        error = self._fits(group, join, of=None)
        if error is not ErrorCode.NONE:
            return error
        if join.requires_member_id and join.instance is None:
            until_ms = now_ms + join.session_timeout_ms
            group.expected[join.fresh_id] = until_ms
            self._rebalance.deadlines.add(until_ms, (group.name, join.fresh_id))
            return ErrorCode.MEMBER_ID_REQUIRED
        self._enter(group, ticket, join, now_ms)
        return ErrorCode.NONE

    def _fits(self, group: Group, join: Join, *, of: Member | None) -> ErrorCode:
        known_as = of.member if of is not None else None
        if not group.supports(join.protocol_type, join.protocols, of=known_as):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        brought = sum(len(name) + len(metadata) for name, metadata in join.protocols)
        if group.metadata_bytes(without=known_as) + brought > MAX_GROUP_METADATA_BYTES:
            return ErrorCode.GROUP_MAX_SIZE_REACHED
        return ErrorCode.NONE

    def _enter(self, group: Group, ticket: Ticket, join: Join, now_ms: int) -> None:
        member = Member(
            member=join.member or join.fresh_id,
            instance=join.instance,
            session_timeout_ms=join.session_timeout_ms,
            rebalance_timeout_ms=join.rebalance_timeout_ms,
            protocols=join.protocols,
            deadline_ms=now_ms + join.session_timeout_ms,
            joining=ticket,
            client_id=join.client_id,
            client_host=join.client_host,
        )
        group.add(member, join.protocol_type)
        if join.member == "":  # else its id is looked at already, as an expected one
            self._rebalance.deadlines.add(member.deadline_ms, (group.name, member.member))
        if group.state is GroupState.PREPARING_REBALANCE:
            self._rebalance.another_first_member(group, now_ms)
        else:
            self._rebalance.prepare(group, now_ms)
        self._rebalance.maybe_complete(group, now_ms)

    def _again(
        self, group: Group, member: Member, ticket: Ticket, join: Join, now_ms: int
    ) -> ErrorCode:
        """A known member joins: it answers a call, lost a reply, or has something new to say."""
        error = self._fits(group, join, of=member)
        if error is not ErrorCode.NONE:
            return error
        changed = self._update(group, member, join, now_ms)
        settled = group.state in {GroupState.STABLE, GroupState.COMPLETING_REBALANCE}
        is_leader_again = group.state is GroupState.STABLE and group.leader == member.member
        if settled and not changed and not is_leader_again:
            self._rebalance.answer(ticket, self._rebalance.standing(group, member))
            return ErrorCode.NONE
        self._park(member, ticket)
        self._rebalance.disturb(group, now_ms)
        return ErrorCode.NONE

    def _replace(self, group: Group, ticket: Ticket, join: Join, now_ms: int) -> ErrorCode:
        """A static member's process started again: same place, new id, the old id is fenced."""
        old = group.members[group.instances[join.instance or ""]]
        error = self._fits(group, join, of=old)
        if error is not ErrorCode.NONE:
            return error
        was_leader = group.leader == old.member
        self._fence(old)
        new = self._take_place(group, old, join, now_ms)
        if was_leader:
            group.leader = new.member
        changed = self._update(group, new, join, now_ms)
        if group.state is GroupState.STABLE and not changed:
            # The place keeps its assignment. A leader is told its old id as the leader's, so that
            # it does not assign anew without having been given the members (KIP-345).
            standing = self._rebalance.standing(group, new)
            leader = old.member if was_leader else standing.leader
            self._rebalance.answer(
                ticket,
                Joined(
                    member=new.member,
                    generation=standing.generation,
                    protocol_type=standing.protocol_type,
                    protocol=standing.protocol,
                    leader=leader,
                ),
            )
            return ErrorCode.NONE
        new.joining = ticket
        self._rebalance.disturb(group, now_ms)
        return ErrorCode.NONE

    def _fence(self, old: Member) -> None:
        if old.joining is not None:
            self._rebalance.answer(old.joining, Joined(error=ErrorCode.FENCED_INSTANCE_ID))
            old.joining = None
        self._rebalance.release_sync(old, ErrorCode.FENCED_INSTANCE_ID)

    def _take_place(self, group: Group, old: Member, join: Join, now_ms: int) -> Member:
        new = Member(
            member=join.fresh_id,
            instance=old.instance,
            session_timeout_ms=join.session_timeout_ms,
            rebalance_timeout_ms=join.rebalance_timeout_ms,
            protocols=old.protocols,
            deadline_ms=now_ms + join.session_timeout_ms,
            assignment=old.assignment,
            client_id=join.client_id,
            client_host=join.client_host,
        )
        group.members = {
            (new.member if key == old.member else key): (new if key == old.member else member)
            for key, member in group.members.items()
        }
        if new.instance is not None:
            group.instances[new.instance] = new.member
        self._rebalance.deadlines.add(new.deadline_ms, (group.name, new.member))
        return new

    def _update(self, group: Group, member: Member, join: Join, now_ms: int) -> bool:
        """Takes over what the member says now; True if that concerns its assignment."""
        changed = member.protocols != join.protocols
        member.protocols = join.protocols
        member.rebalance_timeout_ms = join.rebalance_timeout_ms
        if join.session_timeout_ms < member.session_timeout_ms:
            due_ms = now_ms + join.session_timeout_ms
            self._rebalance.deadlines.add(due_ms, (group.name, member.member))
        member.session_timeout_ms = join.session_timeout_ms
        member.deadline_ms = now_ms + join.session_timeout_ms
        return changed

    def _park(self, member: Member, ticket: Ticket) -> None:
        if member.joining is not None:
            # The member asks again over another connection: the older request is let go.
            self._rebalance.answer(member.joining, Joined(error=ErrorCode.REBALANCE_IN_PROGRESS))
        member.joining = ticket

    def _refuse(self, ticket: Ticket, join: Join, error: ErrorCode) -> None:
        told = join.fresh_id if error is ErrorCode.MEMBER_ID_REQUIRED else join.member
        self._rebalance.answer(ticket, Joined(error=error, member=told))
