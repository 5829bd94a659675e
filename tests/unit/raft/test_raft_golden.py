"""Raft's hard cases as stories: each is played, judged, and compared with its text to the letter.

`python tests/unit/raft/test_raft_golden.py` writes the texts anew; read what changed.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from raft_story import Story, appends_to

from appliance.raft.core import Core
from appliance.raft.messages import Append, Heartbeat, TimeoutNow, Vote
from appliance.raft.ready import NotCaughtUp, Role
from appliance.types import Index, NodeId, Term

GOLDEN = Path(__file__).parent / "golden"


def nodes(*numbers: int) -> frozenset[NodeId]:
    return frozenset(map(NodeId, numbers))


def beat(story: Story, leader: int) -> None:
    """The leader's next heartbeats, and what comes of them."""
    story.do(leader, lambda core: core.tick(2))
    story.run()


def figure_8() -> Story:
    """The paper's figure 8: an older term's entry is on a majority and still not committed."""
    story = Story(1, 2, 3, 4, 5)
    story.say("(a) 1 leads, and brings entry 2 to member 2 alone.")
    story.elect(1)
    story.propose(1)
    story.run(appends_to(2))
    story.lose()
    assert story.members[2].terms() == [1, 1]
    story.crash(1)
    story.say("(b) 5 is elected by 3 and 4, and writes something else at index 2.")
    story.isolate(2)
    story.silence(3, 4)
    story.do(5, Core.campaign)
    story.run(lambda m: not isinstance(m, Append))
    story.lose()
    assert story.members[5].terms() == [1, 2]
    story.crash(5)
    story.heal()
    story.restart(1)
    story.say("(c) 1 is elected again, and brings entry 2 to member 3: it is on a majority now.")
    story.silence(2, 3, 4)
    story.insist(1)
    _bring_entry_2_to_3(story)
    assert story.members[3].terms()[:2] == [1, 1]
    assert story[1].commit < 2
    story.say("Entry 2 is of term 1, and 1 leads term 3: counting does not commit it (5.4.2).")
    story.crash(1)
    story.restart(5)
    story.say("(d) So 5 may be elected, and take it back everywhere.")
    story.lose()
    story.silence(2, 3, 4)
    story.insist(5)
    story.run()
    assert story[5].role is Role.LEADER
    assert story.members[3].terms() == [1, 2, 4]
    assert story[5].commit == 3
    return story


def _bring_entry_2_to_3(story: Story) -> None:
    """Only as far as entry 2; what is under way behind it is lost."""
    for _ in range(3):
        story.run(lambda m: m.to == 3 or m.sender == 3, most=1)
    story.run(lambda m: m.sender == 3, most=1)
    story.lose()


def removed_server() -> Story:
    """Thesis, 4.2.3: a server that was removed campaigns, and nobody minds."""
    story = Story(1, 2, 3, 4)
    story.elect(1)
    story.isolate(4)
    story.say("4 is removed while it hears nothing of it.")
    story.do(1, lambda core: core.propose_configuration(nodes(1, 2, 3)))
    story.run()
    assert not story[1].configuration.joint
    story.heal()
    story.say("4 hears no heartbeat any more, and campaigns: the others protect their leader.")
    beat(story, 1)
    for _ in range(3):
        story.do(4, lambda core: core.tick(18))
        story.run()
    assert story[1].role is Role.LEADER
    assert {story[node].term for node in (1, 2, 3, 4)} == {1}
    story.say("Even a vote request of a later term moves nobody who hears a leader.")
    for to in (1, 2, 3):
        vote = Vote(sender=NodeId(4), to=NodeId(to), term=Term(9), last=story[1].last)
        story.deliver(vote)
    assert {story[node].term for node in (1, 2, 3)} == {1}
    story.say("And the group goes on.")
    story.propose(1)
    story.run()
    assert story[3].commit == story[1].last.index
    return story


