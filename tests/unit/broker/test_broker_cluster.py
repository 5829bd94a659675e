"""Three nodes in one process: real consensus, real replication, a network that a test can cut.

Only disks, sockets and the clock are stand-ins: deliveries are the very bytes that peers send, and
requests between nodes pass the gate as they do on the peer listener.
"""

from contextlib import asynccontextmanager
from uuid import UUID

import pytest
import trio

from appliance.authz.gate import Gate
from appliance.broker import peer_codec
from appliance.broker.caller import Caller
from appliance.broker.foundation import CATALOGUE_LOG, GROUPS_LOG
from appliance.broker.node import BrokerNode, BrokerSettings
from appliance.broker.outbox import Channel
from appliance.broker.shredding import NO_SIGNER
from appliance.coordination.commands import Endpoint
from appliance.errors import ErrorCode, ProtocolViolation, RequestError
from appliance.raft.ready import Role
from appliance.types import KeyDomainId, Principal, PrincipalKind
from appliance.wire.requests import (
    AddNode,
    CreateTopics,
    DeleteRecords,
    DeleteRecordsPartition,
    DeleteRecordsTopic,
    DescribeNodes,
    DrainNode,
    LeadPartition,
    Metadata,
    MovePartition,
    NewTopic,
    RemoveNode,
)
from appliance.wire.requests.peer import Deliver, PeerRefused

POLICY = "p, User:admin, *, *, *, allow\n"


class Member:
    """One node of the cluster, in one of its lives."""

    def __init__(self, node, sink, dispatcher, peer_dispatcher, scope):
        self.node = node
        self.sink = sink
        self.dispatcher = dispatcher
        self.peer_dispatcher = peer_dispatcher
        self.scope = scope
        self.joined = trio.Event()

    @property
    def consensus(self):
        return self.node._foundation.consensus


