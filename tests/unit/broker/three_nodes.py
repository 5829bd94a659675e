"""Three nodes in one process: real consensus, real replication, a network that a test can cut.

Only disks, sockets and the clock are stand-ins: deliveries are the very bytes that peers send, and
requests between nodes pass the gate as they do on the peer listener.
"""

from collections import defaultdict
from contextlib import asynccontextmanager
from typing import ClassVar
from uuid import UUID

import pytest
import trio

from appliance.authz.gate import Gate
from appliance.broker import peer_codec
from appliance.broker.caller import Caller
from appliance.broker.foundation import CATALOGUE_LOG, GROUPS_LOG
from appliance.broker.node import BrokerNode
from appliance.broker.outbox import Channel
from appliance.broker.settings import BrokerSettings
from appliance.broker.shredding import NO_SIGNER
from appliance.coordination.commands import Endpoint
from appliance.errors import ErrorCode, ProtocolViolation, RequestError
from appliance.types import KeyDomainId, Principal, PrincipalKind
from appliance.wire.requests import (
    AddNode,
    CreateTopics,
    NewTopic,
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

    racks: ClassVar[dict[int, str]] = {}

    def __init__(self, world, nursery):
        self.world = world
        self.nursery = nursery
        self.disks = {}
        self.members = {}
        self.cut = set()
        self.silenced = set()
        self.carried_s = defaultdict(lambda: 0.001)
        """By channel and node: how long what waits for a connection takes to be on its way."""
        self.domain = KeyDomainId(UUID(int=78))
        self.signer = NO_SIGNER
        self.restarts = 0

    async def start(self, number, **changes):
        disk = self.disks.setdefault(number, self.world.Disk())
        settings = BrokerSettings(
            domain=self.domain,
            host=f"host-{number}",
            rack=self.racks.get(number),
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
            for other in (1, 2, 3, 4):
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
                    nursery.start_soon(
                        self._carry, number, peers.outbox(other, channel), channel, there
                    )
                peers.on_up(other)
                while self.reaches(number, other) and self.members[other] is there:  # noqa: ASYNC110
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
            for channel in Channel:
                outbox = peers.outbox(other, channel)
                if outbox is not None:
                    outbox.close()
            peers.on_down(other)

    async def _carry(self, number, outbox, channel, there):
        caller = Caller(Principal(PrincipalKind.NODE, str(number)), "peer", "127.0.0.1")
        cluster = there.node.peers.identity.cluster
        while True:
            await outbox.wait()
            await trio.sleep(self.carried_s[channel, int(there.node.peers.identity.node)])
            items = outbox.take()
            if there not in self.members.values():
                return  # it was killed, and what is under way to it is lost
            if items and not self.silenced & {number, int(there.node.peers.identity.node)}:
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

    def silence(self, number):
        """Its connections stand, and nothing goes over them: as if it had been stopped."""
        self.silenced.add(number)

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
            if replica is not None and replica.serving and number not in self.silenced:
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
