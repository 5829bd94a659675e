"""Quorum arithmetic of the Raft paper, sections 5.2 and 5.3."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.raft.quorum import carried, held_by_majority, majority
from appliance.types import Index, NodeId

NODES = st.frozensets(st.integers(1, 9).map(NodeId), min_size=1)


@given(NODES, st.data())
def test_any_two_quorums_share_a_voter(voters: frozenset[NodeId], data: st.DataObject) -> None:
    one = data.draw(st.frozensets(st.sampled_from(sorted(voters))))
    other = data.draw(st.frozensets(st.sampled_from(sorted(voters))))
    if carried(voters, one) and carried(voters, other):
        assert one & other


@given(NODES, st.dictionaries(st.integers(1, 12).map(NodeId), st.integers(0, 50).map(Index)))
def test_a_majority_holds_what_is_said_to_be_held(
    voters: frozenset[NodeId], match: dict[NodeId, Index]
) -> None:
    held = held_by_majority(voters, match)
    holders = [voter for voter in voters if match.get(voter, 0) >= held]
    beyond = [voter for voter in voters if match.get(voter, 0) > held]
    assert len(holders) >= majority(len(voters))
    assert len(beyond) < majority(len(voters))


def test_who_is_no_voter_counts_for_nothing() -> None:
    voters = frozenset({NodeId(1), NodeId(2), NodeId(3)})
    assert not carried(voters, {NodeId(1), NodeId(8), NodeId(9)})
    assert held_by_majority(voters, {NodeId(8): Index(9), NodeId(1): Index(4)}) == 0