class Cluster:
    """Nodes, their disks, and the network between them."""

    def __init__(self, world, nursery):
        self.world = world
        self.nursery = nursery
        self.disks = {}
        self.members = {}
        self.cut = set()
        self.domain = KeyDomainId(UUID(int=78))
        self.signer = NO_SIGNER
        self.restarts = 0

    async def start(self, number, **changes):
        disk = self.disks.setdefault(number, self.world.Disk())
        settings = BrokerSettings(
            domain=self.domain,
            host=f"host-{number}",
            rack=None,
            endpoints=tuple(
                Endpoint(name, f"n{number}", port)
                for name, port in (("kafka", 9093), ("native", 9193), ("peer", 9293))
            ),
            first_policy=POLICY if number == 1 else None,
            joins=number != 1,
            **changes,
        )
        await self.nursery.start(self._live, number, settings, disk)

    async def _live(self, number, settings, disk, task_status=trio.TASK_STATUS_IGNORED):
        clock, sink = self.world.Clock(), self.world.Sink()
        entropy = self.world.Entropy()
        entropy.counter = 1_000_000 * (10 * number + self.restarts)
        self.restarts += 1
        async with trio.open_nursery() as nursery:
            storage = await self.storage(number, disk, nursery)
            node = await BrokerNode.prepare(
                settings, storage=storage, clock=clock, entropy=entropy, nursery=nursery,
                signer=self.signer,
            )  # fmt: skip
            gate = Gate(node.policies, node.topic_names, clock)
            member = Member(
                node, sink, node.dispatcher(gate, sink), node.peer_dispatcher(gate, sink),
                nursery.cancel_scope,
            )  # fmt: skip
            node.peers.caller = Calls(self, number)
            self.members[number] = member
            nursery.start_soon(self._connect, number, member)
            nursery.start_soon(self._join, member)
            task_status.started()

    async def storage(self, number, disk, _):
        """The node's storage; its tasks run in the nursery that is given."""
        return self.world.Storage(disk, number)

    @staticmethod
    async def _join(member):
        await member.node.join()
        member.joined.set()

    async def _connect(self, number, member):
        """Keeps both connections to every other node, as `server.peers` does."""
        async with trio.open_nursery() as nursery:
            for other in (1, 2, 3):
                if other != number:
                    nursery.start_soon(self._link, number, member, other)

    async def _link(self, number, member, other):
        peers = member.node.peers
        while True:
            await trio.sleep(0.05)
            if not self.reaches(number, other) or peers.address(other) is None:
                continue
            there = self.members[other]
            there.node.peers.greeted(number, peers.identity.address)
            if peers.outbox(other, Channel.CONTROL) is None:
                continue
            async with trio.open_nursery() as nursery:
                for channel in Channel:
                    peers.outbox(other, channel).open = True
                    nursery.start_soon(self._carry, number, peers.outbox(other, channel), there)
                peers.on_up(other)
                while self.reaches(number, other) and self.members[other] is there:  # noqa: ASYNC110
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
            for channel in Channel:
                outbox = peers.outbox(other, channel)
                if outbox is not None:
                    outbox.close()
            peers.on_down(other)

    async def _carry(self, number, outbox, there):
        caller = Caller(Principal(PrincipalKind.NODE, str(number)), "peer", "127.0.0.1")
        cluster = there.node.peers.identity.cluster
        while True:
            await outbox.wait()
            await trio.sleep(0.001)
            items = outbox.take()
            if items:
                payload = memoryview(peer_codec.join(items))
                try:
                    await there.peer_dispatcher.dispatch(caller, Deliver(cluster, payload))
                except ProtocolViolation:
                    return  # a real listener closes the connection

    def reaches(self, one, other):
        return other in self.members and {one, other} not in self.cut

    # --- what tests do ---

    def kill(self, number):
        self.members.pop(number).scope.cancel()

    def isolate(self, number):
        self.cut = [{number, other} for other in (1, 2, 3) if other != number]

    async def until(self, condition, what, seconds=30):
        with trio.move_on_after(seconds):
            while not condition():  # noqa: ASYNC110
                await trio.sleep(0.02)
            return
        pytest.fail(f"{what} did not come about")

    async def ask(self, number, request, listener="native"):
        caller = self.world.caller("admin", listener)
        reply = await self.members[number].dispatcher.dispatch(caller, request)
        if not hasattr(reply, "on_resolved"):
            return reply
        done = trio.Event()
        reply.on_resolved(done.set)
        with trio.fail_after(60):
            await done.wait()
        return reply.response

    def leader(self, group):
        """Who leads a group and serves, among those that live."""
        for number, member in self.members.items():
            replica = member.consensus.replica(group)
            if replica is not None and replica.serving:
                return number
        return None

    def group(self, topic="orders", index=0):
        member = next(iter(self.members.values()))
        return member.node.policies.state.topics[topic].partitions[index]

    async def create(self, topic="orders", partitions=1, replication=3, settings=()):
        new = NewTopic(topic, partitions, replication, settings=settings)
        (created,) = (await self.ask(1, CreateTopics((new,), 1000))).topics
        assert created.error is ErrorCode.NONE, created
        await self.until(
            lambda: all(topic in m.node.policies.state.topics for m in self.members.values()),
            "the topic on every node",
        )
        await self.until(lambda: self.leader(self.group(topic)) is not None, "a leader")

    async def produce(self, number, value, topic="orders", producer=(-1, -1, -1)):
        batch = self.world.batch(value, producer=producer)
        reply = await self.ask(number, self.world.produce_request(batch, topic=topic))
        return reply.topics[0].partitions[0]

    async def produce_surely(self, value, topic="orders", producer=(-1, -1, -1)):
        """As a client does: asks the leader, and again while it is told to."""
        with trio.fail_after(60):
            while True:
                number = self.leader(self.group(topic))
                if number is not None:
                    part = await self.produce(number, value, topic, producer)
                    if part.error is ErrorCode.NONE:
                        return part.base_offset
                await trio.sleep(0.05)

    def held(self, number, topic="orders"):
        """The batches that one node has applied."""
        replica = self.members[number].consensus.replica(self.group(topic))
        return replica.high_watermark if replica is not None else None