def lagging_learner() -> Story:
    """Thesis, 4.2.1: a new voter counts only when it has the log."""
    story = Story(1, 2, 3)
    story.elect(1)
    story.propose(1, 3)
    story.run()
    story.say("4 joins as a learner: it gets the log, and counts for nothing.")
    story.join(4)
    story.isolate(4)
    story.do(1, lambda core: core.propose_configuration(nodes(1, 2, 3), nodes(4)))
    story.run()
    assert story[1].commit == 5
    story.say("It has nothing yet: it is not made a voter.")
    with pytest.raises(NotCaughtUp):
        story[1].propose_configuration(nodes(1, 2, 3, 4))
    story.heal()
    story.say("Now it is reached, asks from where on, and catches up.")
    story.do(1, lambda core: core.tick(4))
    story.run()
    assert story[4].last == story[1].last
    story.say("It may vote now: first both sets decide, then the new one alone.")
    story.do(1, lambda core: core.propose_configuration(nodes(1, 2, 3, 4)))
    story.run()
    assert story[1].configuration.voters == nodes(1, 2, 3, 4)
    assert not story[4].configuration.joint
    return story


def leave_joint_crash() -> Story:
    """Section 6: the leader crashes between the two steps; the next one finishes the change."""
    story = Story(1, 2, 3)
    story.elect(1)
    story.join(4)
    story.do(1, lambda core: core.propose_configuration(nodes(1, 2, 3), nodes(4)))
    story.run()
    story.say("3 is to make room for 4; the joint configuration gets to everybody.")
    story.do(1, lambda core: core.propose_configuration(nodes(1, 2, 4)))
    story.run(lambda m: isinstance(m, Append))
    assert all(story[node].configuration.joint for node in (1, 2, 3, 4))
    story.lose()
    story.crash(1)
    story.say("2 needs a majority of 1 2 3 and one of 1 2 4.")
    story.silence(3, 4)
    story.do(2, Core.campaign)
    story.run(lambda m: m.to != 4 and m.sender != 4)
    assert story[2].role is not Role.LEADER
    story.say("3 has answered, but the new set has only 2 so far; now 4 answers too.")
    story.run()
    assert story[2].role is Role.LEADER
    assert story[2].configuration.voters == nodes(1, 2, 4)
    assert not story[2].configuration.joint
    assert story[4].configuration == story[2].configuration
    story.restart(1)
    story.do(2, lambda core: core.tick(4))
    story.run()
    assert story[1].configuration == story[2].configuration
    return story


def snapshot_during_transfer() -> Story:
    """Thesis, 3.10 and chapter 5: the target of a hand-over needs a snapshot first."""
    story = Story(1, 2, 3)
    story.elect(1)
    story.isolate(3)
    story.propose(1, 4)
    story.run()
    story.say("1 keeps a snapshot and lets go of what 3 still needs.")
    story.members[1].compact(5)
    story.heal()
    story.say("3 is to take over. It lacks entries that are gone.")
    story.do(1, lambda core: core.transfer_leadership(NodeId(3)))
    story.do(1, lambda core: core.tick(4))
    story.run(lambda m: not isinstance(m, Heartbeat))
    assert story[3].installing is not None
    story.say("No proposal is taken meanwhile, and nobody is told to take over yet.")
    assert not any(isinstance(m, TimeoutNow) for m in story.wire)
    story.say("The snapshot is in place: 3 holds everything, and is told.")
    story.members[3].install()
    story.run()
    assert story[3].role is Role.LEADER
    assert story[1].role is Role.FOLLOWER
    assert story[3].base.index == 5
    assert story[1].commit == story[3].commit == Index(6)
    return story


STORIES: dict[str, Callable[[], Story]] = {
    play.__name__: play
    for play in (
        figure_8,
        removed_server,
        lagging_learner,
        leave_joint_crash,
        snapshot_during_transfer,
    )
}


@pytest.mark.parametrize("name", sorted(STORIES))
def test_a_hard_case_is_the_story_that_was_read_and_agreed(name: str) -> None:
    assert STORIES[name]().text() == (GOLDEN / f"{name}.txt").read_text()


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, play in STORIES.items():
        (GOLDEN / f"{name}.txt").write_text(play().text())
        sys.stdout.write(f"{name}\n")
