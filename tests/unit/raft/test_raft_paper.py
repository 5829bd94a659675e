"""The core against the Raft paper, sections 5.1 to 5.4.2 and figures 2 and 7, and the thesis.

Groups of several members, on a table where each message moves when the test says so.
"""

import pytest
from raft_story import Disk, Story, appends_to

from appliance.limits import MAX_TERM, RAFT_ELECTION_TICKS, RAFT_ELECTION_TICKS_MAX
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
    PreVote,
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

ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)


def place(term: int, index: int) -> Position:
    return Position(Term(term), Index(index))


def run(first: int, term: int, count: int = 1) -> Run:
    return Run(Index(first), Term(term), EntryKind.COMMAND, (10,) * count)


def nodes(*numbers: int) -> frozenset[NodeId]:
    return frozenset(map(NodeId, numbers))


def led(*voters: int) -> Story:
    """A group that 1 leads, with its no-op everywhere."""
    story = Story(*(voters or (1, 2, 3)))
    story.elect(1)
    return story


def with_logs(**terms: list[int]) -> Story:
    """Members whose durable logs hold entries of these terms, by name: n1=[1, 1, 2]."""
    story = Story(*range(1, len(terms) + 1))
    for name, log in terms.items():
        node = int(name[1:])
        disk = Disk(story.first)
        disk.runs = [run(at + 1, term) for at, term in enumerate(log)]
        disk.hard = HardState(Term(max(log, default=0)), None)
        story.members[node].disk = disk
        story.members[node].start()
    return story


# --- 5.1: terms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_5_1_whoever_hears_of_a_later_term_takes_it_over_and_follows(role: str) -> None:
    story = led() if role == "leader" else Story(1, 2, 3)
    if role == "candidate":
        story.do(1, Core.campaign)
        story.run(lambda m: isinstance(m, PreVote) or m.to == 1)
        assert story[1].role is Role.CANDIDATE
    story.deliver(HeartbeatReply(sender=TWO, to=ONE, term=Term(7)))
    assert (story[1].role, story[1].term) == (Role.FOLLOWER, 7)


def test_5_1_a_leader_of_an_earlier_term_is_told_and_not_followed() -> None:
    story = led()
    old = Append(sender=THREE, to=TWO, term=Term(0), previous=place(0, 0), commit=Index(0))
    assert story[2].step(old) is Refusal.STALE_TERM
    (answer,) = story[2].ready().messages
    assert (answer.to, answer.term) == (THREE, 1)


def test_a_term_of_2_to_the_31_is_refused_and_changes_nothing() -> None:
    story = led()
    for term in (MAX_TERM + 1, -1):
        message = HeartbeatReply(sender=TWO, to=ONE, term=Term(term))
        assert story[1].step(message) is Refusal.IMPOSSIBLE_TERM
        assert story[1].heard(TWO, Term(term)) is Refusal.IMPOSSIBLE_TERM
    assert (story[1].role, story[1].term) == (Role.LEADER, 1)


# --- 5.2: elections -----------------------------------------------------------------------------


def test_5_2_a_follower_campaigns_after_its_time_out_and_not_before() -> None:
    story = Story(1, 2, 3)
    story.do(1, lambda core: core.tick(RAFT_ELECTION_TICKS_MAX - 1))
    assert story[1].role is Role.FOLLOWER
    story.do(1, lambda core: core.tick(1))
    assert story[1].role is Role.PRE_CANDIDATE


def test_5_2_time_outs_are_random_between_their_bounds() -> None:
    drawn = set()
    for byte in range(256):
        story = Story(1, 2)
        story[1]._state.entropy = type(
            "Fixed", (), {"random_bytes": lambda _, n, b=byte: bytes([b]) * n}
        )()
        story[1].restart_timer()
        drawn.add(story[1]._state.timeout_ticks)
    assert drawn == set(range(RAFT_ELECTION_TICKS, RAFT_ELECTION_TICKS_MAX + 1))


def test_5_2_a_leader_s_word_resets_the_time_out() -> None:
    story = led()
    for _ in range(5):
        story.do(2, lambda core: core.tick(RAFT_ELECTION_TICKS_MAX - 1))
        story.do(2, lambda core: core.heard(ONE, Term(1)))
    assert story[2].role is Role.FOLLOWER


def test_5_2_a_majority_elects_and_less_does_not() -> None:
    story = Story(1, 2, 3, 4, 5)
    story.do(1, Core.campaign)
    story.run(lambda m: 2 in {m.to, m.sender})
    assert story[1].role is Role.PRE_CANDIDATE
    story.run(lambda m: 3 in {m.to, m.sender})
    assert story[1].role is Role.CANDIDATE
    assert story[3].term == 1, "3 has voted too: two of five"
    story.run(lambda m: 2 in {m.to, m.sender})
    assert story[1].role is Role.LEADER


