"""The core against the Raft paper, section by section."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.invariant import InvariantViolation
from appliance.limits import MAX_TERM
from appliance.ports import HardState
from appliance.raft.core import Core
from appliance.raft.log import LogView
from appliance.raft.ready import NotLeader, Recovered, Role, single
from appliance.types import EntryKind, Index, NodeId, Position, Term


class Zeros:
    def random_bytes(self, count: int) -> bytes:
        return bytes(count)


SELF = NodeId(1)
NOTHING = Position(Term(0), Index(0))


def follower(term: int = 0, last: Position = NOTHING) -> Core:
    return Core(
        node=SELF,
        recovered=Recovered(
            state=HardState(term=Term(term), vote=None),
            last=last,
            base=last,
            configurations=single(SELF),
        ),
        entropy=Zeros(),
    )


def leader(term: int = 0, last: Position = NOTHING) -> Core:
    core = follower(term, last)
    core.campaign()
    core.advance(saved=core.ready().hard_state)
    return core


def test_5_1_each_campaign_is_a_new_term() -> None:
    core = follower(term=4)
    core.campaign()
    assert core.ready().hard_state == HardState(term=Term(5), vote=SELF)
    assert core.term == 5


def test_5_2_nobody_leads_before_the_own_vote_is_durable() -> None:
    core = follower()
    core.campaign()
    assert core.role is Role.CANDIDATE
    with pytest.raises(NotLeader):
        core.propose(EntryKind.COMMAND, 1)


def test_5_2_a_save_of_an_older_term_elects_nobody() -> None:
    core = follower()
    core.campaign()
    old = core.ready().hard_state
    core.campaign()
    core.advance(saved=old)
    assert core.role is Role.CANDIDATE


def test_5_4_2_a_term_begins_with_a_no_op() -> None:
    core = leader(term=2, last=Position(Term(2), Index(7)))
    ready = core.ready()
    assert [(entry.kind, entry.position) for entry in ready.entries] == [
        (EntryKind.NO_OP, Position(Term(3), Index(8)))
    ]


def test_5_4_2_entries_of_earlier_terms_commit_only_through_one_of_the_own_term() -> None:
    core = leader(term=2, last=Position(Term(2), Index(7)))
    core.advance(persisted=Position(Term(2), Index(7)))
    assert core.commit == 0
    core.advance(persisted=Position(Term(3), Index(8)))
    assert core.commit == 8


def test_thesis_10_2_1_the_leader_counts_itself_only_when_synced() -> None:
    core = leader()
    core.propose(EntryKind.BATCH, 100)
    assert core.ready().commit == 0
    core.advance(persisted=Position(Term(1), Index(1)))
    assert core.ready().commit == 1


def test_an_acknowledgement_of_an_entry_that_is_not_held_counts_for_nothing() -> None:
    core = leader()
    core.advance(persisted=Position(Term(1), Index(5)))
    core.advance(persisted=Position(Term(9), Index(1)))
    assert core.commit == 0


def test_a_late_acknowledgement_never_takes_a_commit_back() -> None:
    core = leader()
    core.propose(EntryKind.BATCH, 1)
    core.advance(persisted=Position(Term(1), Index(2)))
    core.advance(persisted=Position(Term(1), Index(1)))
    assert core.commit == 2


def test_each_entry_is_handed_out_once_and_in_order() -> None:
    core = leader()
    for size in (1, 2, 3):
        core.propose(EntryKind.BATCH, size)
    assert [entry.position.index for entry in core.ready().entries] == [1, 2, 3, 4]
    assert core.ready().entries == ()


def test_who_resigned_assigns_no_index_and_commits_nothing() -> None:
    core = leader()
    core.resign()
    with pytest.raises(NotLeader):
        core.propose(EntryKind.BATCH, 1)
    core.advance(persisted=Position(Term(1), Index(1)))
    assert core.commit == 0


def test_terms_stay_below_two_to_the_31() -> None:
    core = follower(term=MAX_TERM)
    core.campaign()
    assert core.term == MAX_TERM


def test_a_log_of_a_later_term_than_the_journal_contradicts_it() -> None:
    with pytest.raises(InvariantViolation):
        follower(term=1, last=Position(Term(2), Index(3)))


@given(st.lists(st.integers(0, 3), max_size=40))
def test_5_3_the_view_knows_every_term_since_recovery(steps: list[int]) -> None:
    view = LogView(Position(Term(5), Index(10)), (), Position(Term(5), Index(10)))
    term, expected = 5, {10: 5}
    for step in steps:
        term += step
        expected[view.append(Term(term), (1,)).index] = term
    assert {index: view.term_at(Index(index)) for index in expected} == expected
    assert view.term_at(Index(9)) is None
    assert view.term_at(Index(view.last.index + 1)) is None
