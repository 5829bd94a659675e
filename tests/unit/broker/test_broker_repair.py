"""Damage to one replica's files is repaired by the others, over the real sealed storage.

Three nodes in one process, each with its directory; files are changed while a node is down or up.
What is asked: no client sees an error that clients do not handle, nothing is lost, and the damaged
replica holds and serves everything again.
"""

import os
from uuid import UUID

import pytest
import trio

from appliance.broker.foundation import CATALOGUE_LOG, GROUPS_LOG
from appliance.errors import ErrorCode, StorageError
from appliance.storage import log as log_module
from appliance.storage.blockfile import PosixDisk
from appliance.storage.node import NodeDirectory
from appliance.types import ClusterId, NodeId
from appliance.wire.kafka.records import decode_batch, split, stamp
from tests.unit.broker.three_nodes import Cluster, three_nodes

from .test_with_real_storage import Entropy, Keys

CLUSTER = ClusterId(UUID(int=77))
RECORDS = 12
SEGMENT_BYTES = 100_000
HANDLED = {ErrorCode.NONE, ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.KAFKA_STORAGE_ERROR}
"""What stock clients deal with by themselves."""


def value(number):
    return bytes([number]) * 30_000


class Directories(Cluster):
    """Nodes over real directories."""

    def __init__(self, world, nursery, root):
        super().__init__(world, nursery)
        self.root = root
        self.keys = Keys()
        self.storages = {}

    def path(self, number):
        return self.root / f"node-{number}"

    async def storage(self, number, _disk, nursery):
        path = self.path(number)
        made = path.exists()
        path.mkdir(exist_ok=True)
        disk = PosixDisk(path)
        if made:
            storage = await NodeDirectory.open(disk, keys=self.keys, entropy=Entropy(), stamp=stamp)
        else:
            storage = await NodeDirectory.create(
                disk, cluster=CLUSTER, node=NodeId(number), domain=self.domain, keys=self.keys,
                entropy=Entropy(), stamp=stamp,
            )  # fmt: skip
        self.storages[number] = storage
        nursery.start_soon(self._live_in, storage, disk)
        return storage

    @staticmethod
    async def _live_in(storage, disk):
        try:
            await storage.run()
        finally:
            disk.unlock()

    async def filled(self):
        """A partition of several files, the same everywhere; its group and its leader."""
        await self.create()
        for number in range(RECORDS):
            assert await self.produce_surely(value(number)) == number
        await self.held_everywhere(RECORDS)
        return self.group(), self.leader(self.group())

    async def held_everywhere(self, records):
        await self.until(
            lambda: all(self.held(number) == records for number in self.members),
            f"{records} records everywhere",
        )

    def files(self, number, group):
        """The data files that one node's log names, the oldest first."""
        entries = self.storages[number]._open[group][1].manifest.files
        return [self.path(number) / str(group) / str(entry.file) for entry in entries]

    async def fetched(self, number, offset):
        reply = await self.ask(number, self.world.fetch_request(offset), "kafka")
        return reply.topics[0].partitions[0]

    async def read_all(self, records=RECORDS):
        """As a client does: asks whoever leads, and again where clients would."""
        values = []
        with trio.fail_after(30):
            while len(values) < records:
                leader = self.leader(self.group())
                part = await self.fetched(leader, len(values)) if leader is not None else None
                if part is not None:
                    assert part.error in HANDLED, part
                    for piece in part.batches:
                        for batch in split(memoryview(piece)):
                            values += [
                                each.value
                                for each in decode_batch(batch, max_decompressed_bytes=1 << 20)
                            ]
                await trio.sleep(0.02)
        return values

    def whole(self, number, group):
        replica = self.members[number].consensus.replica(group)
        return (
            replica is not None
            and not replica.core.damaged
            and self.storages[number].known_last(group) is None
        )

    async def serves_alone(self, number, group, records=RECORDS):
        """One node leads and serves every record from its own files."""
        await self.until(lambda: self.whole(number, group), "a replica that is whole")
        await self.held_everywhere(records)
        for other in self.members.keys() - {number}:
            there = self.members[other].consensus.replica(group)
            if there.serving:
                there.hand_over(NodeId(number))
        await self.until(lambda: self.leader(group) == number, "the repaired replica to lead")
        assert await self.read_all(records) == [value(each) for each in range(records)]


def flip(path):
    content = bytearray(path.read_bytes())
    content[50_000] ^= 1
    path.write_bytes(content)


def flip_in_place(path, at=50_000):
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), at)


def shorten(path):
    path.write_bytes(path.read_bytes()[:20_000])


