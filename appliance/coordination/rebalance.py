"""How a group gets from one generation to the next.

Rules: a rebalance ends when everyone expected has joined, or when its time is up; who has not
joined by then is out, static members excepted (KIP-345). Nobody learns of a generation before its
number is committed, so that no number is ever used twice, not even across a crash.
"""

from appliance.coordination.deadlines import Deadlines
from appliance.coordination.group import Group, Member
from appliance.coordination.group_messages import (
    Answer,
    BeginGeneration,
    Effect,
    Joined,
    Persist,
    Synced,
    Ticket,
)
from appliance.coordination.group_states import GroupState
from appliance.errors import ErrorCode
from appliance.types import GroupName, MemberId

Due = tuple[GroupName, MemberId | None]
"""A member whose session may be over; or, with None, a group whose phase may be."""


class Rebalance:
    """The steps between generations, and the effects and deadlines that they leave."""

    def __init__(self, *, first_join_delay_ms: int) -> None:
        """`first_join_delay_ms`: how long an empty group waits for further first members."""
        self._first_join_delay_ms = first_join_delay_ms
        self.effects: list[Effect] = []
        self.deadlines: Deadlines[Due] = Deadlines()

    def answer(self, ticket: Ticket, result: Joined | Synced) -> None:
        """Tells one parked request what became of it."""
        self.effects.append(Answer(ticket, result))

    def prepare(self, group: Group, now_ms: int) -> None:
        """Calls everyone to join again."""
        for member in group.members.values():
            self.release_sync(member, ErrorCode.REBALANCE_IN_PROGRESS)
            member.assignment = b""
        if group.state is GroupState.EMPTY:
            group.first_join_until_ms = now_ms + group.rebalance_timeout_ms()
            self._begin_phase(group, now_ms + self._first_join_delay_ms)
        else:
            self._begin_phase(group, now_ms + group.rebalance_timeout_ms())
        group.move(GroupState.PREPARING_REBALANCE)

    def another_first_member(self, group: Group, now_ms: int) -> None:
        """Waits a little longer for first members, as long as the slowest may take at most."""
        if group.first_join_until_ms is not None:
            until_ms = min(now_ms + self._first_join_delay_ms, group.first_join_until_ms)
            self._begin_phase(group, until_ms)

    def maybe_complete(self, group: Group, now_ms: int) -> None:
        """Ends joining if nobody is awaited any more."""
        if group.state is not GroupState.PREPARING_REBALANCE or not group.all_joined():
            return
        if group.first_join_until_ms is None or not group.members:
            self.complete(group, now_ms)

    def complete(self, group: Group, now_ms: int) -> None:
        """Ends joining: who has joined is the next generation."""
        group.first_join_until_ms = None
        for member in list(group.members.values()):
            if member.joining is None and member.instance is None:
                group.remove(member)
        if not group.members:
            group.phase_deadline_ms = None
            group.protocol_type = group.protocol = ""
            group.move(GroupState.EMPTY)
        elif all(member.joining is None for member in group.members.values()):
            self._begin_phase(group, now_ms + group.rebalance_timeout_ms())
        else:
            self._begin_generation(group, now_ms)

    def _begin_generation(self, group: Group, now_ms: int) -> None:
        joined = [member for member in group.members.values() if member.joining is not None]
        if group.leader not in {member.member for member in joined}:
            group.leader = joined[0].member
        group.generation += 1
        group.protocol = group.chosen_protocol()
        group.move(GroupState.COMPLETING_REBALANCE)
        self._begin_phase(group, now_ms + group.rebalance_timeout_ms())
        answers = []
        for member in joined:
            if member.joining is not None:
                answers.append(Answer(member.joining, self.standing(group, member)))
            member.joining = None
            member.deadline_ms = now_ms + member.session_timeout_ms
        command = BeginGeneration(group.name, group.generation, group.protocol_type)
        self.effects.append(Persist(command, tuple(answers)))

    def standing(self, group: Group, member: Member) -> Joined:
        """What a member is told of the generation it is in."""
        is_leader = group.leader == member.member
        return Joined(
            member=member.member,
            generation=group.generation,
            protocol_type=group.protocol_type,
            protocol=group.protocol,
            leader=group.leader or MemberId(""),
            peers=group.peers() if is_leader else (),
        )

    def lose(self, group: Group, member: Member, now_ms: int) -> None:
        """Takes a member out, and has the others rebalance."""
        if member.joining is not None:
            self.answer(member.joining, Joined(error=ErrorCode.UNKNOWN_MEMBER_ID))
            member.joining = None
        self.release_sync(member, ErrorCode.UNKNOWN_MEMBER_ID)
        group.remove(member)
        self.disturb(group, now_ms)

    def disturb(self, group: Group, now_ms: int) -> None:
        """Rebalances because the group's members are not who they were."""
        if group.state in {GroupState.STABLE, GroupState.COMPLETING_REBALANCE}:
            self.prepare(group, now_ms)
        self.maybe_complete(group, now_ms)

    def phase_over(self, group: Group, now_ms: int) -> None:
        """Acts on those who have let the time to join, or to sync, pass."""
        if group.phase_deadline_ms is None or now_ms < group.phase_deadline_ms:
            return
        if group.state is GroupState.PREPARING_REBALANCE:
            self.complete(group, now_ms)
        elif group.state is GroupState.COMPLETING_REBALANCE:
            for member in list(group.members.values()):
                if member.syncing is None:
                    group.remove(member)
            self.disturb(group, now_ms)

    def release_sync(self, member: Member, error: ErrorCode) -> None:
        """Sends a member that waits for its assignment away."""
        if member.syncing is not None:
            self.answer(member.syncing, Synced(error=error))
            member.syncing = None

    def _begin_phase(self, group: Group, until_ms: int) -> None:
        group.phase_deadline_ms = until_ms
        self.deadlines.add(until_ms, (group.name, None))
