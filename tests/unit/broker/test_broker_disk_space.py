"""What has expired leaves the disk on every replica, and nobody needs it any more.

Three nodes in one process, each with a directory of its own, over the real sealed storage.
"""

import pytest
import trio

from appliance.broker import beginning as beginning_module
from appliance.broker import commands as commands_module
from appliance.broker.foundation import CATALOGUE_LOG, GROUPS_LOG
from appliance.coordination.cluster_commands import CUT_LEVEL
from appliance.errors import ErrorCode
from appliance.storage import log as log_module
from appliance.types import NodeId, PartitionIndex
from appliance.wire.kafka.records import decode_batch, split
from appliance.wire.requests import (
    CommitPartition,
    CommitTopic,
    DeleteRecords,
    DeleteRecordsPartition,
    DeleteRecordsTopic,
    DeleteTopics,
    OffsetCommit,
)

from .test_broker_repair import SEGMENT_BYTES, Directories
from .three_nodes import POLICY, three_nodes

PRODUCER = 7
RECORDS = 12
BYTES = RECORDS * 30_000


def value(number):
    return bytes([number]) * 30_000


class Space(Directories):
    """Directories, what they take, and what is asked of them."""

    def used(self, number):
        folder = self.path(number) / str(self.group())
        return sum(path.stat().st_size for path in folder.iterdir() if "." not in path.name)

    def begins(self, number):
        """The first index of one node's log."""
        return self.members[number].consensus.replica(self.group()).log.first_index

    async def write(self, numbers):
        """One batch for each number, of one producer, with the number as its sequence."""
        for number in numbers:
            offset = await self.produce_surely(value(number), producer=(PRODUCER, 0, number))
            assert offset == number

    async def delete(self, offset):
        part = DeleteRecordsPartition(PartitionIndex(0), offset)
        request = DeleteRecords((DeleteRecordsTopic("orders", (part,)),), 1000)
        reply = await self.ask(self.leader(self.group()), request)
        (told,) = reply.topics[0].partitions
        assert told.error is ErrorCode.NONE

    async def lead(self, number):
        group = self.group()

        def leads():
            leader = self.leader(group)
            if leader is not None and leader != number:
                there = self.members[leader].consensus.replica(group)
                if number in there.configuration.voters and there.core.matched(NodeId(number)):
                    try:
                        there.hand_over(NodeId(number))
                    except Exception:  # noqa: BLE001 - asked again
                        return False
            return leader == number

        await self.until(leads, f"node {number} to lead")

    async def read_from(self, start, end):
        """What the leader serves, from its own files."""
        values = []
        while len(values) < end - start:
            part = await self.fetched(self.leader(self.group()), start + len(values))
            assert part.error is ErrorCode.NONE, part
            for piece in part.batches:
                for batch in split(memoryview(piece)):
                    records = decode_batch(batch, max_decompressed_bytes=1 << 20)
                    values += [each.value for each in records]
        return values

    async def commit(self, offset):
        """Has a group's offset stored, by whoever coordinates it."""
        part = CommitTopic("orders", (CommitPartition(0, offset, metadata="m" * 2000),))
        with trio.fail_after(30):
            while True:
                leader = self.leader(GROUPS_LOG)
                if leader is not None:
                    request = OffsetCommit("readers", -1, "", (part,))
                    reply = await self.ask(leader, request, "kafka")
                    if reply.topics[0].partitions[0][1] is ErrorCode.NONE:
                        return
                await trio.sleep(0.02)

    async def delete_topic(self, topic):
        reply = await self.ask(self.leader(CATALOGUE_LOG), DeleteTopics((topic,), 1000))
        assert reply.topics[0].error is ErrorCode.NONE, reply

    async def grow_catalogue(self, times):
        """Sets so many policies, and has ids given out; the last policy's version."""
        for _ in range(times):
            catalogue = self.members[self.leader(CATALOGUE_LOG)].node.policies
            await catalogue.next_producer_id()
            version = catalogue.policy()[0]
            text = f"{POLICY}# {version:2000}\n"
            version = await catalogue.set_policy(text, expected_version=version)
        return version

    def agree_on_the_catalogue(self):
        kept = [member.node.policies.state.kept() for member in self.members.values()]
        return kept[0] == kept[1] == kept[2]

    def committed(self, number):
        store = self.members[number].node._coordinator._store
        return [kept.offset for kept in store.offsets("readers").values()]

    def groups_log(self, number):
        return self.members[number].consensus.replica(GROUPS_LOG).log


