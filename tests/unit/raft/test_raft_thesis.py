"""The core against the thesis, chapters 3, 4, 6 and 9, and against what DESIGN adds to it."""

import pytest
from raft_story import ONE, THREE, TWO, Story, appends_to, led, nodes, place, run, with_logs

from appliance.limits import RAFT_ELECTION_TICKS, RAFT_ELECTION_TICKS_MAX, RAFT_RETRY_TICKS
from appliance.ports import HardState
from appliance.raft.configuration import Configuration
from appliance.raft.core import Core
from appliance.raft.messages import (
    Append,
    AppendReply,
    Conflict,
    Heartbeat,
    HeartbeatReply,
    Message,
    Run,
    SnapshotOffer,
    TimeoutNow,
    Vote,
    VoteReply,
)
from appliance.raft.ready import (
    ChangePending,
    HandingOver,
    Impossible,
    NotLeader,
    Refusal,
    Role,
)
from appliance.types import EntryKind, Index, NodeId, Position, Term

# --- several syncs under way (DESIGN section 7) ---------------------------------------------------


def test_a_sync_of_overwritten_entries_counts_for_nothing() -> None:
    story = with_logs(n1=[1], n2=[1], n3=[1])
    story.members[2].synced = False
    old = Append(
        sender=ONE, to=TWO, term=Term(2), previous=place(1, 1), commit=Index(0), runs=(run(2, 2),)
    )
    story.deliver(old)
    new = Append(
        sender=THREE, to=TWO, term=Term(3), previous=place(1, 1), commit=Index(0), runs=(run(2, 3),)
    )
    story.deliver(new)
    story[2].advance(saved=HardState(Term(3), None), persisted=place(2, 2))
    assert {m.match for m in story[2].ready().messages if isinstance(m, AppendReply)} <= {1}
    story[2].advance(persisted=place(3, 2))
    (answer,) = story[2].ready().messages
    assert isinstance(answer, AppendReply)
    assert answer.match == 2


def test_nothing_is_acknowledged_before_the_term_is_durable() -> None:
    """Else a crash could bring the old term back, and its leader could cut the entries off."""
    story = with_logs(n1=[1], n2=[1])
    story.members[2].synced = False
    story.deliver(Append(sender=ONE, to=TWO, term=Term(2), previous=place(1, 1), commit=Index(0)))
    assert story.wire == []
    story[2].advance(saved=HardState(Term(2), None))
    assert [type(m) for m in story[2].ready().messages] == [AppendReply]


# --- thesis, chapter 3: transfer; chapter 4: members; chapter 6: clients --------------------------


def test_3_10_leadership_is_handed_over_without_a_time_out() -> None:
    story = led()
    story.do(1, lambda core: core.transfer_leadership(TWO))
    with pytest.raises(HandingOver):
        story[1].propose(EntryKind.COMMAND, 1)
    story.run()
    assert (story[2].role, story[1].leader) == (Role.LEADER, TWO)


def test_3_10_a_target_that_does_not_answer_is_given_up() -> None:
    story = led()
    story.crash(2)
    story.do(1, lambda core: core.transfer_leadership(TWO))
    for _ in range(RAFT_ELECTION_TICKS):
        story.do(1, Core.tick)
        story.run()
    assert story[1].propose(EntryKind.COMMAND, 1) == place(1, 2)


def test_3_10_a_target_that_is_gone_is_given_up_at_once() -> None:
    story = led()
    story.crash(2)
    story.do(1, lambda core: core.transfer_leadership(TWO))
    story.do(1, lambda core: core.report_unreachable(THREE))
    with pytest.raises(HandingOver):
        story[1].propose(EntryKind.COMMAND, 1)
    story.do(1, lambda core: core.report_unreachable(TWO))
    assert story[1].propose(EntryKind.COMMAND, 1) == place(1, 2)


def test_3_10_only_another_voter_can_take_over_and_only_the_leader_says_so() -> None:
    story = led()
    for nobody in (ONE, NodeId(9)):
        with pytest.raises(Impossible):
            story[1].transfer_leadership(nobody)
    with pytest.raises(NotLeader):
        story[2].transfer_leadership(THREE)
    forged = TimeoutNow(sender=THREE, to=TWO, term=Term(1))
    assert story[2].step(forged) is Refusal.UNEXPECTED


def test_4_1_one_change_at_a_time() -> None:
    story = led(1, 2, 3, 4)
    story.do(1, lambda core: core.propose_configuration(nodes(1, 2, 3)))
    with pytest.raises(ChangePending):
        story[1].propose_configuration(nodes(1, 2))
    story.run()
    assert story[1].configuration == Configuration(nodes(1, 2, 3))


def test_4_1_no_change_before_the_term_has_committed_something() -> None:
    story = Story(1, 2, 3)
    story.do(1, Core.campaign)
    story.run(lambda m: not isinstance(m, Append))
    with pytest.raises(ChangePending):
        story[1].propose_configuration(nodes(1, 2))


