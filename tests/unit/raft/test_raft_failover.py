"""How soon a group has another leader: what the paper leaves to time-outs and luck.

A member whose leader's node is known to be gone waits for its turn and no time-out; who was asked
by a member that has less asks in its place; a member that was refused too early asks again.
"""

from raft_story import ONE, TWO, Story, led, with_logs

from appliance.limits import RAFT_ASK_TICKS, RAFT_ELECTION_TICKS, RAFT_TURN_TICKS
from appliance.raft.core import Core
from appliance.raft.messages import PreVote, Vote
from appliance.raft.ready import Role


def gone(story: Story, *turns: int) -> None:
    """1 is killed, and these members know it: each with its turn, in this order."""
    story.crash(1)
    story.isolate(1)
    for turn, node in enumerate(turns):
        story.do(node, lambda core, turn=turn: core.lost(ONE, turn))


def ticked(story: Story, ticks: int) -> None:
    """Time passes for the members that live, and everything under way arrives."""
    for _ in range(ticks):
        for node, member in story.members.items():
            if member.up:
                story.do(node, Core.tick)
        story.run()


def test_who_knows_its_leader_to_be_gone_leads_within_a_tick() -> None:
    story = led()
    gone(story, 3, 2)
    assert story[2].leader is None
    ticked(story, 1)
    assert story[3].role is Role.LEADER
    assert story[2].leader == 3
    assert story[3].term == 2


def test_the_next_one_has_its_turn_where_the_first_does_nothing() -> None:
    story = led(1, 2, 3, 4, 5)
    gone(story, 2, 3, 4, 5)
    story.crash(2)
    ticked(story, RAFT_TURN_TICKS)
    assert story[3].role is Role.LEADER


def test_who_was_refused_before_others_knew_asks_again() -> None:
    story = led()
    gone(story, 2)
    ticked(story, 1)
    assert story[2].role is Role.PRE_CANDIDATE
    story.do(3, lambda core: core.lost(ONE, 1))
    ticked(story, RAFT_ASK_TICKS)
    assert story[2].role is Role.LEADER
    assert story[2].term == 2


def test_who_asks_again_bothers_nobody_that_has_said_yes() -> None:
    story = led(1, 2, 3, 4, 5)
    gone(story, 2, 3)
    ticked(story, 1)
    for _ in range(RAFT_ASK_TICKS):
        story.do(2, Core.tick)
    assert {m.to for m in story.wire if isinstance(m, PreVote)} == {1, 4, 5}


def test_who_holds_more_asks_in_the_place_of_who_asked_it() -> None:
    story = with_logs(n1=[1, 1, 1], n2=[1], n3=[1, 1])
    story.crash(1)
    story.silence(3)
    story.do(2, Core.campaign)
    story.run()
    assert story[3].role is Role.LEADER
    assert story[2].leader == 3


def test_who_holds_more_stays_quiet_while_it_hears_its_leader() -> None:
    story = led()
    story.isolate(2)
    story.propose(1)
    story.run()
    story.heal()
    story.do(2, Core.campaign)
    story.run(lambda m: m.to != 1 and m.sender != 1)
    assert story[3].role is Role.FOLLOWER
    assert story[3].leader == ONE


def test_a_late_message_of_a_leader_that_is_gone_counts_until_its_loss_is_told_again() -> None:
    story = led()
    story.propose(1)
    gone(story, 2, 3)
    story.cut.discard((1, 2))
    story.run(lambda m: m.to == TWO)
    story.isolate(1)
    assert story[2].leader == ONE
    story.do(2, lambda core: core.lost(ONE, 0))
    ticked(story, 1)
    assert story[2].role is Role.LEADER


def test_a_loss_of_somebody_else_is_none() -> None:
    story = led()
    story.do(2, lambda core: core.lost(TWO, 0))
    story.do(1, lambda core: core.lost(ONE, 0))
    ticked(story, RAFT_ELECTION_TICKS // 2)
    assert story[1].role is Role.LEADER
    assert story[2].leader == ONE
    assert not [m for m in story.wire if isinstance(m, Vote)]
