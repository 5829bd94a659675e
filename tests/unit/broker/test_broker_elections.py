"""Preferred leaders lead again when they are asked to, and nobody else does."""

import pytest

from appliance.errors import ErrorCode
from appliance.wire.requests import (
    DrainNode,
    ElectionsOfTopic,
    ElectLeaders,
    LeadPartition,
    NamedPartitions,
)

ASKED = (NamedPartitions("orders", (0,)),)


async def led_elsewhere(cluster):
    """A partition that another than its preferred replica leads; returns the preferred one."""
    await cluster.create()
    group = cluster.group()
    preferred = cluster.members[1].node.policies.state.membership.assignment(group).replicas[0]
    other = next(n for n in (1, 2, 3) if n != preferred)
    await cluster.until(lambda: cluster.leader(group) is not None, "a leader")
    if cluster.leader(group) == preferred:
        reply = await cluster.ask(other, LeadPartition("orders", 0, other))
        assert reply.error is ErrorCode.NONE, reply
    await known_everywhere(cluster, lambda leader: leader not in {None, preferred})
    return preferred


async def known_everywhere(cluster, condition):
    group = cluster.group()
    await cluster.until(
        lambda: all(
            condition(m.consensus.leaders.of(group).node) for m in cluster.members.values()
        ),
        "every node to know the leader",
    )


def only(reply):
    assert reply.error is ErrorCode.NONE, reply
    ((election,),) = (topic.partitions for topic in reply.topics)
    return election


@pytest.mark.parametrize("asked", [1, 2, 3])
def test_whichever_node_is_asked_the_preferred_replica_leads_when_the_answer_comes(play, asked):
    async def body(cluster):
        preferred = await led_elsewhere(cluster)
        await cluster.produce_surely(b"before")
        election = only(await cluster.ask(asked, ElectLeaders(0, ASKED, 10_000)))
        assert election.error is ErrorCode.NONE, election
        assert cluster.members[asked].consensus.leaders.of(cluster.group()).node == preferred
        again = only(await cluster.ask(asked, ElectLeaders(0, ASKED, 10_000)))
        assert again.error is ErrorCode.ELECTION_NOT_NEEDED
        await cluster.produce_surely(b"after")

    play(body)


def test_of_all_partitions_those_are_named_where_there_was_something_to_do(play):
    async def body(cluster):
        await cluster.create("other")
        await led_elsewhere(cluster)
        reply = await cluster.ask(1, ElectLeaders(0, None, 10_000))
        assert [topic.name for topic in reply.topics if "orders" in topic.name] == ["orders"]
        assert only_of(reply, "orders").error is ErrorCode.NONE
        again = await cluster.ask(1, ElectLeaders(0, None, 10_000))
        assert "orders" not in [topic.name for topic in again.topics]
        recorded = [e for m in cluster.members.values() for e in m.sink.events]
        assert any(getattr(e, "request", "") == "ElectLeaders" for e in recorded)

    play(body)


def only_of(reply, name) -> ElectionsOfTopic:
    (topic,) = (each for each in reply.topics if each.name == name)
    (election,) = topic.partitions
    return election


def test_a_replica_that_is_drained_or_gone_is_not_available(play):
    async def body(cluster):
        preferred = await led_elsewhere(cluster)
        asked = next(n for n in (1, 2, 3) if n != preferred)
        await cluster.ask(asked, DrainNode(preferred, True))
        drained = only(await cluster.ask(asked, ElectLeaders(0, ASKED, 10_000)))
        assert drained.error is ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, drained
        await cluster.ask(asked, DrainNode(preferred, False))
        cluster.kill(preferred)
        await cluster.until(
            lambda: not cluster.members[asked].consensus.alive(preferred), "its silence"
        )
        gone = only(await cluster.ask(asked, ElectLeaders(0, ASKED, 10_000)))
        assert gone.error is ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, gone

    play(body)


def test_a_caller_without_patience_is_told_that_it_takes_longer(play):
    async def body(cluster):
        await led_elsewhere(cluster)
        election = only(await cluster.ask(1, ElectLeaders(0, ASKED, 0)))
        assert election.error in {ErrorCode.REQUEST_TIMED_OUT, ErrorCode.NONE}

    play(body)
