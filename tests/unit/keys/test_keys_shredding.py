"""Shredding a topic that three nodes hold: real consensus, real files, a real Vault.

Listeners are left out: deliveries are the bytes that peers send, and the network can be cut. Every
node has a directory of its own, a login of its own and leases of its own.
"""

import shutil
import time
from contextlib import asynccontextmanager
from uuid import uuid4

import msgspec
import pytest
import trio

from appliance.broker.foundation import CATALOGUE_LOG
from appliance.crypto import statement
from appliance.errors import ErrorCode, KeyGone
from appliance.keys.lease import LeasedKeys
from appliance.keys.vault_custodian import VaultCustodian
from appliance.observe.system import SystemClock, SystemEntropy
from appliance.ports import SecretKey
from appliance.server.signer import NodeSigner
from appliance.storage.blockfile import PosixDisk
from appliance.storage.node import NodeDirectory
from appliance.types import KeyDomainId, NodeId
from appliance.wire.kafka.records import stamp
from appliance.wire.requests import DescribeKeys, ShredStep, ShredTopic

from ..broker import conftest as broker  # noqa: TID252 - tests are no installed package
from ..broker.three_nodes import Cluster, three_nodes  # noqa: TID252 - see above
from .conftest import CLUSTER

LEASE_S, RENEW_S = 1.2, 0.2
OWN_KEY = (("memorystreamer.key.domain", "topic"),)
TOPIC = "secret"
NODES = (1, 2, 3)


class SealedCluster(Cluster):
    """Nodes with real directories, keys and leases."""

    def __init__(self, world, nursery, directory, server):
        super().__init__(world, nursery)
        self.directory, self.server = directory, server
        self.keys = {}
        # Key domains stay behind in the server, so each has an id that no other test has had.
        self.domain = KeyDomainId(uuid4())

    def path(self, number):
        return self.directory / f"node-{number}"

    async def storage(self, number, _disk, nursery):
        path, entropy = self.path(number), SystemEntropy()
        provider = self.server.provider(SystemClock(), number)
        keys = LeasedKeys(provider, SystemClock(), lease_s=LEASE_S, renew_s=RENEW_S, spares=2)
        self.keys[number] = keys
        await nursery.start(keys.run)
        made = path.exists()
        path.mkdir(exist_ok=True)
        disk = PosixDisk(path)
        if made:
            storage = await NodeDirectory.open(disk, keys=keys, entropy=entropy, stamp=stamp)
        else:
            storage = await NodeDirectory.create(
                disk, cluster=CLUSTER, node=NodeId(number), domain=self.domain, keys=keys,
                entropy=entropy, stamp=stamp,
            )  # fmt: skip
        nursery.start_soon(self._live_in, storage, disk)
        nursery.start_soon(self._seal, keys, number)
        return storage

    @staticmethod
    async def _live_in(storage, disk):
        try:
            await storage.run()
        finally:
            disk.unlock()  # as the end of a process would

    async def _seal(self, keys, number):
        """Closes what is sealed in a domain that may not be used any more, as the assembly does."""
        while True:
            domain = await keys.next_sealed()
            if domain != self.domain:
                await self.members[number].node.seal_domain(domain)

    # --- what tests do ---

    def keys_of_topic(self, number):
        state = self.members[number].node.policies.state
        return state.key_domains.topics[state.topics[TOPIC].topic]

    def secrets(self, number, group):
        """The data keys that a node holds of a log, in its files and in its leases."""
        storage = self.members[number].node._foundation.storage
        held = storage._open.get(group)
        return [] if held is None else list(held[1]._data_keys.values())

    async def made(self, count=4):
        await self.create(TOPIC, settings=OWN_KEY)
        for number in range(count):
            await self.produce_surely(b"canary-%d" % number, TOPIC)
        group = self.group(TOPIC)
        await self.until(
            lambda: all(self.held(n, TOPIC) == count for n in NODES), "all of it everywhere"
        )
        return group, self.keys_of_topic(1).domain

    async def step(self, number, step):
        return await self.ask(number, ShredTopic(TOPIC, step))

    async def surely(self, step, wanted, seconds=20):
        """As the command line does: asks some node, and again until it is so."""
        with trio.fail_after(seconds):
            while True:
                for number in tuple(self.members):
                    result = await self.step(number, step)
                    if wanted(result):
                        return result
                await trio.sleep(0.1)

    async def read(self, number, offset):
        reply = await self.ask(number, broker.fetch_request(offset, topic=TOPIC), "kafka")
        return reply.topics[0].partitions[0]

    def catalogue_leader(self):
        return self.leader(CATALOGUE_LOG)