@pytest.fixture
def play(world, tmp_path, monkeypatch):
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", SEGMENT_BYTES)

    def runs(body):
        async def main():
            with trio.fail_after(120):
                async with three_nodes(world, lambda w, n: Space(w, n, tmp_path)) as space:
                    await space.create()
                    await body(space)

        trio.run(main)

    return runs


@pytest.mark.parametrize("deleted", [7, -1])
def test_a_node_that_was_down_meanwhile_begins_anew_and_holds_and_knows_the_same(
    play, monkeypatch, deleted
):
    """It leads then: it serves every record from the start on, and knows a retry of one below."""
    monkeypatch.setattr(beginning_module, "MAX_KEPT_FOR_LAGGING_BYTES", 0)

    async def body(space):
        await space.write(range(4))
        await space.held_everywhere(4)
        await space.lead(1)
        space.kill(3)
        await space.write(range(4, RECORDS))
        await space.delete(deleted)
        await space.until(
            lambda: all(space.begins(number) > 5 for number in (1, 2)), "space on those that live"
        )
        await space.start(3)
        await space.until(
            lambda: space.held(3) == RECORDS and space.begins(3) > 5,
            "the one that was down to begin anew",
        )
        await space.lead(3)
        start = RECORDS if deleted == -1 else deleted
        await space.write(range(RECORDS, RECORDS + 3))
        held = await space.read_from(start, RECORDS + 3)
        assert held == [value(number) for number in range(start, RECORDS + 3)]
        last = RECORDS - 1
        again = await space.produce(3, value(last), producer=(PRODUCER, 0, last))
        assert (again.error, again.base_offset) == (ErrorCode.NONE, last)
        assert space.held(3) == RECORDS + 3

    play(body)


def test_deleted_records_leave_all_disks_and_a_retry_of_one_is_known_after_a_restart(play):
    async def body(space):
        await space.write(range(RECORDS))
        await space.held_everywhere(RECORDS)
        assert all(space.used(number) > BYTES for number in space.members)
        await space.delete(-1)
        await space.until(
            lambda: all(space.used(number) < BYTES / 10 for number in space.members), "space"
        )
        group = space.group()
        for number in (1, 2, 3):
            space.kill(number)
        await trio.sleep(0.2)
        for number in (1, 2, 3):
            await space.start(number)
        await space.until(lambda: space.leader(group) is not None, "a leader", 60)
        await space.until(
            lambda: all("orders" in m.node.policies.state.topics for m in space.members.values()),
            "the topic on every node",
        )
        offset = await space.produce_surely(value(11), producer=(PRODUCER, 0, 11))
        assert offset == 11
        assert await space.produce_surely(value(12), producer=(PRODUCER, 0, 12)) == 12

    play(body)


def test_what_a_member_lacks_is_kept_for_it_up_to_a_bound(play):
    async def body(space):
        await space.write(range(2))
        await space.held_everywhere(2)
        await space.lead(1)
        space.kill(3)
        await space.write(range(2, RECORDS))
        await space.delete(-1)
        replica = space.members[1].consensus.replica(space.group())
        await replica.beginning.free(replica.high_watermark)
        assert space.used(1) > 0.8 * BYTES
        await space.start(3)
        await space.until(lambda: space.held(3) == RECORDS, "all records")
        assert space.begins(1) == 1  # the member itself lets go of what it has, as soon as it likes

    play(body)