class Calls:
    """`Caller` of one node."""

    def __init__(self, cluster, number):
        self.cluster = cluster
        self.number = number

    async def call(self, node, request, expected):
        if not self.cluster.reaches(self.number, node):
            raise RequestError(ErrorCode.NETWORK_EXCEPTION, "no connection")
        caller = Caller(Principal(PrincipalKind.NODE, str(self.number)), "peer", "127.0.0.1")
        answer = await self.cluster.members[node].peer_dispatcher.dispatch(caller, request)
        if isinstance(answer, PeerRefused):
            raise RequestError(ErrorCode(answer.code), answer.message)
        assert isinstance(answer, expected)
        return answer


@asynccontextmanager
async def three_nodes(world, make=Cluster):
    async with trio.open_nursery() as nursery:
        cluster = make(world, nursery)
        for number in (1, 2, 3):
            await cluster.start(number)
        with trio.fail_after(10):
            await cluster.members[1].joined.wait()
        for number in (2, 3):
            assert not cluster.members[number].joined.is_set()
            reply = await cluster.ask(1, AddNode(number, f"n{number}", 9293))
            assert reply.error is ErrorCode.NONE, reply
        with trio.fail_after(60):
            for member in cluster.members.values():
                await member.joined.wait()
        await cluster.until(lambda: sound(cluster), "three voters everywhere", 60)
        yield cluster
        nursery.cancel_scope.cancel()


def sound(cluster):
    """Whether the catalogue and the groups have three voters."""
    for group in (CATALOGUE_LOG, GROUPS_LOG):
        leader = cluster.leader(group)
        if leader is None:
            return False
        configuration = cluster.members[leader].consensus.replica(group).configuration
        if configuration.joint or configuration.voters != {1, 2, 3}:
            return False
    return True


def in_cluster(world, run):
    """Runs a test's body in a cluster of three."""

    def runs(body):
        async def main():
            async with three_nodes(world) as cluster:
                await body(cluster)

        run(main)

    return runs


@pytest.fixture
def play(world, run):
    return in_cluster(world, run)


def test_what_is_acknowledged_is_applied_on_every_node(play):
    async def body(cluster):
        await cluster.create()
        for value in (b"a", b"b", b"c"):
            await cluster.produce_surely(value)
        await cluster.until(
            lambda: [cluster.held(n) for n in (1, 2, 3)] == [3, 3, 3], "three batches everywhere"
        )

    play(body)


def test_a_node_that_does_not_lead_says_who_does_and_where(play):
    async def body(cluster):
        await cluster.create()
        leader = cluster.leader(cluster.group())
        other = next(n for n in (1, 2, 3) if n != leader)
        batch = cluster.world.batch(b"x")
        reply = await cluster.ask(other, cluster.world.produce_request(batch), "kafka")
        part = reply.topics[0].partitions[0]
        assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert part.leader.node_id == leader
        assert [(b.node_id, b.host) for b in reply.endpoints] == [(leader, f"n{leader}")]

    play(body)


def test_metadata_is_the_same_on_every_node_and_names_real_leaders(play):
    async def body(cluster):
        await cluster.create(partitions=3)
        await cluster.until(
            lambda: all(cluster.leader(cluster.group(index=i)) for i in range(3)), "leaders"
        )
        await trio.sleep(1)
        told = []
        for number in (1, 2, 3):
            reply = await cluster.ask(number, Metadata(("orders",)), "kafka")
            told.append([(p.index, p.leader_id, p.replicas) for p in reply.topics[0].partitions])
            assert [broker.node_id for broker in reply.brokers] == [1, 2, 3]
        assert told[0] == told[1] == told[2]
        assert {leader for _, leader, _ in told[0]} == {1, 2, 3}

    play(body)


