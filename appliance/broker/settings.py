"""What the node's configuration says to the broker."""

import msgspec

from appliance.broker.coordinator import FIRST_JOIN_DELAY_MS
from appliance.broker.telemetry import Subscription
from appliance.coordination.cluster_commands import NEWEST_LEVEL
from appliance.coordination.commands import Endpoint
from appliance.limits import DEFAULT_MOVES_MB_PER_S
from appliance.ports import TelemetrySink
from appliance.types import KeyDomainId
from appliance.wire.requests.peer import Address

PEER_LISTENER = "peer"


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the node's configuration says to the broker.

    `first_policy` is the text that a new cluster begins with; it is not looked at later. `joins`
    says that this node belongs to a cluster that others have begun. `endpoints` are the advertised
    addresses, one a listener (`kafka`, `native`, `peer`).
    """

    domain: KeyDomainId
    host: str
    rack: str | None
    endpoints: tuple[Endpoint, ...]
    auto_create: bool = False
    default_partitions: int = 1
    default_replication: int | None = None
    first_policy: str | None = None
    joins: bool = False
    newest_level: int = NEWEST_LEVEL
    """The feature level that this node says it knows; lower in tests of mixed clusters."""
    moves_bytes_per_s: int = DEFAULT_MOVES_MB_PER_S << 20
    """For logs that are sent to replicas that are yet to come."""
    first_join_delay_ms: int = FIRST_JOIN_DELAY_MS
    subscription: Subscription = Subscription()
    client_reports: TelemetrySink | None = None
    """Where clients' own metrics go; without it none are asked for."""

    @property
    def listens(self) -> bool:
        """Whether there is a listener for other nodes."""
        return any(endpoint.listener == PEER_LISTENER for endpoint in self.endpoints)

    @property
    def address(self) -> Address:
        """Where other nodes reach this one."""
        for endpoint in self.endpoints:
            if endpoint.listener == PEER_LISTENER:
                return Address(endpoint.host, endpoint.port)
        return Address("localhost", 1)
