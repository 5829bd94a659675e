"""The other nodes as the broker sees them: a queue to each, and answers from each.

Rules: who opens connections is `server.peers`; here is what it carries. Addresses come from the
catalogue, or from the greeting of a node that the catalogue does not know yet; each is only ever a
place to look for a certificate of that node.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import msgspec
import trio

from appliance.broker.outbox import Channel, Outbox
from appliance.errors import ErrorCode, RequestError
from appliance.types import ClusterId, NodeId
from appliance.wire.requests.peer import Address, AnyPeerRequest, PeerResponse

R = TypeVar("R", bound=PeerResponse)


class Identity(msgspec.Struct, frozen=True):
    """Who this node is to its peers; `epoch` differs in each life of its process."""

    cluster: ClusterId
    node: NodeId
    epoch: int
    address: Address
    listens: bool = True
    """Whether others can reach this node at all."""


class Caller(Protocol):
    """Asks another node; `server.peers` is the real one."""

    async def call(self, node: NodeId, request: AnyPeerRequest, expected: type[R]) -> R:
        """The answer; raises RequestError, NETWORK_EXCEPTION if there is no connection."""
        ...


class Nobody:
    """Where there are no peers."""

    async def call(self, node: NodeId, request: AnyPeerRequest, expected: type[R]) -> R:
        """Refuses."""
        raise RequestError(ErrorCode.NETWORK_EXCEPTION, f"node {node} is not connected")


class Peers:
    """Queues and addresses of every node that this one speaks to."""

    def __init__(self, identity: Identity) -> None:
        """Knows nobody yet."""
        self.identity = identity
        self.caller: Caller = Nobody()
        self.on_up: Callable[[NodeId], None] = lambda _: None
        """Told when the control connection to a node is up."""
        self.on_down: Callable[[NodeId], None] = lambda _: None
        """Told when it broke: as good as silence, and sooner (DESIGN section 7)."""
        self.on_silent: Callable[[NodeId], None] = lambda _: None
        """Told when a node is taken for dead although its connections may stand."""
        self._outboxes: dict[NodeId, tuple[Outbox, Outbox]] = {}
        self._addresses: dict[NodeId, Address] = {}
        self._greeted: dict[NodeId, Address] = {}
        self._changed = trio.Event()

    @property
    def listens(self) -> bool:
        """Whether others can reach this node."""
        return self.identity.listens

    @property
    def nodes(self) -> frozenset[NodeId]:
        """Whom this node speaks to."""
        return frozenset(self._outboxes)

    def outbox(self, node: NodeId, channel: Channel) -> Outbox | None:
        """The queue to a node, or None for one that is not known."""
        pair = self._outboxes.get(node)
        return pair[channel] if pair is not None else None

    def address(self, node: NodeId) -> Address | None:
        """Where to look for a node."""
        return self._addresses.get(node) or self._greeted.get(node)

    def is_up(self, node: NodeId) -> bool:
        """Whether the control connection to a node stands."""
        pair = self._outboxes.get(node)
        return pair is not None and pair[Channel.CONTROL].open

    def know(self, addresses: Mapping[NodeId, Address]) -> None:
        """Takes the catalogue's word for who there is, this node left out."""
        self._addresses = {n: a for n, a in addresses.items() if n != self.identity.node}
        self._settle()

    def greeted(self, node: NodeId, address: Address) -> None:
        """Notes where a node said that it lives, for as long as the catalogue does not say."""
        if node != self.identity.node and self._greeted.get(node) != address:
            self._greeted[node] = address
            self._settle()

    def forget_greeting(self, node: NodeId) -> None:
        """A removed node is not looked for any more."""
        self._greeted.pop(node, None)
        self._settle()

    def _settle(self) -> None:
        wanted = self._addresses.keys() | self._greeted.keys()
        for node in self._outboxes.keys() - wanted:
            for outbox in self._outboxes.pop(node):
                outbox.close()
        for node in wanted - self._outboxes.keys():
            self._outboxes[node] = (Outbox(), Outbox())
        self._changed.set()
        self._changed = trio.Event()

    async def changed(self) -> None:
        """Returns when somebody came, went or moved."""
        await self._changed.wait()
