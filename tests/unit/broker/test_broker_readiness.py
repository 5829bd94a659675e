"""A node says that it is ready when the next one may stop: once its replicas have caught up."""

import pytest
import trio

from appliance.broker.consensus import HEARD_WITHIN_S
from appliance.broker.outbox import Channel

from .three_nodes import in_cluster

RECORDS = 12


@pytest.fixture(name="play")
def play_fixture(world, run):
    return in_cluster(world, run)


def test_a_node_that_comes_back_is_ready_once_it_holds_what_was_written_meanwhile(play):
    async def body(cluster):
        await cluster.create()
        down = next(number for number in (2, 3, 1) if number != cluster.leader(cluster.group()))
        cluster.kill(down)
        for _ in range(RECORDS):
            await cluster.produce_surely(b"x" * 1000)
        cluster.carried_s[Channel.BULK, down] = 0.5
        await cluster.start(down)
        member = cluster.members[down]
        await member.joined.wait()
        await member.node.settled()
        assert cluster.held(down) == RECORDS

    play(body)


def test_a_node_does_not_wait_for_a_leader_that_there_is_none_of(play):
    async def body(cluster):
        await cluster.create(replication=2)
        holders = cluster.members[1].node.policies.state.membership.assignment(cluster.group())
        stays, comes = (set(holders.replicas), max(holders.replicas))
        for number in stays - {comes}:
            cluster.kill(number)
        if comes in cluster.members:
            cluster.kill(comes)
        await cluster.start(comes)
        member = cluster.members[comes]
        await member.joined.wait()
        began = trio.current_time()
        await member.node.settled()
        assert trio.current_time() - began < HEARD_WITHIN_S + 1
        assert cluster.leader(cluster.group()) is None

    play(body)


def test_a_node_whose_clock_was_set_back_while_it_was_down_is_heard(play, monkeypatch):
    async def body(cluster):
        await cluster.create()
        down = next(number for number in (2, 3, 1) if number != cluster.leader(cluster.group()))
        cluster.kill(down)
        await cluster.produce_surely(b"x")
        monkeypatch.setattr(cluster.world.Clock, "set_back_ms", 3_600_000)
        await cluster.start(down)
        leader = cluster.members[cluster.leader(cluster.group())]
        core = leader.consensus.replica(cluster.group()).core
        await cluster.until(lambda: core.matched(down) == core.last.index, "its word of the log", 5)

    play(body)