def test_5_2_one_vote_a_term_first_come_first_served() -> None:
    story = Story(1, 2, 3)
    for sender, granted in ((ONE, True), (THREE, False), (ONE, True)):
        story.deliver(Vote(sender=sender, to=TWO, term=Term(1), last=place(0, 0)))
        answer = story.wire.pop()
        assert isinstance(answer, VoteReply)
        assert (answer.to, answer.granted) == (sender, granted)


def test_5_2_a_vote_leaves_only_once_it_is_durable() -> None:
    story = Story(1, 2, 3)
    story.members[2].synced = False
    story.deliver(Vote(sender=ONE, to=TWO, term=Term(1), last=place(0, 0)))
    assert story.wire == []
    story.members[2].sync()
    assert [type(m) for m in story.wire] == [VoteReply]


def test_5_2_a_candidate_does_not_lead_before_its_own_vote_is_durable() -> None:
    """Else it could lead the same term twice, with two logs."""
    story = Story(1, 2, 3)
    story.members[1].synced = False
    story.do(1, Core.campaign)
    story.run()
    assert story[1].role is Role.CANDIDATE
    story.members[1].sync()
    assert story[1].role is Role.LEADER


def test_a_vote_request_claims_only_what_is_durable() -> None:
    """An answer to it may come after a crash, and must then be true of what is left."""
    story = led()
    story.members[2].synced = False
    story.propose(1)
    story.run()
    assert story[2].last == place(1, 2)
    story.deliver(TimeoutNow(sender=ONE, to=TWO, term=Term(1)))
    requests = [m for m in story.wire if isinstance(m, Vote)]
    assert {m.last for m in requests} == {place(1, 1)}


def test_5_2_a_candidate_follows_the_leader_of_its_term() -> None:
    story = Story(1, 2, 3)
    story.do(1, Core.campaign)
    story.run(lambda m: not isinstance(m, Vote | VoteReply))
    assert story[1].role is Role.CANDIDATE
    story.deliver(Append(sender=TWO, to=ONE, term=Term(1), previous=place(0, 0), commit=Index(0)))
    assert (story[1].role, story[1].leader) == (Role.FOLLOWER, TWO)


def test_5_2_a_second_leader_of_a_term_is_not_believed() -> None:
    story = led()
    rival = Append(sender=THREE, to=TWO, term=Term(1), previous=place(0, 0), commit=Index(0))
    assert story[2].step(rival) is Refusal.TWO_LEADERS
    mirror = Append(sender=THREE, to=ONE, term=Term(1), previous=place(0, 0), commit=Index(0))
    assert story[1].step(mirror) is Refusal.TWO_LEADERS


# --- 5.3: the log -------------------------------------------------------------------------------


def test_5_3_an_entry_is_committed_once_a_majority_has_synced_it() -> None:
    story = led()
    story.members[2].synced = story.members[3].synced = False
    story.propose(1)
    story.run()
    assert story[1].commit == 1
    story.members[3].sync()
    story.run()
    assert story[1].commit == 2
    assert story[3].commit == 2


def test_5_3_the_leader_sends_before_its_own_sync() -> None:
    story = led()
    story.members[1].synced = False
    story.propose(1)
    story.run()
    assert story[1].commit == 2, "two followers are a majority without it"
    assert story[1].matched(ONE) == 1


def test_figure_2_entries_are_taken_only_behind_one_that_both_hold() -> None:
    story = with_logs(n1=[1, 1], n2=[1])
    gap = Append(
        sender=ONE, to=TWO, term=Term(2), previous=place(1, 2), commit=Index(0), runs=(run(3, 2),)
    )
    story.deliver(gap)
    (answer,) = story.wire
    assert isinstance(answer, AppendReply)
    assert answer.conflict == Conflict(Index(2), place(1, 1))


def test_figure_2_a_conflicting_entry_and_all_behind_it_give_way() -> None:
    story = with_logs(n1=[1], n2=[1, 2, 2, 2])
    story.deliver(
        Append(
            sender=ONE,
            to=TWO,
            term=Term(3),
            previous=place(1, 1),
            commit=Index(0),
            runs=(run(2, 3),),
        )
    )
    assert story.members[2].terms() == [1, 3]


