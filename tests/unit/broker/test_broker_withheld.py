"""min.insync.replicas above the majority: acks=all waits for that many, or says that they are not.

Kafka's NOT_ENOUGH_REPLICAS refuses a batch before it is written, NOT_ENOUGH_REPLICAS_AFTER_APPEND
says that it was written and is not held by as many as the topic asks for.
"""

import pytest
import trio

from appliance.errors import ErrorCode
from appliance.wire.requests import Produce, ProducePartition, ProduceTopic
from tests.unit.broker.three_nodes import three_nodes

AFTER = ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND


@pytest.fixture
def wanting(world, run):
    """Runs a test's body in a cluster whose topic wants a number of replicas in sync."""

    def runs(count, body):
        async def main():
            async with three_nodes(world) as cluster:
                await cluster.create(settings=(("min.insync.replicas", str(count)),))
                state = cluster.members[1].node.policies.state
                (preferred, *_) = state.membership.assignment(cluster.group()).replicas
                await cluster.until(
                    lambda: cluster.leader(cluster.group()) == preferred, "the preferred leader"
                )
                leader = preferred
                await body(cluster, leader, [n for n in (1, 2, 3) if n != leader])

        run(main)

    return runs


async def produce(cluster, leader, *, acks=-1, timeout_ms=30_000, producer=(-1, -1, -1)):
    part = ProducePartition(0, cluster.world.batch(b"value", producer=producer))
    request = Produce(acks, timeout_ms, (ProduceTopic("orders", (part,)),))
    return (await cluster.ask(leader, request)).topics[0].partitions[0].error


def hold_back(cluster, number):
    """A node whose disk takes nothing until the returned event is set."""
    gate = trio.Event()
    cluster.disks[number].gates[cluster.group()] = gate
    return gate


def test_as_many_as_are_wanted_hold_what_is_acknowledged(wanting):
    async def body(cluster, leader, others):
        assert await produce(cluster, leader) is ErrorCode.NONE
        gate = hold_back(cluster, others[0])
        answers = []

        async def asks():
            answers.append(await produce(cluster, leader))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(asks)
            await trio.sleep(2)
            replica = cluster.members[leader].consensus.replica(cluster.group())
            assert replica.high_watermark == 2, "a majority has decided it"
            assert not answers, "and two of three are not three"
            assert await produce(cluster, leader, acks=1) is ErrorCode.NONE
            del cluster.disks[others[0]].gates[cluster.group()]
            gate.set()
        assert answers == [ErrorCode.NONE]
        assert cluster.held(others[0]) >= 2

    wanting(3, body)


def test_a_majority_is_enough_where_no_more_are_wanted(wanting):
    async def body(cluster, leader, others):
        hold_back(cluster, others[0])
        assert await produce(cluster, leader) is ErrorCode.NONE

    wanting(2, body)


def test_the_producers_own_time_ends_the_wait(wanting):
    async def body(cluster, leader, others):
        hold_back(cluster, others[0])
        begun = trio.current_time()
        assert await produce(cluster, leader, timeout_ms=1_500) is AFTER
        assert 1.5 <= trio.current_time() - begun < 3

    wanting(3, body)


def test_a_node_that_is_lost_ends_the_wait_and_then_refuses_what_comes(wanting):
    async def body(cluster, leader, others):
        hold_back(cluster, others[0])
        answers = []

        async def asks():
            answers.append(await produce(cluster, leader))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(asks)
            await trio.sleep(0.3)
            assert not answers
            cluster.kill(others[0])
            with trio.fail_after(10):
                while not answers:  # noqa: ASYNC110
                    await trio.sleep(0.05)
        assert answers == [AFTER]
        assert await produce(cluster, leader) is ErrorCode.NOT_ENOUGH_REPLICAS
        assert await produce(cluster, leader, acks=1) is ErrorCode.NONE

    wanting(3, body)


def test_a_retry_of_what_a_majority_holds_waits_for_as_many_too(wanting):
    async def body(cluster, leader, others):
        gate = hold_back(cluster, others[0])
        producer = (7, 0, 0)
        assert await produce(cluster, leader, timeout_ms=500, producer=producer) is AFTER
        assert await produce(cluster, leader, timeout_ms=500, producer=producer) is AFTER
        del cluster.disks[others[0]].gates[cluster.group()]
        gate.set()
        assert await produce(cluster, leader, producer=producer) is ErrorCode.NONE
        replica = cluster.members[leader].consensus.replica(cluster.group())
        assert replica.high_watermark == 1, "it was written once"

    wanting(3, body)


def test_who_loses_leadership_says_so_to_those_who_wait(wanting):
    async def body(cluster, leader, others):
        hold_back(cluster, others[0])
        answers = []

        async def asks():
            answers.append(await produce(cluster, leader))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(asks)
            await trio.sleep(0.3)
            cluster.members[leader].consensus.replica(cluster.group()).hand_over(others[1])
            with trio.fail_after(10):
                while not answers:  # noqa: ASYNC110
                    await trio.sleep(0.05)
        assert answers == [ErrorCode.NOT_LEADER_OR_FOLLOWER]

    wanting(3, body)
