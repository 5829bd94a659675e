"""Stories of the classic group protocol: joining, syncing, losing and replacing members."""

from collections.abc import Iterable
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.coordination.group_messages import (
    BeginGeneration,
    Claim,
    CommitOffsets,
    DropGroup,
    Effect,
    ForgetGroup,
    ForgetTopic,
    Join,
    Joined,
    Persist,
    StoredOffset,
    Sync,
    Synced,
    Ticket,
)
from appliance.coordination.group_states import GroupState
from appliance.coordination.group_store import GroupStore, KeptGroups
from appliance.coordination.groups import Groups
from appliance.errors import ErrorCode
from appliance.limits import MAX_GROUP_METADATA_BYTES
from appliance.types import GroupName, MemberId, Offset, PartitionIndex, TimestampMs, TopicId

GROUP = GroupName("readers")
DELAY_MS = 100
SESSION_MS = 10_000
REBALANCE_MS = 30_000


class Story:
    """A coordinator, its store, a clock, and what every ticket was told."""

    def __init__(self, store: GroupStore | None = None) -> None:
        self.store = store or GroupStore()
        self.groups = Groups(self.store, first_join_delay_ms=DELAY_MS)
        self.now_ms = 0
        self.told: dict[Ticket, Joined | Synced] = {}
        self.tickets = 0

    def _take(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self.store.apply(effect.command)
                self._take(effect.answers)
            else:
                assert effect.ticket not in self.told, "each ticket is answered once"
                self.told[effect.ticket] = effect.result

    def _ticket(self) -> Ticket:
        self.tickets += 1
        return Ticket(self.tickets)

    def join(self, member: str = "", **changes: object) -> Ticket:
        ticket = self._ticket()
        asked = {
            "group": GROUP,
            "member": MemberId(member),
            "instance": None,
            "fresh_id": MemberId(f"fresh-{ticket}"),
            "session_timeout_ms": SESSION_MS,
            "rebalance_timeout_ms": REBALANCE_MS,
            "protocol_type": "consumer",
            "protocols": (("range", b"meta"),),
        } | changes
        self.groups.join(ticket, Join(**asked), self.now_ms)  # type: ignore[arg-type] # a test's
        self._take(self.groups.drain())
        return ticket

    def sync(
        self,
        member: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        instance: str | None = None,
    ) -> Ticket:
        ticket = self._ticket()
        assigned = tuple((MemberId(k), v) for k, v in (assignments or {}).items())
        message = Sync(GROUP, MemberId(member), instance, generation, assignments=assigned)
        self.groups.sync(ticket, message, self.now_ms)
        self._take(self.groups.drain())
        return ticket

    def heartbeat(self, member: str, generation: int, instance: str | None = None) -> ErrorCode:
        return self.groups.heartbeat(
            Claim(GROUP, MemberId(member), instance, generation), self.now_ms
        )

    def leave(self, member: str, instance: str | None = None) -> ErrorCode:
        error = self.groups.leave(GROUP, MemberId(member), instance, self.now_ms)
        self._take(self.groups.drain())
        return error

    def wait(self, milliseconds: int) -> None:
        """Lets time pass as a shell does: from one deadline to the next."""
        until = self.now_ms + milliseconds
        while (due := self.groups.nearest_deadline_ms) is not None and due <= until:
            self.now_ms = max(self.now_ms, due)
            self.groups.tick(self.now_ms)
            self._take(self.groups.drain())
        self.now_ms = until

    def joined(self, ticket: Ticket) -> Joined:
        result = self.told[ticket]
        assert isinstance(result, Joined)
        return result

    def synced(self, ticket: Ticket) -> Synced:
        result = self.told[ticket]
        assert isinstance(result, Synced)
        return result

    def state(self) -> GroupState:
        return self.groups.state_of(GROUP)

    def settled(self, count: int = 2, **changes: object) -> list[str]:
        """`count` members in generation 1, synced; the leader first."""
        tickets = [self.join(**changes) for _ in range(count)]
        self.wait(DELAY_MS * (count + 1))
        members = [str(self.joined(ticket).member) for ticket in tickets]
        for member in members[1:]:
            self.sync(member, 1)
        self.sync(members[0], 1, {member: member.encode() for member in members})
        assert self.state() is GroupState.STABLE
        return members


def test_two_members_join_and_the_leader_assigns() -> None:
    story = Story()
    one, two = story.join(), story.join()
    assert not story.told
    story.wait(DELAY_MS)
    leader, follower = story.joined(one), story.joined(two)
    assert (leader.generation, follower.generation) == (1, 1)
    assert leader.leader == follower.leader == leader.member
    assert [peer.member for peer in leader.peers] == [leader.member, follower.member]
    assert follower.peers == ()
    waiting = story.sync(follower.member, 1)
    assert waiting not in story.told
    done = story.sync(leader.member, 1, {leader.member: b"0", follower.member: b"1"})
    assert story.synced(done).assignment == b"0"
    assert story.synced(waiting).assignment == b"1"
    assert story.heartbeat(follower.member, 1) is ErrorCode.NONE


def test_nobody_learns_of_a_generation_before_its_number_is_committed() -> None:
    groups = Groups(GroupStore(), first_join_delay_ms=0)
    join = Join(
        GROUP, MemberId(""), None, MemberId("m"), SESSION_MS, REBALANCE_MS, "consumer",
        (("range", b""),),
    )  # fmt: skip
    groups.join(Ticket(1), join, 0)
    groups.tick(0)
    (effect,) = groups.drain()
    assert isinstance(effect, Persist)
    assert effect.command == BeginGeneration(GROUP, 1, "consumer")
    assert [answer.ticket for answer in effect.answers] == [1]


def test_kip_394_a_member_without_an_id_is_sent_back_with_one() -> None:
    story = Story()
    first = story.joined(story.join(requires_member_id=True))
    assert first.error is ErrorCode.MEMBER_ID_REQUIRED
    again = story.join(first.member, requires_member_id=True)
    story.wait(DELAY_MS)
    assert story.joined(again).member == first.member
    assert story.joined(again).generation == 1


def test_kip_394_an_id_that_nobody_comes_back_with_is_forgotten() -> None:
    story = Story()
    first = story.joined(story.join(requires_member_id=True))
    story.wait(SESSION_MS)
    late = story.join(first.member, requires_member_id=True)
    assert story.joined(late).error is ErrorCode.UNKNOWN_MEMBER_ID
    assert story.state() is GroupState.DEAD


def test_a_new_member_calls_the_others_back() -> None:
    story = Story()
    leader, follower = story.settled()
    newcomer = story.join()
    assert story.heartbeat(leader, 1) is ErrorCode.REBALANCE_IN_PROGRESS
    back = [story.join(leader), story.join(follower)]
    generations = {story.joined(ticket).generation for ticket in [newcomer, *back]}
    assert generations == {2}
    assert story.heartbeat(leader, 1) is ErrorCode.ILLEGAL_GENERATION


def test_who_does_not_come_back_in_time_is_out() -> None:
    story = Story()
    leader, follower = story.settled()
    story.join()
    back = story.join(leader)
    story.wait(REBALANCE_MS)
    assert story.joined(back).generation == 2
    assert story.heartbeat(follower, 1) is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_silent_member_is_lost_after_its_session() -> None:
    story = Story()
    leader, follower = story.settled()
    for _ in range(4):
        story.wait(SESSION_MS // 4)
        story.heartbeat(leader, 1)
    story.wait(1)
    assert story.state() is GroupState.PREPARING_REBALANCE
    back = story.join(leader)
    assert [peer.member for peer in story.joined(back).peers] == [leader]
    assert story.heartbeat(follower, 2) is ErrorCode.UNKNOWN_MEMBER_ID


def test_heartbeats_keep_a_member_forever() -> None:
    story = Story()
    members = story.settled()
    for _ in range(50):
        story.wait(SESSION_MS // 2)
        assert {story.heartbeat(member, 1) for member in members} == {ErrorCode.NONE}


def test_a_parked_member_is_not_silent() -> None:
    story = Story()
    tickets = [story.join(), story.join()]
    story.wait(DELAY_MS * 3)
    leader, follower = (story.joined(ticket).member for ticket in tickets)
    parked = story.sync(follower, 1)
    for _ in range(4):
        story.wait(SESSION_MS // 2)
        assert story.heartbeat(leader, 1) is ErrorCode.NONE
    assert parked not in story.told
    story.sync(leader, 1, {follower: b"x"})
    assert story.synced(parked).assignment == b"x"


def test_a_leader_that_never_assigns_is_out_after_the_rebalance_timeout() -> None:
    story = Story()
    tickets = [story.join(), story.join()]
    story.wait(DELAY_MS * 3)
    leader, follower = (story.joined(ticket).member for ticket in tickets)
    parked = story.sync(follower, 1)
    for _ in range(REBALANCE_MS // SESSION_MS + 1):
        story.wait(SESSION_MS - 1)
        story.heartbeat(leader, 1)
    assert story.synced(parked).error is ErrorCode.REBALANCE_IN_PROGRESS
    assert story.heartbeat(leader, 1) is ErrorCode.UNKNOWN_MEMBER_ID


def test_the_last_to_leave_leaves_nothing_in_memory() -> None:
    story = Story()
    for member in story.settled():
        assert story.leave(member) is ErrorCode.NONE
    assert story.state() is GroupState.DEAD
    assert story.leave("anyone") is ErrorCode.UNKNOWN_MEMBER_ID
    assert not story.store.names()


def test_a_leader_that_leaves_is_followed_by_another() -> None:
    story = Story()
    leader, follower = story.settled()
    story.leave(leader)
    back = story.joined(story.join(follower))
    assert back.leader == follower
    assert back.generation == 2


def test_a_lost_reply_is_given_again_without_a_rebalance() -> None:
    story = Story()
    _, follower = story.settled()
    again = story.joined(story.join(follower))
    assert (again.error, again.generation) == (ErrorCode.NONE, 1)
    assert story.state() is GroupState.STABLE


@pytest.mark.parametrize("changes", [
    {"protocol_type": "connect"},
    {"protocols": (("unheard-of", b""),)},
    {"protocols": ()},
    {"protocol_type": ""},
])  # fmt: skip
def test_a_member_without_a_protocol_in_common_stays_out(changes: dict[str, object]) -> None:
    story = Story()
    story.settled()
    refused = story.joined(story.join(**changes))
    assert refused.error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert story.state() is GroupState.STABLE


def test_the_protocol_that_most_prefer_and_all_know_is_chosen() -> None:
    story = Story()
    offers = [("a", "b"), ("b", "a"), ("c", "b", "a")]
    tickets = [story.join(protocols=tuple((name, b"") for name in offer)) for offer in offers]
    story.wait(DELAY_MS * 4)
    assert {story.joined(ticket).protocol for ticket in tickets} == {"b"}


def test_kip_345_a_static_member_keeps_its_place_across_a_restart() -> None:
    story = Story()
    (old,) = story.settled(1, instance="node-a")
    new = story.joined(story.join(instance="node-a"))
    assert (new.error, new.generation) == (ErrorCode.NONE, 1)
    assert new.member != old
    assert new.leader != new.member, "it must not assign without having been given the members"
    assert story.state() is GroupState.STABLE
    assert story.synced(story.sync(new.member, 1, instance="node-a")).assignment == old.encode()


def test_kip_345_the_replaced_process_is_fenced() -> None:
    story = Story()
    (old,) = story.settled(1, instance="node-a")
    story.join(instance="node-a")
    assert story.heartbeat(old, 1, "node-a") is ErrorCode.FENCED_INSTANCE_ID
    assert story.leave(old, "node-a") is ErrorCode.FENCED_INSTANCE_ID
    assert story.synced(story.sync(old, 1, instance="node-a")).error is (
        ErrorCode.FENCED_INSTANCE_ID
    )


def test_kip_345_a_static_member_can_be_taken_out_by_its_instance_alone() -> None:
    story = Story()
    story.settled(1, instance="node-a")
    assert story.leave("", "node-a") is ErrorCode.NONE
    assert story.state() is GroupState.DEAD


def test_a_claim_is_judged_by_member_and_generation() -> None:
    story = Story()
    (member,) = story.settled(1)

    def commit(who: str, generation: int) -> ErrorCode:
        return story.groups.may_commit(Claim(GROUP, MemberId(who), None, generation), story.now_ms)

    assert commit(member, 1) is ErrorCode.NONE
    assert commit(member, 0) is ErrorCode.ILLEGAL_GENERATION
    assert commit("stranger", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert commit("", -1) is ErrorCode.UNKNOWN_MEMBER_ID
    story.leave(member)
    assert commit("", -1) is ErrorCode.NONE
    assert commit(member, 1) is ErrorCode.ILLEGAL_GENERATION


def test_generations_go_on_after_a_restart() -> None:
    before = Story()
    before.settled()
    after = Story(before.store)
    ticket = after.join()
    after.wait(DELAY_MS)
    assert after.joined(ticket).generation == 2


def test_a_group_with_offsets_is_not_forgotten() -> None:
    store = GroupStore()
    stored = StoredOffset(
        TopicId(UUID(int=1)), PartitionIndex(0), Offset(5), -1, "", TimestampMs(0)
    )
    store.apply(CommitOffsets(GROUP, (stored,)))
    store.apply(ForgetGroup(GROUP))
    assert list(store.offsets(GROUP).values()) == [stored]


OFFSETS = st.builds(
    StoredOffset,
    st.integers(1, 3).map(lambda number: TopicId(UUID(int=number))),
    st.integers(0, 2).map(PartitionIndex),
    st.integers(0, 1 << 62).map(Offset),
    st.integers(-1, 5),
    st.text(max_size=5),
    st.integers(0, 1 << 50).map(TimestampMs),
)
NAMES = st.sampled_from([GroupName("a"), GroupName("b"), GroupName("c")])
COMMANDS = st.one_of(
    st.builds(BeginGeneration, NAMES, st.integers(1, 9), st.just("consumer")),
    st.builds(CommitOffsets, NAMES, st.lists(OFFSETS, max_size=3).map(tuple)),
    st.builds(DropGroup, NAMES),
    st.builds(ForgetGroup, NAMES),
    st.builds(ForgetTopic, st.integers(1, 3).map(lambda number: TopicId(UUID(int=number)))),
)


@given(st.lists(COMMANDS, max_size=30), st.data())
def test_a_store_that_is_taken_up_anywhere_goes_on_to_the_same(commands, data) -> None:
    cut = data.draw(st.integers(0, len(commands)))
    whole, before, after = GroupStore(), GroupStore(), GroupStore()
    for command in commands:
        whole.apply(command)
    for command in commands[:cut]:
        before.apply(command)
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(before.kept()), type=KeptGroups)
    after.apply(BeginGeneration(GroupName("gone"), 1, "consumer"))
    after.restore(sent)
    for command in commands[cut:]:
        after.apply(command)
    assert after.kept() == whole.kept()


@pytest.mark.parametrize("session_ms", [0, 5_999, 1_800_001])
def test_session_timeouts_are_bounded(session_ms: int) -> None:
    story = Story()
    refused = story.joined(story.join(session_timeout_ms=session_ms))
    assert refused.error is ErrorCode.INVALID_SESSION_TIMEOUT


def test_what_members_bring_is_bounded_together() -> None:
    story = Story()
    half = (("range", bytes(MAX_GROUP_METADATA_BYTES // 2)),)
    story.join(protocols=half)
    refused = story.joined(story.join(protocols=half))
    assert refused.error is ErrorCode.GROUP_MAX_SIZE_REACHED


@pytest.mark.parametrize("name", ["", "g" * 256])
def test_group_names_are_bounded(name: str) -> None:
    story = Story()
    assert story.joined(story.join(group=GroupName(name))).error is ErrorCode.INVALID_GROUP_ID


def test_coming_and_going_costs_no_memory() -> None:
    story = Story()
    for _ in range(5_000):
        ticket = story.join()
        story.leave(f"fresh-{ticket}")
        story.groups.tick(story.now_ms)
    assert len(story.groups._rebalance.deadlines) < 2_100
    assert story.state() is GroupState.DEAD


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "rejoin", "sync", "beat", "leave", "wait", "abandon", "static"]),
        st.integers(0, 3),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_story_keeps_the_rules(steps: list[tuple[str, int]]) -> None:
    """Only legal steps, one answer a ticket, the leader is a member, generations only grow."""
    story = Story()
    members: list[str] = ["nobody"]
    highest = 0
    for what, number in steps:
        member = members[number % len(members)]
        group = story.groups._groups.get(GROUP)
        generation = group.generation if group else 0
        if what == "join":
            story.join()
        elif what == "static":
            story.join(instance=f"i{number}")
        elif what == "rejoin":
            story.join(member)
        elif what == "sync":
            story.sync(member, generation, {member: b"x"})
        elif what == "beat":
            story.heartbeat(member, generation)
        elif what == "leave":
            story.leave(member)
        elif what == "abandon":
            story.groups.abandon(GROUP, Ticket(story.tickets))
        else:
            story.wait([1, DELAY_MS, SESSION_MS, REBALANCE_MS][number])
        group = story.groups._groups.get(GROUP)
        if group is not None:
            members = list(map(str, group.members)) or ["nobody"]
            assert (group.leader in group.members) is bool(group.members)
            assert set(group.instances.values()) <= set(group.members)
            assert group.state is not GroupState.STABLE or group.members
            assert group.generation >= highest or group.generation == 0
            highest = group.generation
        else:
            highest = 0
    story.wait(REBALANCE_MS + 2 * 1_800_000)
    assert story.groups.nearest_deadline_ms is None
    assert story.state() is GroupState.DEAD
