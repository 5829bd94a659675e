"""Where a client that asked the wrong node should ask (KIP-951)."""

from collections.abc import Iterable

from appliance.broker.catalogue import Catalogue
from appliance.broker.leaders import Leader
from appliance.errors import ErrorCode, RequestError
from appliance.types import NodeId
from appliance.wire.requests import Broker, CurrentLeader


class NotLeader(RequestError):
    """This node does not lead the partition; `leader` is who does, if that is known."""

    def __init__(self, leader: Leader) -> None:
        """Names the leader in the message too."""
        where = "nobody leads it now" if leader.node is None else f"node {leader.node} does"
        super().__init__(
            ErrorCode.NOT_LEADER_OR_FOLLOWER, f"this node does not lead the partition: {where}"
        )
        self.leader = leader

    @property
    def hint(self) -> CurrentLeader | None:
        """The leader as the protocol tells of it."""
        return hint_of(self.leader)


def hint_of(leader: Leader) -> CurrentLeader | None:
    """A leader as the protocol tells of it; None while nobody leads."""
    return None if leader.node is None else CurrentLeader(leader.node, leader.term)


def endpoints_of(
    catalogue: Catalogue, listener: str, hints: Iterable[CurrentLeader | None]
) -> tuple[Broker, ...]:
    """The nodes that hints name, as clients of a listener reach them."""
    brokers = []
    for node in sorted({NodeId(hint.node_id) for hint in hints if hint is not None}):
        endpoint = catalogue.endpoint(node, listener)
        if endpoint is not None:
            rack = catalogue.state.nodes[node].rack
            brokers.append(Broker(node, endpoint.host, endpoint.port, rack))
    return tuple(brokers)