def test_4_1_a_configuration_is_in_force_when_appended_and_undone_by_truncation() -> None:
    story = led(1, 2, 3)
    story.do(1, lambda core: core.propose_configuration(nodes(1, 2)))
    story.run(appends_to(2))
    story.lose()
    assert story[2].configuration.joint
    story.deliver(
        Append(
            sender=THREE,
            to=TWO,
            term=Term(5),
            previous=place(1, 1),
            commit=Index(1),
            runs=(run(2, 5),),
        )
    )
    assert story[2].configuration == story.first


def test_4_2_2_a_leader_that_was_removed_hands_over_and_steps_down() -> None:
    story = led(1, 2, 3)
    story.do(1, lambda core: core.propose_configuration(nodes(2, 3)))
    story.run()
    assert story[1].role is Role.FOLLOWER
    assert Role.LEADER in {story[2].role, story[3].role}


def test_4_2_2_who_leaves_by_an_uncommitted_entry_leads_where_nobody_else_can() -> None:
    """1 holds its own removal; 2 has not got it, and 3 has lost it and may not campaign."""
    story = with_logs(n1=[1], n2=[1], n3=[1])
    smaller = Configuration(nodes(2, 3))
    joint = Configuration(nodes(2, 3), nodes(1, 2, 3))
    leaving = story.members[1].disk
    leaving.runs += [
        Run(Index(2), Term(1), EntryKind.CONFIGURATION, (0,), joint),
        Run(Index(3), Term(1), EntryKind.CONFIGURATION, (0,), smaller),
    ]
    story.members[3].disk.known_last = place(1, 3)
    for node in (1, 2, 3):
        story.members[node].start()
    story.silence(1, 3)
    story.cut.add((2, 1))
    story.do(2, Core.campaign)
    story.run()
    assert story[2].role is not Role.LEADER
    story.heal()
    story.silence(2, 3)
    story.do(1, Core.campaign)
    story.run()
    assert story[1].role is Role.FOLLOWER
    assert Role.LEADER in {story[2].role, story[3].role}
    assert story[2].configuration == smaller


def test_4_3_while_joint_each_set_has_its_say() -> None:
    joint = Configuration(nodes(1, 2, 3), nodes(3, 4, 5))
    assert not joint.carried(nodes(1, 2))
    assert not joint.carried(nodes(3, 4, 5))
    assert joint.carried(nodes(1, 3, 4))
    match = {NodeId(n): Index(n) for n in range(1, 6)}
    assert joint.held(match) == 2


def test_6_2_a_leader_that_hears_no_quorum_steps_down() -> None:
    story = led()
    story.isolate(1)
    for _ in range(2 * RAFT_ELECTION_TICKS):
        story.do(1, Core.tick)
        story.run()
    assert story[1].role is Role.FOLLOWER


def test_6_4_a_read_waits_for_a_quorum_to_confirm_the_leader() -> None:
    story = led()
    story.do(1, lambda core: core.read_index(7))
    assert story.members[1].reads == []
    story.run(lambda m: isinstance(m, Heartbeat))
    assert story.members[1].reads == []
    story.run()
    assert story.members[1].reads == [(7, 1)]


def test_6_4_a_new_leader_answers_no_read_before_its_term_has_committed() -> None:
    story = Story(1, 2, 3)
    story.do(1, Core.campaign)
    story.run(lambda m: not isinstance(m, Append))
    story.do(1, lambda core: core.read_index(7))
    story.run(lambda m: not isinstance(m, Append | AppendReply))
    assert story.members[1].reads == []
    story.run()
    assert story.members[1].reads == [(7, 1)]


def test_6_4_who_leads_no_more_gives_its_reads_back() -> None:
    story = led()
    story.do(1, lambda core: core.read_index(7))
    story[1].step(HeartbeatReply(sender=TWO, to=ONE, term=Term(5)))
    assert story[1].ready().reads_lost == (7,)
    with pytest.raises(NotLeader):
        story[1].read_index(8)


def test_9_6_a_pre_vote_raises_nobody_s_term() -> None:
    story = led()
    story.isolate(3)
    for _ in range(5):
        story.do(3, lambda core: core.tick(RAFT_ELECTION_TICKS_MAX))
        story.run()
    story.heal()
    story.do(1, lambda core: core.tick(2))
    story.run()
    assert {story[node].term for node in (1, 2, 3)} == {1}
    assert story[3].leader == ONE


# --- replicas that lost something (DESIGN sections 5 and 8) ---------------------------------------


def damaged() -> Story:
    """3 once held entry 3 and can read only the first."""
    story = led()
    story.propose(1, 2)
    story.run()
    story.crash(3)
    disk = story.members[3].disk
    disk.known_last = place(1, 3)
    del disk.runs[1:]
    story.restart(3)
    return story


def test_a_damaged_member_does_not_campaign() -> None:
    story = damaged()
    story.do(3, lambda core: core.tick(RAFT_ELECTION_TICKS_MAX))
    story.do(3, Core.campaign)
    assert (story[3].role, story[3].damaged) == (Role.FOLLOWER, True)


