"""The core against the Raft paper, sections 5.1 to 5.4.2 and figures 2 and 7.

Groups of several members, on a table where each message moves when the test says so.
"""

import pytest
from raft_story import ONE, THREE, TWO, Story, led, nodes, place, run, with_logs

from appliance.limits import MAX_TERM, RAFT_ELECTION_TICKS, RAFT_ELECTION_TICKS_MAX
from appliance.raft.configuration import Configuration
from appliance.raft.core import Core
from appliance.raft.messages import (
    Append,
    AppendReply,
    Conflict,
    HeartbeatReply,
    PreVote,
    Run,
    TimeoutNow,
    Vote,
    VoteReply,
)
from appliance.raft.ready import (
    Refusal,
    Role,
)
from appliance.types import EntryKind, Index, NodeId, Position, Term

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