def test_killing_the_leader_loses_nothing_and_a_retry_is_written_once(play):
    async def body(cluster):
        await cluster.create()
        for sequence in range(5):
            await cluster.produce_surely(b"x", producer=(7, 0, sequence))
        leader = cluster.leader(cluster.group())
        cluster.kill(leader)
        began = trio.current_time()
        assert await cluster.produce_surely(b"x", producer=(7, 0, 5)) == 5
        assert trio.current_time() - began < 1.5
        assert await cluster.produce_surely(b"x", producer=(7, 0, 5)) == 5
        await cluster.start(leader)
        await cluster.until(lambda: cluster.held(leader) == 6, "the killed node to catch up")

    play(body)


def test_a_leader_that_is_cut_off_acknowledges_nothing_and_steps_down(play):
    async def body(cluster):
        await cluster.create()
        await cluster.produce_surely(b"a")
        leader = cluster.leader(cluster.group())
        cluster.isolate(leader)
        await trio.sleep(0.1)
        part = await cluster.produce(leader, b"lost")
        assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        replica = cluster.members[leader].consensus.replica(cluster.group())
        assert replica.role is not Role.LEADER
        assert await cluster.produce_surely(b"b") == 1
        cluster.cut = set()
        await cluster.until(
            lambda: [cluster.held(n) for n in (1, 2, 3)] == [2, 2, 2], "all nodes to agree"
        )

    play(body)


def test_a_whole_cluster_that_falls_comes_back_with_everything(play):
    async def body(cluster):
        await cluster.create()
        for value in (b"a", b"b"):
            await cluster.produce_surely(value)
        for number in (1, 2, 3):
            cluster.kill(number)
        await trio.sleep(1)
        for number in (3, 2, 1):
            await cluster.start(number)
        await cluster.until(
            lambda: (
                len(cluster.members) == 3
                and all(m.joined.is_set() for m in cluster.members.values())
            ),
            "every node to serve",
        )
        assert await cluster.produce_surely(b"c") == 2

    play(body)


def test_an_old_disk_that_comes_back_raises_the_alarm_and_is_filled_again(play):
    async def body(cluster):
        await cluster.create()
        for value in (b"a", b"b", b"c"):
            await cluster.produce_surely(value)
        group = cluster.group()
        leader = cluster.leader(group)
        follower = next(number for number in (1, 2, 3) if number != leader)
        await cluster.until(lambda: cluster.held(follower) == 3, "the follower's copy")
        cluster.kill(follower)
        held = cluster.disks[follower].logs[group]
        acknowledged = held[-1].header.index
        del held[-2:]
        await cluster.start(follower)
        await cluster.until(lambda: cluster.held(follower) == 3, "the records again")
        sink = cluster.members[leader].sink
        await cluster.until(lambda: sink.of("LogShrunk"), "the alarm")
        (alarm,) = sink.of("LogShrunk")
        assert (alarm.node, alarm.partition) == (follower, str(group))
        assert (alarm.acknowledged, alarm.held) == (acknowledged, acknowledged - 2)

    play(body)


def test_administration_asked_of_any_node_is_decided_by_the_leader_and_shows_at_once(play):
    async def body(cluster):
        leader = cluster.leader(CATALOGUE_LOG)
        other = next(n for n in (1, 2, 3) if n != leader)
        reply = await cluster.ask(other, CreateTopics((NewTopic("made"),), 1000), "kafka")
        assert reply.topics[0].error is ErrorCode.NONE
        assert reply.topics[0].replication_factor == 3
        assert "made" in cluster.members[other].node.policies.state.topics

    play(body)


def test_a_drained_node_hands_its_leadership_over(play):
    async def body(cluster):
        await cluster.create(partitions=3)
        await cluster.ask(1, DrainNode(2, True))
        await cluster.until(
            lambda: all(cluster.leader(cluster.group(index=i)) in {1, 3} for i in range(3)),
            "leadership elsewhere",
        )
        await cluster.ask(1, DrainNode(2, False))
        await cluster.until(
            lambda: 2 in {cluster.leader(cluster.group(index=i)) for i in range(3)},
            "leadership to return",
        )

    play(body)


