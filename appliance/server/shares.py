"""What a node has for those who talk to it, memory and time, and who gets which part of it.

Clients and nodes do not share memory: what peers need is never lent to clients. Among clients each
user has its part, whatever listeners its connections came by, and strangers together have theirs.
"""

from typing import Final, Protocol
from weakref import WeakValueDictionary

from appliance.limits import (
    CLIENT_REPLY_BUDGET_BYTES,
    CLIENT_REQUEST_BUDGET_BYTES,
    PEER_BUDGET_BYTES,
    STRANGERS_SHARE,
)
from appliance.server.budget import Holder, MemoryBudget
from appliance.server.strangers import StrangersTime
from appliance.server.turns import Crowd, UsersTurns
from appliance.types import Principal


class UsersShare:
    """What one user's connections have together."""

    __slots__ = ("__weakref__", "replies", "requests", "turns")

    def __init__(self, crowd: Crowd) -> None:
        """Holds nothing, and owes nothing; `crowd` is all who share."""
        self.turns = UsersTurns(crowd)
        self.requests = Holder()
        self.replies = Holder()


class Share(Protocol):
    """What the connections of one listener hold their bytes in, and what their time is."""

    @property
    def requests(self) -> MemoryBudget:
        """For what has arrived."""
        ...

    @property
    def replies(self) -> MemoryBudget:
        """For what is to be sent."""
        ...

    @property
    def strangers(self) -> StrangersTime:
        """For peers that are not known yet."""
        ...

    def of(self, principal: Principal) -> UsersShare:
        """The part of one who is known, for as long as it has connections."""
        ...


class _Shares:
    """Parts, kept while somebody holds them."""

    __slots__ = ("_crowd", "_parts", "strangers")

    def __init__(self, strangers_share: float = STRANGERS_SHARE) -> None:
        self.strangers = StrangersTime(strangers_share)
        self._crowd = Crowd()
        self._parts: Final[WeakValueDictionary[Principal, UsersShare]] = WeakValueDictionary()

    def of(self, principal: Principal) -> UsersShare:
        """See `Share.of`."""
        part = self._parts.get(principal)
        if part is None:
            part = self._parts[principal] = UsersShare(self._crowd)
        return part


class PeerShare(_Shares):
    """The peers' budget, for both: nodes answer each other with little."""

    __slots__ = ("replies", "requests")

    def __init__(self, peers: MemoryBudget) -> None:
        """Everything from what is reserved for peers."""
        super().__init__()
        self.requests = peers
        self.replies = peers


class Budgets(_Shares):
    """The three budgets of a node; by itself the share of clients."""

    __slots__ = ("client_replies", "client_requests", "peers")

    def __init__(
        self,
        *,
        client_requests: int = CLIENT_REQUEST_BUDGET_BYTES,
        client_replies: int = CLIENT_REPLY_BUDGET_BYTES,
        peers: int = PEER_BUDGET_BYTES,
        strangers_share: float = STRANGERS_SHARE,
    ) -> None:
        """Capacities in bytes, and what part of the event loop's time strangers get."""
        super().__init__(strangers_share)
        self.client_requests = MemoryBudget(client_requests)
        self.client_replies = MemoryBudget(client_replies)
        self.peers = MemoryBudget(peers)

    @property
    def requests(self) -> MemoryBudget:
        """See `Share.requests`."""
        return self.client_requests

    @property
    def replies(self) -> MemoryBudget:
        """See `Share.replies`."""
        return self.client_replies