@pytest.mark.parametrize(("last", "granted"), [(place(1, 2), False), (place(1, 3), True)])
def test_a_damaged_member_votes_by_what_it_once_held(last: Position, granted: bool) -> None:
    story = damaged()
    story.deliver(Vote(sender=TWO, to=THREE, term=Term(2), last=last))
    answer = story.wire.pop()
    assert isinstance(answer, VoteReply)
    assert answer.granted is granted


def test_a_shrunk_log_is_told_and_filled_again() -> None:
    story = damaged()
    story.do(1, lambda core: core.tick(2))
    story.run()
    (alarm,) = story.members[1].shrunk
    assert (alarm.node, alarm.acknowledged, alarm.held) == (THREE, 3, 1)
    assert story[3].last == story[1].last
    assert not story[3].damaged


def test_a_damaged_member_tells_a_leader_at_rest_that_it_lacks_something() -> None:
    story = damaged()
    assert story[1].idle
    story.do(3, lambda core: core.heard(ONE, Term(1)))
    story.run()
    assert not story[1].idle
    story.do(1, lambda core: core.tick(2))
    story.run()
    assert story[3].last == story[1].last
    assert not story[3].damaged


def test_a_late_refusal_is_no_shrunk_log() -> None:
    story = led()
    story.propose(1, 2)
    story.run()
    late = AppendReply(
        sender=TWO,
        to=ONE,
        term=Term(1),
        match=Index(0),
        commit=Index(0),
        conflict=Conflict(Index(2), place(1, 1)),
        incarnation=1,
    )
    assert story[1].step(late) is Refusal.STALE
    assert story[1].matched(TWO) == 3


# --- snapshots, quiet groups --------------------------------------------------------------------


def test_a_member_that_needs_what_is_gone_gets_the_snapshot() -> None:
    story = led()
    story.isolate(3)
    story.propose(1, 5)
    story.run()
    story.members[1].compact(4)
    story.heal()
    story.do(1, lambda core: core.tick(4))
    story.run()
    assert story[3].installing is not None
    story.members[3].install()
    story.run()
    assert story[3].last == story[1].last
    assert story[3].commit == story[1].commit


def test_a_snapshot_that_the_log_holds_already_replaces_nothing() -> None:
    story = led()
    story.propose(1, 2)
    story.run()
    offer = SnapshotOffer(
        sender=ONE,
        to=TWO,
        term=Term(1),
        position=place(1, 2),
        configuration=story.first,
        configured_at=Index(0),
    )
    assert story[2].step(offer) is None
    assert story[2].installing is None
    assert story.members[2].terms() == [1, 1, 1]


def test_no_entry_is_taken_while_a_snapshot_is_about_to_replace_the_log() -> None:
    story = led()
    offer = SnapshotOffer(
        sender=ONE,
        to=TWO,
        term=Term(1),
        position=place(1, 9),
        configuration=story.first,
        configured_at=Index(0),
    )
    story[2].step(offer)
    append = Append(
        sender=ONE, to=TWO, term=Term(1), previous=place(1, 1), commit=Index(1), runs=(run(2, 1),)
    )
    assert story[2].step(append) is Refusal.UNEXPECTED
    assert story[2].last == place(1, 1)


def test_a_group_that_has_nothing_to_do_is_idle_and_says_nothing() -> None:
    story = led()
    story.propose(1)
    assert not story[1].idle
    story.run()
    assert all(story[node].idle for node in (1, 2, 3))
    quiet: list[Message] = []
    for node in (2, 3):
        story.do(node, lambda core: core.heard(ONE, Term(1)))
        story.do(1, lambda core, node=node: core.reached(NodeId(node)))
    assert story.wire == quiet


def test_a_member_that_cannot_be_reached_is_fed_again_when_it_is_heard() -> None:
    story = led()
    story.do(1, lambda core: core.report_unreachable(THREE))
    story.propose(1)
    assert {m.to for m in story.wire} == {TWO}
    story.run()
    assert story[1].idle
    story.do(1, lambda core: core.reached(THREE))
    assert not story[1].idle
    story.run()
    assert story[3].commit == story[1].last.index


def test_a_member_that_is_slow_to_sync_is_asked_and_sent_nothing_again() -> None:
    """Else a disk that is slow gets more to do the slower it is."""
    story = led()
    story.members[3].synced = False
    story.propose(1, 5)
    story.run()
    for _ in range(3):
        story.do(1, lambda core: core.tick(RAFT_RETRY_TICKS))
        (asked,) = (each for each in story.wire if isinstance(each, Append) and each.to == THREE)
        assert (asked.previous, asked.runs) == (story[1].last, ())
        story.run()
    assert story[1].matched(THREE) == 1
    story.members[3].sync()
    story.run()
    assert story[1].matched(THREE) == story[1].last.index


def test_a_member_that_lacks_what_was_sent_says_so_when_it_is_asked() -> None:
    story = led()
    story.isolate(3)
    story.propose(1, 5)
    story.run()
    story.heal()
    assert story[3].last.index == 1
    story.do(1, lambda core: core.tick(RAFT_RETRY_TICKS))
    story.run()
    assert story[3].commit == story[1].last.index == 6
