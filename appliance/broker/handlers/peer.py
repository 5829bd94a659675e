"""What other nodes ask of this one: greetings, deliveries, forwarded requests, their own commands.

Rules: the gate has seen a node's certificate before anything here runs. A node speaks for itself
only: what it greets with, what it delivers and what it has enacted must name the node of its
certificate. One that was removed from the cluster is turned away.
"""

from typing import Protocol

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.consensus import Consensus
from appliance.broker.forwarding import LED, OfNode
from appliance.broker.peer_codec import VERSION
from appliance.broker.peering import Peers
from appliance.errors import ErrorCode, ProtocolViolation, RequestError
from appliance.types import NodeId, Principal, PrincipalKind
from appliance.wire.requests import AnyRequest, AnyResponse, LeadPartition
from appliance.wire.requests.peer import (
    Deliver,
    Enact,
    Enacted,
    Forward,
    Forwarded,
    Greet,
    Greeted,
    PeerRefused,
    PeerResponse,
)


def node_of(caller: Caller) -> NodeId:
    """The node of the caller's certificate."""
    return NodeId(int(caller.principal.name))


class GreetHandler:
    """Welcomes nodes of this cluster."""

    request = Greet

    def __init__(self, peers: Peers, catalogue: Catalogue) -> None:
        self._peers = peers
        self._catalogue = catalogue

    def refuse(self, _: Greet, code: ErrorCode) -> PeerResponse:
        """Says why not."""
        return _refusal(code)

    async def handle(self, caller: Caller, authorized: Authorized[Greet]) -> PeerResponse:
        """Says who is here; learns where the caller lives."""
        greeting, identity = authorized.request, self._peers.identity
        node = node_of(caller)
        if greeting.cluster != identity.cluster:
            return PeerRefused(ErrorCode.CLUSTER_AUTHORIZATION_FAILED, "this is another cluster")
        if greeting.node != node:
            raise ProtocolViolation("a node greets in another's name")
        if node in self._catalogue.state.membership.retired:
            return PeerRefused(
                ErrorCode.CLUSTER_AUTHORIZATION_FAILED, f"node {node} was removed for good"
            )
        oldest, newest = greeting.versions
        if not oldest <= VERSION <= newest:
            return PeerRefused(
                ErrorCode.UNSUPPORTED_VERSION, f"deliveries are written in version {VERSION} here"
            )
        self._peers.greeted(node, greeting.address)
        return Greeted(identity.cluster, identity.node, identity.epoch, VERSION)


class DeliverHandler:
    """Hands consensus messages on."""

    request = Deliver

    def __init__(self, peers: Peers, consensus: Consensus, catalogue: Catalogue) -> None:
        self._cluster = peers.identity.cluster
        self._consensus = consensus
        self._catalogue = catalogue

    def refuse(self, _: Deliver, code: ErrorCode) -> PeerResponse:
        """There is no reply: the connection is closed."""
        raise ProtocolViolation(f"refused a delivery: {code.name}")

    async def handle(self, caller: Caller, authorized: Authorized[Deliver]) -> None:
        """Takes everything in at once; raises ProtocolViolation."""
        node = node_of(caller)
        if authorized.request.cluster != self._cluster:
            raise ProtocolViolation("a delivery for another cluster")
        if node in self._catalogue.state.membership.retired:
            raise ProtocolViolation(f"node {node} was removed from the cluster")
        self._consensus.receive(node, authorized.request.payload)


class Dispatches(Protocol):
    """The dispatcher of clients' requests."""

    async def dispatch_here(self, caller: Caller, request: AnyRequest) -> AnyResponse:
        """The whole answer, made by this node."""
        ...


class ForwardHandler:
    """Answers, as the catalogue's leader, what another node was asked."""

    request = Forward

    def __init__(self, catalogue: Catalogue) -> None:
        """Refuses until `serve` names who answers."""
        self._catalogue = catalogue
        self._dispatch: Dispatches | None = None

    def serve(self, dispatch: Dispatches) -> None:
        """Requests of clients are answered by `dispatch` from now on."""
        self._dispatch = dispatch

    def refuse(self, _: Forward, code: ErrorCode) -> PeerResponse:
        """Says why not."""
        return _refusal(code)

    async def handle(self, _: Caller, authorized: Authorized[Forward]) -> PeerResponse:
        """Has the request judged and answered as the one of its principal."""
        forward = authorized.request
        is_led = type(forward.request) in LED
        if not is_led and not isinstance(forward.request, LeadPartition | OfNode):
            return PeerRefused(ErrorCode.INVALID_REQUEST, "such a request is not forwarded")
        if self._dispatch is None or (is_led and not self._catalogue.leads):
            return PeerRefused(ErrorCode.NOT_CONTROLLER, "this node does not lead the catalogue")
        principal = Principal(PrincipalKind.USER, forward.principal)
        caller = Caller(principal, forward.listener, forward.address, forward.client_id)
        response = await self._dispatch.dispatch_here(caller, forward.request)
        return Forwarded(response, self._catalogue.applied)


class EnactHandler:
    """Executes, as the catalogue's leader, a command of another node about itself."""

    request = Enact

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def refuse(self, _: Enact, code: ErrorCode) -> PeerResponse:
        """Says why not."""
        return _refusal(code)

    async def handle(self, caller: Caller, authorized: Authorized[Enact]) -> PeerResponse:
        """The outcome of the command, encoded."""
        try:
            outcome = await self._catalogue.enact(node_of(caller), authorized.request.command)
        except RequestError as error:
            return PeerRefused(error.code, str(error))
        return Enacted(memoryview(outcome), self._catalogue.applied)


def _refusal(code: ErrorCode) -> PeerRefused:
    return PeerRefused(code, "not authorised")