def is_wiped(secret: SecretKey) -> bool:
    return bytes(secret._material) == bytes(32)


@pytest.fixture
def play(tmp_path, server, monkeypatch):
    """Runs a body in a cluster of three nodes, with a custodian."""
    monkeypatch.setattr(broker, "Entropy", _Entropy)
    world = broker.everything()
    issued = server.authority.issue_node(1, ["localhost"])
    certificate, key = tmp_path / "node.pem", tmp_path / "node.key"
    issued.save(certificate=certificate, key=key)

    def make(given, nursery):
        cluster = SealedCluster(given, nursery, tmp_path, server)
        cluster.signer = NodeSigner(certificate, key)
        return cluster

    @asynccontextmanager
    async def custodian():
        with server.custodian_token() as token:
            held = VaultCustodian(server.nodes[NodeId(1)], token)
            try:
                yield held
            finally:
                held.close()

    def runs(body):
        async def main():
            async with three_nodes(world, make) as cluster, custodian() as vault:
                await body(cluster, vault)

        trio.run(main)

    return runs


class _Entropy(SystemEntropy):
    """Entropy whose counter tests set and nobody reads."""

    counter = 0


def said(server, certificate):
    authority = server.authority.certificate_file.read_bytes()
    return msgspec.json.decode(statement.verify(certificate, authority_pem=authority))


def test_no_copy_and_no_node_reads_a_shredded_topic_and_its_offsets_go_on(play, tmp_path, server):
    async def body(cluster, vault):
        group, old = await cluster.made()
        epoch = cluster.members[1].consensus.leaders.of(group).term
        copies = {n: tmp_path / f"copy-{n}" for n in NODES}
        for number, copy in copies.items():
            await trio.to_thread.run_sync(shutil.copytree, cluster.path(number), copy)
        secrets = [each for n in NODES for each in cluster.secrets(n, group)]
        assert len(secrets) == 3
        for number in NODES:
            described = await cluster.ask(1, DescribeKeys(node=NodeId(number)))
            assert (described.error, described.node) == (ErrorCode.NONE, number)
        began = time.monotonic()
        begun = await cluster.step(2, ShredStep.BEGIN)
        assert (begun.error, begun.domain, begun.waiting_for) == (ErrorCode.NONE, old, ())
        assert begun.is_ready
        assert all(map(is_wiped, secrets))
        assert all(old not in cluster.keys[n]._domains for n in NODES)
        for number in NODES:
            assert (await cluster.read(number, 0)).error is ErrorCode.KAFKA_STORAGE_ERROR
            part = await cluster.produce(number, b"refused", TOPIC)
            assert part.error is ErrorCode.KAFKA_STORAGE_ERROR
        early = await cluster.step(3, ShredStep.COMPLETE)
        assert early.error is ErrorCode.INVALID_REQUEST
        assert "still there" in early.message
        await vault.destroy(old)
        done = await cluster.step(3, ShredStep.COMPLETE)
        assert (done.error, done.message) == (ErrorCode.NONE, None)
        assert time.monotonic() - began < 10
        found = said(server, done.certificate)
        assert found["nodes_that_dropped_their_keys"] == [1, 2, 3]
        assert found["nodes_that_were_late"] == []
        assert await cluster.produce_surely(b"new", TOPIC) == 4
        leader = cluster.leader(cluster.group(TOPIC))
        assert cluster.group(TOPIC) != group
        below = await cluster.read(leader, 3)
        assert (below.error, below.shredded) == (ErrorCode.OFFSET_OUT_OF_RANGE, True)
        for offset, error in ((4, ErrorCode.NONE), (99, ErrorCode.OFFSET_OUT_OF_RANGE)):
            part = await cluster.read(leader, offset)
            assert (part.error, part.shredded) == (error, False)
        assert cluster.members[leader].consensus.leaders.of(cluster.group(TOPIC)).term > epoch
        await cluster.until(
            lambda: not any((cluster.path(n) / str(group)).exists() for n in NODES),
            "the old files are removed",
        )
        for number, copy in copies.items():
            await refuse_to_open(server, number, copy, group)

    play(body)