def test_figure_2_what_is_held_already_is_kept_and_what_follows_it_too() -> None:
    """An old append that comes late must not cut off what newer ones brought."""
    story = with_logs(n1=[1], n2=[1, 1, 1])
    late = Append(
        sender=ONE, to=TWO, term=Term(1), previous=place(1, 1), commit=Index(0), runs=(run(2, 1),)
    )
    story.deliver(late)
    assert story.members[2].terms() == [1, 1, 1]
    (answer,) = story.wire
    assert isinstance(answer, AppendReply)
    assert answer.match == 2


def test_figure_2_the_commit_index_never_passes_what_was_compared() -> None:
    story = with_logs(n1=[1], n2=[1, 1, 1])
    story.deliver(Append(sender=ONE, to=TWO, term=Term(2), previous=place(1, 1), commit=Index(3)))
    assert story[2].commit == 1


FIGURE_7 = {
    "leader": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("follower", sorted(FIGURE_7.keys() - {"leader"}))
def test_figure_7_every_follower_ends_with_the_leader_s_log(follower: str) -> None:
    story = with_logs(n1=FIGURE_7["leader"], n2=FIGURE_7[follower], n3=FIGURE_7["leader"])
    story.silence(2, 3)
    for _ in range(3):
        story.insist(1)
    assert story[1].role is Role.LEADER
    story.run()
    assert story.members[2].terms() == story.members[1].terms()
    assert story[2].commit == story[1].last.index


# --- 5.4: safety --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "granted"),
    [
        ([1, 1], place(1, 2), True),
        ([1, 1], place(1, 1), False),
        ([1, 1], place(2, 1), True),
        ([1, 2], place(1, 9), False),
        ([], place(0, 0), True),
    ],
)
def test_5_4_1_logs_are_compared_by_term_and_then_by_index(
    mine: list[int], theirs: Position, granted: bool
) -> None:
    story = with_logs(n1=[], n2=mine)
    story.deliver(Vote(sender=ONE, to=TWO, term=Term(5), last=theirs))
    answer = story.wire.pop()
    assert isinstance(answer, VoteReply)
    assert answer.granted is granted


def test_5_4_2_only_an_entry_of_the_own_term_is_committed_by_counting() -> None:
    story = with_logs(n1=[1, 1], n2=[1, 1], n3=[1, 1])
    story.silence(2, 3)
    story.do(1, Core.campaign)
    story.run(lambda m: not isinstance(m, Append))
    assert (story[1].role, story[1].commit) == (Role.LEADER, 0)
    story.run()
    assert story[1].commit == 3


def test_what_is_committed_is_never_taken_back_whoever_asks() -> None:
    story = led()
    story.propose(1)
    story.run()
    liar = Append(
        sender=THREE, to=TWO, term=Term(9), previous=place(1, 1), commit=Index(0), runs=(run(2, 9),)
    )
    assert story[2].step(liar) is Refusal.CONTRADICTS_COMMITTED
    assert story.members[2].terms() == [1, 1]


@pytest.mark.parametrize(
    "runs",
    [
        (run(5, 1),),
        (run(2, 1), run(4, 1)),
        (run(2, 1), run(3, 0)),
        (run(2, 8),),
        (Run(Index(2), Term(1), EntryKind.COMMAND, ()),),
        (Run(Index(2), Term(1), EntryKind.CONFIGURATION, (1,)),),
        (Run(Index(2), Term(1), EntryKind.CONFIGURATION, (1,), Configuration(frozenset())),),
        (Run(Index(2), Term(1), EntryKind.COMMAND, (1,), Configuration(nodes(1))),),
    ],
)
def test_a_malformed_append_is_refused_and_raises_nothing(runs: tuple[Run, ...]) -> None:
    story = led()
    bad = Append(sender=ONE, to=TWO, term=Term(1), previous=place(1, 1), commit=Index(1), runs=runs)
    assert story[2].step(bad) is Refusal.MALFORMED
    assert story[2].last == place(1, 1)


def test_answers_that_cannot_be_are_refused() -> None:
    story = led()
    assert (
        story[1].step(
            AppendReply(sender=TWO, to=ONE, term=Term(1), match=Index(9), commit=Index(0))
        )
        is Refusal.MALFORMED
    )
    assert (
        story[1].step(
            AppendReply(
                sender=TWO,
                to=ONE,
                term=Term(1),
                match=Index(0),
                commit=Index(0),
                conflict=Conflict(Index(1), place(1, 1)),
                incarnation=1,
            )
        )
        is Refusal.MALFORMED
    )
    stranger = AppendReply(sender=NodeId(8), to=ONE, term=Term(1), match=Index(1), commit=Index(0))
    assert story[1].step(stranger) is Refusal.UNEXPECTED
    assert story[1].step(HeartbeatReply(sender=ONE, to=ONE, term=Term(1))) is Refusal.NOT_FOR_US


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
