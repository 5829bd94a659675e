"""A node's links to others: what `server.peers` and `server.peer_link` do over TLS.

Rules: they run in the node's own tasks, so that a stopped node's links stand still with it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from nodes.network import Connection

from appliance.broker import peer_codec
from appliance.broker.caller import Caller
from appliance.broker.outbox import Channel, Outbox
from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_PEER_CALL_S, PEER_RETRY_MIN_S
from appliance.types import Buffer, NodeId, Principal, PrincipalKind
from appliance.wire.requests.peer import (
    AnyPeerRequest,
    Deliver,
    Greet,
    Greeted,
    PeerRefused,
    PeerResponse,
)

if TYPE_CHECKING:
    from nodes.machine import Member
    from nodes.world import World

R = TypeVar("R", bound=PeerResponse)
KIND_AT = 4
"""Where an item says of which kind it is, behind its length."""


class Links:
    """`broker.peering.Caller` of one process."""

    def __init__(self, world: "World", node: int, member: "Member") -> None:
        self._world, self._node, self._member = world, node, member
        self._peers = member.node.peers
        self._peers.caller = self
        self._connections: dict[int, Connection] = {}
        self._scopes: dict[NodeId, trio.CancelScope] = {}
        self._caller = Caller(Principal(PrincipalKind.NODE, str(node)), "peer", "127.0.0.1")

    async def run(self) -> None:
        """Keeps a connection to every node that is known, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                known = self._peers.nodes
                for node in sorted(self._scopes.keys() - known):
                    self._scopes.pop(node).cancel()
                for node in sorted(known - self._scopes.keys()):
                    self._scopes[node] = trio.CancelScope()
                    nursery.start_soon(self._attend, node, self._scopes[node])
                await self._peers.changed()

    async def _attend(self, node: NodeId, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                await trio.sleep(PEER_RETRY_MIN_S * (1 + self._world.dice.random()))
                there = self._world.member(node)
                connection = self._world.network.connect(self._node, node)
                if connection is None:
                    continue
                try:
                    if there is not None:
                        await self._converse(node, there, connection)
                finally:
                    self._world.network.forget(connection)

    async def _converse(self, node: NodeId, there: "Member", connection: Connection) -> None:
        identity = self._peers.identity
        versions = (peer_codec.VERSION, peer_codec.VERSION)
        greeting = Greet(
            identity.cluster, identity.node, identity.epoch, identity.address, versions
        )
        answer = await self._ask(connection, node, greeting)
        outboxes = [self._peers.outbox(node, channel) for channel in Channel]
        if not isinstance(answer, Greeted) or None in outboxes:
            return
        self._connections[node] = connection
        async with trio.open_nursery() as nursery:
            for outbox in outboxes:
                assert outbox is not None
                outbox.open = True
                nursery.start_soon(self._carry, node, there, connection, outbox)
            self._peers.on_up(node)
            self._world.say(f"{self._node} is connected to {node}")
            try:
                await connection.broken.wait()
                nursery.cancel_scope.cancel()
            finally:
                del self._connections[node]
                for outbox in outboxes:
                    assert outbox is not None
                    outbox.close()
                self._peers.on_down(node)

    # --- messages -------------------------------------------------------------------------------

    async def _carry(
        self, node: int, there: "Member", connection: Connection, outbox: Outbox
    ) -> None:
        lively, ordered = trio.open_memory_channel[Buffer](1_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry_in_order, node, there, connection, ordered)
            while True:
                await outbox.wait()
                for item in outbox.take():
                    if item[KIND_AT] == peer_codec.LIVENESS:
                        lively.send_nowait(item)
                    else:
                        self._world.sent(self._node, node, item)
                        arrive = self._arrival(there, connection, item)
                        self._world.network.send(self._node, node, arrive)

    async def _carry_in_order(
        self,
        node: int,
        there: "Member",
        connection: Connection,
        ordered: "trio.MemoryReceiveChannel[Buffer]",
    ) -> None:
        network = self._world.network
        async for item in ordered:
            await trio.sleep(network.delay_s())
            await network.open(self._node, node)
            self._arrival(there, connection, item)()

    def _arrival(self, there: "Member", connection: Connection, item: Buffer) -> Callable[[], None]:
        delivery = Deliver(self._peers.identity.cluster, memoryview(peer_codec.join([item])))

        def arrive() -> None:
            if not connection.broken.is_set() and self._world.lives(there):
                there.take(self._caller, delivery)

        return arrive

    # --- questions ------------------------------------------------------------------------------

    async def call(self, node: NodeId, request: AnyPeerRequest, expected: type[R]) -> R:
        """See `broker.peering.Caller`."""
        connection = self._connections.get(node)
        if connection is None:
            raise RequestError(ErrorCode.NETWORK_EXCEPTION, f"node {node} is not connected")
        answer = await self._ask(connection, node, request)
        if isinstance(answer, PeerRefused):
            raise RequestError(ErrorCode(answer.code), answer.message)
        if isinstance(answer, expected):
            return answer
        raise RequestError(ErrorCode.NETWORK_EXCEPTION, "the connection to the node was lost")

    async def _ask(self, connection: Connection, node: int, request: AnyPeerRequest) -> Any:
        """The answer, or None when the connection broke or nobody had the patience."""
        network, here, told = self._world.network, self._node, trio.Event()
        answers: list[Any] = []

        def answered(answer: Any) -> None:
            answers.append(answer)
            told.set()

        def reply(answer: Any) -> None:
            network.hold(node, here, lambda: answered(answer))

        def arrive() -> None:
            there = self._world.member(node)
            if there is not None and not connection.broken.is_set():
                there.take(self._caller, request, reply)

        network.hold(here, node, arrive)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_then, connection.broken, told)
            with trio.move_on_after(MAX_PEER_CALL_S):
                await told.wait()
            nursery.cancel_scope.cancel()
        return answers[0] if answers else None


async def _then(first: trio.Event, second: trio.Event) -> None:
    await first.wait()
    second.set()