@pytest.fixture
def repaired(world, tmp_path, monkeypatch):
    """Runs a test's body in a cluster over real directories, with small files."""
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", SEGMENT_BYTES)

    def make(world, nursery):
        return Directories(world, nursery, tmp_path)

    def runs(body):
        async def main():
            with trio.fail_after(60):
                async with three_nodes(world, make) as cluster:
                    await body(cluster)

        trio.run(main)

    return runs


@pytest.mark.parametrize(("harm", "which"), [(flip, -1), (shorten, 1)])
def test_a_file_changed_while_its_node_was_down_is_filled_by_the_others(repaired, harm, which):
    async def body(cluster):
        group, leader = await cluster.filled()
        hurt = next(number for number in (1, 2, 3) if number != leader)
        paths = cluster.files(hurt, group)
        cluster.kill(hurt)
        await trio.sleep(0.2)
        harm(paths[which])
        await cluster.start(hurt)
        await cluster.serves_alone(hurt, group)
        assert paths[which].exists(), "what is damaged is kept"

    repaired(body)


def test_a_leader_that_cannot_read_hands_over_and_no_client_is_told_of_more(repaired):
    async def body(cluster):
        group, leader = await cluster.filled()
        path = cluster.files(leader, group)[0]
        flip_in_place(path)
        log = cluster.members[leader].consensus.replica(group).log
        cluster.storages[leader]._cache.forget(log._tail)
        assert await cluster.read_all() == [value(each) for each in range(RECORDS)]
        await cluster.until(lambda: cluster.leader(group) not in {None, leader}, "another leader")
        await cluster.serves_alone(leader, group)
        assert path.exists(), "what is damaged is kept"

    repaired(body)


def test_what_the_scrubber_finds_is_repaired_before_anybody_reads_it(repaired):
    async def body(cluster):
        group, leader = await cluster.filled()
        hurt = next(number for number in (1, 2, 3) if number != leader)
        flip_in_place(cluster.files(hurt, group)[0])
        with trio.move_on_after(1.0):
            await cluster.storages[hurt].scrubber.run(0.1)
        await cluster.until(
            lambda: group not in cluster.storages[hurt].scrubber.damaged, "the repair"
        )
        await cluster.serves_alone(hurt, group)

    repaired(body)


def test_after_a_failed_sync_a_replica_is_built_anew_and_nothing_is_written_twice(
    repaired, monkeypatch
):
    async def body(cluster):
        group, leader = await cluster.filled()
        file = cluster.storages[leader]._open[group][1].active.file
        path, sync = cluster.files(leader, group)[-1], type(file).sync

        def may_fail(self):
            if self is file:
                raise StorageError("the sync failed")
            sync(self)

        monkeypatch.setattr(type(file), "sync", may_fail)
        again = await cluster.produce_surely(value(RECORDS), producer=(5, 0, 0))
        assert again == RECORDS
        assert cluster.leader(group) != leader
        await cluster.serves_alone(leader, group, RECORDS + 1)
        assert path.exists()
        assert path not in cluster.files(leader, group)

    repaired(body)


@pytest.mark.parametrize("group", [CATALOGUE_LOG, GROUPS_LOG])
@pytest.mark.parametrize("leads", [False, True])
def test_an_internal_log_is_repaired_while_it_is_open_and_what_was_applied_stays(
    repaired, group, leads
):
    async def body(cluster):
        await cluster.create()
        for name in ("a", "b", "c"):
            await cluster.create(name)
        await cluster.members[1].node.policies.next_producer_id()
        leader = cluster.leader(group)
        hurt = leader if leads else next(number for number in (1, 2, 3) if number != leader)
        member = cluster.members[hurt]
        before, state = member.consensus.replica(group), member.node.policies.state
        version, applied = state.policy, before.applied
        path = cluster.files(hurt, group)[0]
        flip_in_place(path, 250)
        with trio.move_on_after(1.0):
            await cluster.storages[hurt].scrubber.run(0.1)
        await cluster.until(lambda: member.consensus.replica(group) is not before, "a new replica")
        await cluster.until(lambda: cluster.whole(hurt, group), "a replica that is whole")
        assert member.node.policies.state is state
        assert state.policy == version
        assert set(state.topics) == {"orders", "a", "b", "c"}
        after = member.consensus.replica(group)
        await cluster.until(lambda: after.applied >= applied, "what was applied before")
        assert path.exists(), "what is damaged is kept"
        there = next(
            each.consensus.replica(group) for each in cluster.members.values()
            if each.consensus.replica(group).serving
        )  # fmt: skip
        if there is not after:
            there.hand_over(NodeId(hurt))
        await cluster.until(lambda: cluster.leader(group) == hurt, "the repaired replica to lead")
        await cluster.create("later")
        assert await cluster.produce_surely(b"x", "later") == 0
        kept = [each.node.policies.state.kept() for each in cluster.members.values()]
        assert kept[0] == kept[1] == kept[2]

    repaired(body)