def test_a_partition_moves_to_another_node_while_it_is_written(play):
    async def body(cluster):
        await cluster.create(replication=1)
        for value in (b"a", b"b"):
            await cluster.produce_surely(value)
        holder = cluster.leader(cluster.group())
        to = next(n for n in (1, 2, 3) if n != holder)
        reply = await cluster.ask(1, MovePartition("orders", 0, (to,)))
        assert reply.error is ErrorCode.NONE, reply
        for _ in range(5):
            await cluster.produce_surely(b"c")
        await cluster.until(lambda: cluster.leader(cluster.group()) == to, "the new leader")
        await cluster.until(
            lambda: cluster.group() not in cluster.disks[holder].logs, "the old log to be removed"
        )
        assert await cluster.produce_surely(b"d") == 7

    play(body)


def test_a_new_member_begins_behind_what_was_deleted_before_it_came(play):
    async def body(cluster):
        await cluster.create(replication=1)
        for value in (b"a", b"b", b"c", b"d"):
            await cluster.produce_surely(value)
        holder = cluster.leader(cluster.group())
        gone = DeleteRecordsTopic("orders", (DeleteRecordsPartition(0, 3),))
        reply = await cluster.ask(holder, DeleteRecords((gone,), 1000), "kafka")
        assert reply.topics[0].partitions[0].error is ErrorCode.NONE
        assert cluster.disks[holder].bases, "entries have been removed"
        to = next(n for n in (1, 2, 3) if n != holder)
        await cluster.ask(1, MovePartition("orders", 0, (to,)))
        await cluster.until(lambda: cluster.leader(cluster.group()) == to, "the new leader")
        assert await cluster.produce_surely(b"e") == 4
        assert cluster.disks[to].bases[cluster.group()][1] == 3
        reply = await cluster.ask(to, cluster.world.fetch_request(3), "kafka")
        assert reply.topics[0].partitions[0].high_watermark == 5

    play(body)


def test_leadership_is_transferred_on_request(play):
    async def body(cluster):
        await cluster.create()
        leader = cluster.leader(cluster.group())
        to = next(n for n in (1, 2, 3) if n != leader)
        reply = await cluster.ask(to, LeadPartition("orders", 0, to))
        assert reply.error is ErrorCode.NONE, reply
        await cluster.until(lambda: cluster.leader(cluster.group()) == to, "the transfer", 3)

    play(body)


def test_a_removed_node_holds_nothing_and_its_id_is_used_up(play):
    async def body(cluster):
        await cluster.create(replication=2)

        async def removed():
            reply = await cluster.ask(1, RemoveNode(3))
            return reply.message is not None and reply.message.startswith("removed")

        with trio.fail_after(60):
            while not await removed():  # noqa: ASYNC110
                await trio.sleep(0.2)
        status = await cluster.ask(1, DescribeNodes())
        assert [node.node for node in status.nodes] == [1, 2]
        reply = await cluster.ask(1, AddNode(3, "n3", 9293))
        assert reply.error is not ErrorCode.NONE
        assert "once for all time" in reply.message

    play(body)


def test_two_versions_in_one_cluster_keep_to_what_both_know(world, run):
    async def main():
        async with trio.open_nursery() as nursery:
            cluster = Cluster(world, nursery)
            await cluster.start(1)
            await cluster.members[1].joined.wait()
            membership = cluster.members[1].node.policies.state.membership
            assert membership.level == 2
            await cluster.start(2, newest_level=1)
            await cluster.ask(1, AddNode(2, "n2", 9293))
            await trio.sleep(5)
            assert not cluster.members[2].joined.is_set()
            cluster.kill(2)
            await cluster.start(2)
            with trio.fail_after(30):
                await cluster.members[2].joined.wait()
            nursery.cancel_scope.cancel()

    run(main)
