"""Whatever a peer says, a core neither raises nor breaks a promise of its own."""

from hypothesis import given, settings
from hypothesis import strategies as st
from raft_story import Story

from appliance.raft.configuration import Configuration
from appliance.raft.core import Core
from appliance.raft.messages import (
    Append,
    AppendReply,
    Conflict,
    Heartbeat,
    HeartbeatReply,
    PeerMessage,
    PreVote,
    PreVoteReply,
    Run,
    SnapshotOffer,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from appliance.types import EntryKind, Index, NodeId, Position, Term

INDEX = st.integers(-2, 9).map(Index) | st.just(Index(1 << 62))
TERM = st.integers(-1, 5).map(Term) | st.just(Term(1 << 31))
PLACE = st.builds(Position, TERM, INDEX)
NODE = st.integers(1, 5).map(NodeId)
NODES = st.frozensets(NODE, max_size=4)
MEMBERS = st.builds(Configuration, NODES, NODES, NODES)
RUN = st.builds(
    Run,
    INDEX,
    TERM,
    st.sampled_from(EntryKind),
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
    st.none() | MEMBERS,
)
TO = {"sender": NODE, "to": st.just(NodeId(1)), "term": TERM}
CONFLICT = st.none() | st.builds(Conflict, INDEX, PLACE)
MESSAGE = st.one_of(
    st.builds(PreVote, last=PLACE, **TO),
    st.builds(PreVoteReply, granted=st.booleans(), **TO),
    st.builds(Vote, last=PLACE, transferred=st.booleans(), **TO),
    st.builds(VoteReply, granted=st.booleans(), **TO),
    st.builds(
        Append, previous=PLACE, commit=INDEX, runs=st.lists(RUN, max_size=3).map(tuple), **TO
    ),
    st.builds(
        AppendReply,
        match=INDEX,
        conflict=CONFLICT,
        commit=INDEX,
        incarnation=st.integers(-1, 3),
        **TO,
    ),
    st.builds(Heartbeat, match=PLACE, commit=INDEX, round=st.integers(-1, 9), **TO),
    st.builds(HeartbeatReply, round=st.integers(-1, 9), **TO),
    st.builds(SnapshotOffer, position=PLACE, configuration=MEMBERS, configured_at=INDEX, **TO),
    st.builds(SnapshotReply, match=INDEX, taken=st.booleans(), **TO),
    st.builds(TimeoutNow, **TO),
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["follower", "candidate", "leader"]), st.lists(MESSAGE, max_size=12))
def test_nothing_that_a_peer_sends_raises(role: str, messages: list[PeerMessage]) -> None:
    story = Story(1, 2, 3)
    if role == "leader":
        story.elect(1)
        story.propose(1, 2)
        story.do(1, lambda core: core.read_index(1))
    elif role == "candidate":
        story.do(1, Core.campaign)
    commit = story[1].commit
    for message in messages:
        story[1].step(message)
        story.members[1].settle()
        story.do(1, Core.tick)
        assert story[1].commit >= commit
        commit = story[1].commit
