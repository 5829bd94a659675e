"""Readers that name their rack are served there, and never see what is not committed (KIP-392)."""

from typing import ClassVar

import pytest
import trio

from appliance.errors import ErrorCode
from appliance.types import Offset
from appliance.wire.requests import DrainNode, Fetch, FetchPartition, FetchTopic
from tests.unit.broker.three_nodes import Cluster, three_nodes

NOT_HERE = ErrorCode.NOT_LEADER_OR_FOLLOWER


class Racked(Cluster):
    racks: ClassVar[dict[int, str]] = {1: "red", 2: "green", 3: "blue"}


@pytest.fixture
def in_racks(world, run):
    def runs(body):
        async def main():
            async with three_nodes(world, Racked) as cluster:
                await cluster.create()
                await cluster.produce_surely(b"one")
                await settled(cluster)
                await body(cluster, Scene(cluster))

        run(main)

    return runs


async def settled(cluster):
    """Waits until the first of the partition's nodes leads, and will go on doing so."""
    state, group = cluster.members[1].node.policies.state, cluster.group()
    (preferred, *_) = state.membership.assignment(group).replicas
    await cluster.until(lambda: cluster.leader(group) == preferred, "the preferred leader")


class Scene:
    """Who leads, who follows, and how each is read from."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.group = cluster.group()
        self.leader = cluster.leader(self.group)
        self.follower, self.other = (n for n in (1, 2, 3) if n != self.leader)

    def replica(self, number):
        return self.cluster.members[number].consensus.replica(self.group)

    async def fetch(self, number, rack, offset=0, wait_ms=0, **changes):
        part = FetchPartition(0, Offset(offset), 1 << 20, **changes)
        request = Fetch(wait_ms, 1, 1 << 20, 0, (FetchTopic("orders", (part,)),), rack_id=rack)
        result = await self.cluster.ask(number, request, listener="kafka")
        return result.topics[0].partitions[0]

    async def in_step(self):
        """Waits until every node has applied, and the leader knows that each holds, everything."""
        end = self.replica(self.leader).high_watermark
        await self.cluster.until(
            lambda: (
                all(self.replica(n).high_watermark == end for n in (1, 2, 3))
                and all(
                    self.replica(self.leader).core.matched(n)
                    == self.replica(self.leader).core.commit
                    for n in (self.follower, self.other)
                )
            ),
            "the same log everywhere",
        )


def test_a_reader_is_sent_to_its_rack_and_served_there(in_racks):
    async def body(cluster, scene):
        await scene.in_step()
        rack = Racked.racks[scene.follower]
        told = await scene.fetch(scene.leader, rack)
        assert (told.error, told.preferred_read_replica) == (ErrorCode.NONE, scene.follower)
        assert told.batches == ()
        assert told.high_watermark == 1
        there = await scene.fetch(scene.follower, rack)
        assert (there.error, there.preferred_read_replica) == (ErrorCode.NONE, -1)
        assert len(there.batches) == 1
        assert there.high_watermark == 1

    in_racks(body)


def test_who_is_in_no_rack_or_in_the_leaders_or_in_one_without_a_replica_reads_from_the_leader(
    in_racks,
):
    async def body(cluster, scene):
        await scene.in_step()
        for rack in ("", Racked.racks[scene.leader], "violet"):
            part = await scene.fetch(scene.leader, rack)
            assert (part.preferred_read_replica, len(part.batches)) == (-1, 1)
            part = await scene.fetch(scene.follower, rack)
            assert part.error is NOT_HERE, "a follower serves its own rack only"

    in_racks(body)


def test_nobody_is_sent_to_a_replica_that_lags_or_is_drained_or_is_gone(in_racks):
    async def body(cluster, scene):
        await scene.in_step()
        rack = Racked.racks[scene.follower]
        await cluster.ask(scene.leader, DrainNode(scene.follower, True))
        assert (await scene.fetch(scene.leader, rack)).preferred_read_replica == -1
        await cluster.ask(scene.leader, DrainNode(scene.follower, False))
        assert (await scene.fetch(scene.leader, rack)).preferred_read_replica == scene.follower
        cluster.silence(scene.follower)
        await cluster.produce_surely(b"two")
        part = await scene.fetch(scene.leader, rack)
        assert (part.preferred_read_replica, len(part.batches)) == (-1, 2)

    in_racks(body)


def test_a_follower_shows_what_it_knows_to_be_committed_and_waits_for_more(in_racks):
    async def body(cluster, scene):
        await scene.in_step()
        rack = Racked.racks[scene.follower]
        replica = scene.replica(scene.follower)
        found = []

        async def reads():
            found.append(await scene.fetch(scene.follower, rack, offset=1, wait_ms=20_000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads)
            await trio.sleep(1)
            assert not found, "there is nothing to show yet"
            await cluster.produce_surely(b"two")
            with trio.fail_after(5):
                while not found:  # noqa: ASYNC110
                    await trio.sleep(0.01)
        assert len(found[0].batches) == 1
        assert found[0].high_watermark == replica.high_watermark == 2
        beyond = await scene.fetch(scene.follower, rack, offset=3)
        assert beyond.error is NOT_HERE, "what is not there is the leader's to say"

    in_racks(body)


def test_a_follower_that_hears_no_leader_sends_its_readers_away(in_racks):
    async def body(cluster, scene):
        await scene.in_step()
        rack = Racked.racks[scene.follower]
        cluster.isolate(scene.follower)
        await trio.sleep(3)
        assert (await scene.fetch(scene.follower, rack)).error is NOT_HERE

    in_racks(body)


def test_a_reader_whose_log_went_astray_is_told_where(in_racks):
    async def body(cluster, scene):
        await scene.in_step()
        epoch = scene.replica(scene.leader).term
        same = await scene.fetch(scene.leader, "", offset=1, last_fetched_epoch=epoch)
        assert (same.error, same.diverging) == (ErrorCode.NONE, None)
        astray = await scene.fetch(scene.leader, "", offset=9, last_fetched_epoch=epoch)
        assert (astray.diverging.epoch, astray.diverging.end_offset) == (epoch, 1)
        assert astray.batches == ()
        unknown = await scene.fetch(scene.leader, "", offset=1, last_fetched_epoch=epoch + 5)
        assert unknown.error is ErrorCode.OFFSET_OUT_OF_RANGE

    in_racks(body)


def test_a_session_is_told_of_the_nearer_replica_too(in_racks):
    async def body(cluster, scene):
        rack = Racked.racks[scene.follower]
        await scene.in_step()
        part = FetchPartition(0, Offset(1), 1 << 20)
        opened = Fetch(0, 1, 1 << 20, 0, (FetchTopic("orders", (part,)),), session_epoch=0)
        first = await cluster.ask(scene.leader, opened, listener="kafka")
        more = Fetch(0, 1, 1 << 20, 0, (), first.session_id, 1, rack)
        told = await cluster.ask(scene.leader, more, listener="kafka")
        assert told.topics[0].partitions[0].preferred_read_replica == scene.follower

    in_racks(body)
