"""Connections to every other node: two each, kept up, dialled again when they break.

Rules: one nursery holds all of it; each connection is a task that ends when its node is no longer
known. Names are verified twice, the host that was dialled and the node that must live there. The
key exchange is always hybrid, whatever clients are allowed.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import structlog
import trio

from appliance.broker import peer_codec
from appliance.broker.outbox import Channel
from appliance.broker.peering import Peers
from appliance.errors import (
    ApplianceError,
    AuthenticationFailed,
    ErrorCode,
    ProtocolViolation,
    RequestError,
)
from appliance.limits import MAX_PEER_CALL_S, PEER_RETRY_MAX_S, PEER_RETRY_MIN_S
from appliance.ports import Entropy
from appliance.server.peer_link import PeerLink
from appliance.server.tls import TLSContext, TLSStream, connect
from appliance.types import NodeId, Principal, PrincipalKind
from appliance.wire.requests.peer import AnyPeerRequest, Greet, PeerResponse

R = TypeVar("R", bound=PeerResponse)

_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(__name__)


class PeerConnections:
    """See `broker.peering.Caller`; `run` keeps the connections."""

    def __init__(
        self,
        peers: Peers,
        context: Callable[[], TLSContext],
        principal: Callable[[bytes], Principal],
        entropy: Entropy,
    ) -> None:
        """`context` is asked at each attempt, so that a reload counts; so is `peers`."""
        self._peers = peers
        self._context = context
        self._principal = principal
        self._entropy = entropy
        self._links: dict[tuple[NodeId, Channel], PeerLink] = {}
        self._scopes: dict[NodeId, trio.CancelScope] = {}
        self._calls: dict[NodeId, set[trio.CancelScope]] = {}
        peers.caller = self
        peers.on_silent = self._give_up

    async def call(self, node: NodeId, request: AnyPeerRequest, expected: type[R]) -> R:
        """See `Caller.call`; requests never wait behind heartbeats, nor the other way round."""
        link = self._links.get((node, Channel.BULK))
        if link is None:
            raise RequestError(ErrorCode.NETWORK_EXCEPTION, f"node {node} is not connected")
        calls = self._calls.setdefault(node, set())
        with trio.move_on_after(MAX_PEER_CALL_S) as scope:
            calls.add(scope)
            try:
                return await link.call(request, expected)
            finally:
                calls.discard(scope)
        raise RequestError(ErrorCode.REQUEST_TIMED_OUT, f"node {node} does not answer")

    def _give_up(self, node: NodeId) -> None:
        """Nobody waits for the answers of a node that is taken for dead: another may lead by then.

        A process that was stopped keeps its connections, so nothing else ends the wait.
        """
        for scope in tuple(self._calls.get(node, ())):
            scope.cancel()

    async def run(self) -> None:
        """Keeps a pair of connections to every node that is known, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                known = self._peers.nodes
                for node in self._scopes.keys() - known:
                    self._scopes.pop(node).cancel()
                for node in known - self._scopes.keys():
                    self._scopes[node] = trio.CancelScope()
                    nursery.start_soon(self._attend, node, self._scopes[node])
                await self._peers.changed()

    async def _attend(self, node: NodeId, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                for channel in Channel:
                    nursery.start_soon(self._keep, node, channel)

    async def _keep(self, node: NodeId, channel: Channel) -> None:
        pause_s, said = PEER_RETRY_MIN_S, ""
        while True:
            began = trio.current_time()
            reason = await self._connected(node, channel)
            lasted_s = trio.current_time() - began
            pause_s = PEER_RETRY_MIN_S if lasted_s > PEER_RETRY_MAX_S else 2 * pause_s
            pause_s = min(pause_s, PEER_RETRY_MAX_S)
            if reason != said:
                said = reason
                _log.info("no connection to a node", node=node, channel=channel.name, why=reason)
            # Between half and all of the pause, so that nodes that fell together come back apart.
            await trio.sleep(pause_s * (0.5 + self._entropy.random_bytes(1)[0] / 512))

    async def _connected(self, node: NodeId, channel: Channel) -> str:
        """Dials once and serves the connection; returns why it ended."""
        address = self._peers.address(node)
        if address is None:
            return "its address is not known"
        try:
            stream = await connect(address.host, address.port, self._context())
        except (trio.BrokenResourceError, AuthenticationFailed) as error:
            return str(error)
        reasons = ["the connection broke"]
        try:
            await self._converse(stream, node, channel)
        except* ApplianceError as group:
            reasons = [str(error) for error in group.exceptions]
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            stream.abandon()
        return reasons[0]

    async def _converse(self, stream: TLSStream, node: NodeId, channel: Channel) -> None:
        principal = self._principal(stream.peer_certificate_der)
        if principal != Principal(PrincipalKind.NODE, str(node)):
            raise AuthenticationFailed(f"{principal} answers where node {node} was expected")
        outbox = self._peers.outbox(node, channel)
        if outbox is None:
            return
        link = PeerLink(stream, outbox, peer_codec.join, self._peers.identity.cluster)
        with trio.move_on_after(MAX_PEER_CALL_S) as patience:
            answer = await link.greet(self._greeting())
        if patience.cancelled_caught:
            raise ProtocolViolation(f"node {node} does not answer a greeting")
        if answer.node != node or answer.version != peer_codec.VERSION:
            raise ProtocolViolation(f"node {node} does not speak a version that this one does")
        self._links[node, channel] = link
        outbox.open = True
        _log.info("connected to a node", node=node, channel=channel.name)
        if channel is Channel.CONTROL:
            self._peers.on_up(node)
        try:
            await link.run()
        finally:
            del self._links[node, channel]
            outbox.close()
            if channel is Channel.CONTROL:
                self._peers.on_down(node)

    def _greeting(self) -> Greet:
        identity = self._peers.identity
        return Greet(
            identity.cluster,
            identity.node,
            identity.epoch,
            identity.address,
            (peer_codec.VERSION, peer_codec.VERSION),
        )
