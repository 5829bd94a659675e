"""How long a group goes without a leader when a node falls, in the time of the cluster itself.

Here nothing takes time but what the design makes wait: the rest, syncs and processors, is measured
by `make torture` (suite `failover`) on real processes.
"""

from collections import Counter

import pytest
import trio

from appliance.broker import peer_codec
from appliance.broker.foundation import CATALOGUE_LOG, GROUPS_LOG
from appliance.errors import ErrorCode
from appliance.limits import MAX_SUCCESSOR_WAIT_S, RAFT_ELECTION_TICKS
from appliance.raft.messages import Append
from appliance.raft.ready import Role
from appliance.wire.requests import Metadata

PARTITIONS = 12
NOTICED_S = 0.011
"""After which the test's network says that a connection has broken."""
KILLED_S = 0.25
PAUSED_S = 1.0


def groups_of(cluster):
    topic = cluster.members[2].node.policies.state.topics["orders"]
    return (*topic.partitions, CATALOGUE_LOG, GROUPS_LOG)


async def settled(cluster):
    await cluster.create(partitions=PARTITIONS)
    groups = groups_of(cluster)
    await cluster.until(lambda: all(map(cluster.leader, groups)), "leaders")
    return groups


async def without_leaders_s(cluster, groups):
    began = trio.current_time()
    while not all(map(cluster.leader, groups)):  # noqa: ASYNC110
        await trio.sleep(0.005)
    return trio.current_time() - began


@pytest.mark.parametrize("moment", [0.0, 0.013, 0.026, 0.039, 0.052])
def test_a_killed_node_costs_votes_and_no_time_out(play, moment):
    async def body(cluster):
        groups = await settled(cluster)
        await trio.sleep(moment)
        cluster.kill(cluster.leader(CATALOGUE_LOG))
        assert await without_leaders_s(cluster, groups) < KILLED_S

    play(body)


def test_the_groups_of_a_killed_node_are_shared_by_the_others(play):
    async def body(cluster):
        groups = await settled(cluster)
        cluster.kill(1)
        await without_leaders_s(cluster, groups)
        led = Counter(map(cluster.leader, groups))
        assert min(led[2], led[3]) >= 3, led

    play(body)


def test_a_node_that_falls_silent_costs_a_time_out_and_votes(play):
    async def body(cluster):
        groups = await settled(cluster)
        fallen = cluster.leader(groups[0])
        hers = [group for group in groups if cluster.leader(group) == fallen]
        cluster.silence(fallen)
        taken_s = await without_leaders_s(cluster, hers)
        assert RAFT_ELECTION_TICKS * 0.05 <= taken_s < PAUSED_S

    play(body)


def test_clients_are_told_of_the_next_leader_and_not_of_none(play):
    async def body(cluster):
        groups = await settled(cluster)
        fallen = cluster.leader(groups[0])
        asked = next(n for n in (1, 2, 3) if n != fallen)
        cluster.kill(fallen)
        await trio.sleep(NOTICED_S)
        told = await cluster.ask(asked, Metadata(("orders",)), "kafka")
        leaders = [part.leader_id for part in told.topics[0].partitions]
        assert set(leaders) == {1, 2, 3} - {fallen}

    play(body)


def test_clients_are_not_kept_waiting_where_nobody_can_lead(play):
    async def body(cluster):
        groups = await settled(cluster)
        leader = cluster.leader(groups[0])
        left = next(n for n in (1, 2, 3) if n != leader)
        for number in {1, 2, 3} - {left}:
            cluster.kill(number)
        await trio.sleep(NOTICED_S)
        began = trio.current_time()
        told = await cluster.ask(left, Metadata(("orders",)), "kafka")
        assert told.topics[0].partitions[0].error is ErrorCode.LEADER_NOT_AVAILABLE
        assert trio.current_time() - began <= MAX_SUCCESSOR_WAIT_S + NOTICED_S
        await cluster.until(
            lambda: all(cluster.leader(group) is None for group in groups), "an end of all leaders"
        )
        await trio.sleep(MAX_SUCCESSOR_WAIT_S)
        began = trio.current_time()
        told = await cluster.ask(left, Metadata(("orders",)), "kafka")
        assert {each.error for each in told.topics[0].partitions} == {
            ErrorCode.LEADER_NOT_AVAILABLE
        }
        assert trio.current_time() - began < NOTICED_S

    play(body)


def test_entries_that_come_after_their_leader_has_stepped_down_stop_no_election(play):
    async def body(cluster):
        await cluster.create(replication=2)
        group = cluster.group()
        leader = cluster.leader(group)
        led = cluster.members[leader].consensus.replica(group)
        (other,) = led.configuration.voters - {leader}
        receiver = cluster.members[other].consensus
        arrived, receive = [], receiver.receive

        def keeps(sender, delivery):
            arrived.append(bytes(delivery))
            receive(sender, delivery)

        receiver.receive = keeps
        await cluster.produce_surely(b"a")
        receiver.receive = receive
        late = [delivery for delivery in arrived if holds_entries(delivery, group)][-1]

        cluster.cut = [{leader, other}]
        await cluster.until(lambda: led.role is not Role.LEADER, "an end of a leader alone")
        receive(leader, memoryview(late))
        assert receiver.leaders.of(group).node == leader
        cluster.cut = []
        await cluster.until(lambda: cluster.leader(group) is not None, "another term", 5)

    play(body)


def holds_entries(delivery, group):
    return any(
        getattr(item, "group", None) == group and isinstance(item.message, Append)
        for item in peer_codec.split(memoryview(delivery))
    )