async def refuse_to_open(server, number, copy, group):
    provider = server.provider(SystemClock(), number)
    storage = await NodeDirectory.open(
        PosixDisk(copy), keys=provider, entropy=SystemEntropy(), stamp=stamp
    )
    with pytest.raises(KeyGone):
        await storage.open_log(group)
    await storage.close()


@pytest.mark.parametrize("killed_after", ["begin", "destroy"])
def test_whoever_leads_by_then_goes_on_where_the_shredding_was(play, server, killed_after):
    async def body(cluster, vault):
        _, old = await cluster.made()
        await cluster.surely(ShredStep.BEGIN, lambda r: r.domain is not None)
        if killed_after == "begin":
            await lose_the_leader(cluster)
        await cluster.surely(ShredStep.BEGIN, lambda r: r.is_ready)
        await vault.destroy(old)
        if killed_after == "destroy":
            await lose_the_leader(cluster)
        done = await cluster.surely(ShredStep.COMPLETE, lambda r: r.certificate)
        assert said(server, done.certificate)["destroyed_key_domain"] == str(old)
        assert await cluster.produce_surely(b"new", TOPIC) == 4

    play(body)


async def lose_the_leader(cluster):
    """kill -9, and a start of the same node."""
    leader = cluster.catalogue_leader()
    cluster.kill(leader)
    await cluster.until(lambda: cluster.catalogue_leader() not in {None, leader}, "another leads")
    await cluster.start(leader)
    with trio.fail_after(20):
        await cluster.members[leader].joined.wait()


def test_a_node_that_is_down_is_late_and_does_its_part_before_it_serves(play, server):
    async def body(cluster, vault):
        group, old = await cluster.made()
        down = next(n for n in NODES if n != cluster.catalogue_leader())
        cluster.kill(down)
        others = [n for n in NODES if n != down]
        await cluster.until(
            lambda: not any(cluster.members[n].consensus.alive(down) for n in others), "silence"
        )
        begun = await cluster.surely(ShredStep.BEGIN, lambda r: r.is_ready)
        assert (begun.waiting_for, begun.unheard) == ((down,), (down,))
        await vault.destroy(old)
        destroyed = time.monotonic()
        waits = await cluster.surely(ShredStep.COMPLETE, lambda r: r.error is ErrorCode.NONE)
        assert waits.certificate is None
        assert 0 < waits.left_s <= LEASE_S
        done = await cluster.surely(ShredStep.COMPLETE, lambda r: r.certificate)
        assert time.monotonic() - destroyed >= LEASE_S
        assert said(server, done.certificate)["nodes_that_were_late"] == [down]
        assert await cluster.produce_surely(b"new", TOPIC) == 4
        assert (cluster.path(down) / str(group)).exists()
        await cluster.start(down)
        await cluster.until(lambda: cluster.held(down, TOPIC) == 5, "it has caught up")
        await cluster.until(
            lambda: not (cluster.path(down) / str(group)).exists(), "its old files are removed"
        )
        assert old not in cluster.keys[down]._domains

    play(body)


def test_a_node_that_was_cut_off_drops_the_keys_and_serves_nothing_old_when_it_is_back(play):
    async def body(cluster, vault):
        group, old = await cluster.made()
        away = next(n for n in NODES if n != cluster.catalogue_leader())
        cluster.isolate(away)
        others = [n for n in NODES if n != away]
        await cluster.until(
            lambda: not any(cluster.members[n].consensus.alive(away) for n in others), "silence"
        )
        secrets = cluster.secrets(away, group)
        assert len(secrets) == 1
        leader = cluster.catalogue_leader()
        with trio.fail_after(20):
            while not (await cluster.step(leader, ShredStep.BEGIN)).is_ready:
                leader = cluster.catalogue_leader() or leader
        await vault.destroy(old)
        # It reaches Vault still, and learns there, without the cluster, that the key is gone.
        await cluster.until(lambda: all(map(is_wiped, secrets)), "its keys are wiped", LEASE_S + 5)
        with trio.fail_after(20):
            while not (await cluster.step(leader, ShredStep.COMPLETE)).certificate:  # noqa: ASYNC110
                await trio.sleep(0.1)
        offset = await cluster.produce_surely(b"new", TOPIC)
        cluster.cut = set()
        await cluster.until(lambda: cluster.held(away, TOPIC) == offset + 1, "it has caught up")
        assert not (cluster.path(away) / str(group)).exists()

    play(body)