def test_the_log_of_groups_stays_small_and_a_node_that_was_down_takes_up_its_snapshot(
    play, monkeypatch
):
    monkeypatch.setattr(commands_module, "SNAPSHOT_AFTER_BYTES", 20_000)
    monkeypatch.setattr(beginning_module, "MAX_KEPT_FOR_LAGGING_BYTES", 0)

    async def body(space):
        leader = space.leader(GROUPS_LOG)
        down = next(number for number in (2, 3, 1) if number != leader)
        await space.commit(0)
        space.kill(down)
        for offset in range(1, 60):
            await space.commit(offset)
        log = space.groups_log(space.leader(GROUPS_LOG))
        assert sum(segment.size_bytes for segment in log.segments()) < 60_000
        assert log.first_index > 20
        await trio.sleep(0.2)
        await space.start(down)
        await space.until(lambda: GROUPS_LOG in space.storages[down].partitions(), "its log")
        await space.until(
            lambda: (
                space.members[down].consensus.replica(GROUPS_LOG) is not None
                and space.groups_log(down).first_index > 20
                and space.committed(down) == [59]
            ),
            "the snapshot on the node that was down",
        )
        for number in (1, 2, 3):
            space.kill(number)
        await trio.sleep(0.2)
        for number in (1, 2, 3):
            await space.start(number)
        await space.until(lambda: space.leader(GROUPS_LOG) is not None, "a coordinator")
        await space.commit(60)
        await space.until(
            lambda: all(space.committed(number) == [60] for number in (1, 2, 3)), "all offsets"
        )

    play(body)


def test_the_catalogue_stays_small_and_a_node_that_was_down_is_told_what_it_missed(
    play, monkeypatch
):
    monkeypatch.setattr(commands_module, "SNAPSHOT_AFTER_BYTES", 20_000)
    monkeypatch.setattr(beginning_module, "MAX_KEPT_FOR_LAGGING_BYTES", 0)

    async def body(space):
        await space.create("gone")
        gone = space.group("gone")
        down = next(number for number in (2, 3, 1) if number != space.leader(CATALOGUE_LOG))
        await space.until(lambda: gone in space.storages[down].partitions(), "the topic's log")
        space.kill(down)
        await space.delete_topic("gone")
        await space.create("new")
        version = await space.grow_catalogue(40)
        catalogue = space.members[space.leader(CATALOGUE_LOG)].node.policies
        assert catalogue.log.replica.log.first_index > 20
        assert sum(each.size_bytes for each in catalogue.log.replica.log.segments()) < 90_000
        await trio.sleep(0.2)
        await space.start(down)
        await space.until(
            lambda: space.members[down].node.policies.policy()[0] == version, "the newest policy"
        )
        there = space.members[down]
        assert there.node.policies.log.replica.log.first_index > 20
        await space.until(lambda: gone not in space.storages[down].partitions(), "the removal")
        await space.until(lambda: space.held(down, "new") is not None, "the new topic's replica")
        for number in (1, 2, 3):
            space.kill(number)
        await trio.sleep(0.2)
        for number in (1, 2, 3):
            await space.start(number)
        await space.until(lambda: space.leader(space.group("new")) is not None, "a leader")
        assert await space.produce_surely(b"x", "new") == 0
        assert await space.grow_catalogue(1) == version + 1
        await space.until(space.agree_on_the_catalogue, "the same catalogue everywhere")

    play(body)


class Older(Space):
    """Nodes that do not know how to take up a catalogue's state."""

    async def start(self, number, **changes):
        await super().start(number, newest_level=CUT_LEVEL - 1, **changes)


def test_the_catalogue_is_not_cut_until_every_node_knows_how_to_take_it_up(
    world, tmp_path, monkeypatch
):
    monkeypatch.setattr(commands_module, "SNAPSHOT_AFTER_BYTES", 20_000)

    async def main():
        with trio.fail_after(60):
            async with three_nodes(world, lambda w, n: Older(w, n, tmp_path)) as space:
                await space.grow_catalogue(30)
                catalogue = space.members[space.leader(CATALOGUE_LOG)].node.policies
                log = catalogue.log.replica.log
                assert sum(each.size_bytes for each in log.segments()) > 60_000
                assert log.first_index == 1

    trio.run(main)
