"""Leadership handed over on purpose: nothing fails for it, and clients learn where to go."""

from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from appliance.errors import ErrorCode
from appliance.limits import RAFT_ELECTION_TICKS, RAFT_TICK_MS
from tests.unit.broker.three_nodes import in_cluster

GIVEN_UP_S = RAFT_ELECTION_TICKS * RAFT_TICK_MS / 1000
SOON_S = 0.2
"""What a planned transfer may cost in the cluster's own time."""


@pytest.fixture
def play(world, run):
    return in_cluster(world, run)


class Scene:
    """A partition, who leads it, who is to, and what was answered to whom wrote meanwhile."""

    def __init__(self, cluster, nursery):
        self.cluster = cluster
        self.nursery = nursery
        self.group = cluster.group()
        self.leader = cluster.leader(self.group)
        self.to = next(number for number in (1, 2, 3) if number != self.leader)
        self.parts = {}

    @property
    def replica(self):
        return self.cluster.members[self.leader].consensus.replica(self.group)

    def close_gate(self, number):
        """From here on nothing becomes durable on a node, until the event is set."""
        gate = self.cluster.disks[number].gates[self.group] = trio.Event()
        return gate

    async def write(self, values, producer):
        """Begins to write; what becomes of it is in `parts`."""
        for sequence, value in enumerate(values):
            self.nursery.start_soon(self._write, value, (producer, 0, sequence))
            await trio.testing.wait_all_tasks_blocked()

    async def _write(self, value, producer):
        self.parts[value] = await self.cluster.produce(self.leader, value, producer=producer)

    async def answered(self, values):
        await self.cluster.until(lambda: all(value in self.parts for value in values), "answers", 5)
        return [self.parts[value] for value in values]


@asynccontextmanager
async def scene_of(cluster):
    await cluster.create()
    assert await cluster.produce_surely(b"before") == 0
    async with trio.open_nursery() as nursery:
        yield Scene(cluster, nursery)
        nursery.cancel_scope.cancel()


def test_what_is_under_way_is_acknowledged_by_whoever_proposed_it(play):
    async def body(cluster):
        async with scene_of(cluster) as scene:
            gate = scene.close_gate(scene.leader)
            values = [b"one", b"two", b"three"]
            await scene.write(values, producer=7)
            others = [number for number in (1, 2, 3) if number != scene.leader]
            held = scene.replica.log.last.index
            await cluster.until(
                lambda: all((scene.replica.core.matched(n) or 0) >= held for n in others), "copies"
            )
            assert not scene.parts
            scene.replica.hand_over(scene.to)
            await cluster.until(lambda: cluster.leader(scene.group) == scene.to, "the other", 1)
            assert not scene.parts
            gate.set()
            parts = await scene.answered(values)
            assert [part.error for part in parts] == [ErrorCode.NONE] * 3
            assert [part.base_offset for part in parts] == [1, 2, 3]
            again = await cluster.produce(scene.to, b"three", producer=(7, 0, 2))
            assert (again.error, again.base_offset) == (ErrorCode.NONE, 3)

    play(body)


def test_what_comes_meanwhile_is_told_who_took_over(play):
    async def body(cluster):
        async with scene_of(cluster) as scene:
            gate = scene.close_gate(scene.to)
            await scene.write([b"under way"], producer=7)
            scene.replica.hand_over(scene.to)
            await scene.write([b"late"], producer=8)
            assert scene.replica.leaving
            assert b"late" not in scene.parts
            began = trio.current_time()
            gate.set()
            early, late = await scene.answered([b"under way", b"late"])
            assert trio.current_time() - began < SOON_S
            assert early.error is ErrorCode.NONE
            assert late.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
            assert late.leader is not None
            assert late.leader.node_id == scene.to
            part = await cluster.produce(scene.to, b"late", producer=(8, 0, 0))
            assert part.error is ErrorCode.NONE

    play(body)


def test_a_leader_whose_successor_does_not_take_over_goes_on(play):
    async def body(cluster):
        async with scene_of(cluster) as scene:
            gate = scene.close_gate(scene.to)
            await scene.write([b"under way"], producer=7)
            scene.replica.hand_over(scene.to)
            began = trio.current_time()
            await scene.write([b"late"], producer=8)
            early, late = await scene.answered([b"under way", b"late"])
            assert (early.error, late.error) == (ErrorCode.NONE, ErrorCode.NONE)
            assert trio.current_time() - began < GIVEN_UP_S + SOON_S
            assert scene.replica.serving
            gate.set()

    play(body)


def test_what_the_next_leader_does_not_decide_is_not_waited_for_longer_than_an_election(play):
    async def body(cluster):
        async with scene_of(cluster) as scene:
            scene.close_gate(scene.leader)
            await scene.write([b"under way"], producer=7)
            held = scene.replica.log.last.index
            await cluster.until(
                lambda: (scene.replica.core.matched(scene.to) or 0) >= held, "a copy"
            )
            scene.replica.hand_over(scene.to)
            await cluster.until(lambda: cluster.leader(scene.group) == scene.to, "the other", 1)
            began = trio.current_time()
            (part,) = await scene.answered([b"under way"])
            assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
            assert part.leader is not None
            assert part.leader.node_id == scene.to
            assert trio.current_time() - began < GIVEN_UP_S + SOON_S
            again = await cluster.produce(scene.to, b"under way", producer=(7, 0, 0))
            assert (again.error, again.base_offset) == (ErrorCode.NONE, 1)
            cluster.disks[scene.leader].gates[scene.group].set()

    play(body)
