"""What nodes may ask of each other: rows of the authorisation catalogue for the peer listener.

Rules: only a node's certificate comes in here, and it is enough: consensus must go on when the
policy cannot be read. A forwarded request is judged again as its principal's, by the same gate; a
node's own commands are checked by their handler to be about that node.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from appliance.authz.catalogue import CATALOGUE, CatalogueEntry, EntryKind
from appliance.errors import ErrorCode
from appliance.types import PrincipalKind
from appliance.wire.requests.base import Request
from appliance.wire.requests.peer import Deliver, Enact, Forward, Greet

_OF_NODES: Final = CatalogueEntry(
    EntryKind.OPEN,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    ErrorCode.NONE,
    asked_by=PrincipalKind.NODE,
    listeners=frozenset({"peer"}),
)

PEER_ROWS: Final[Mapping[type[Request], CatalogueEntry]] = MappingProxyType(
    {Greet: _OF_NODES, Deliver: _OF_NODES, Forward: _OF_NODES, Enact: _OF_NODES}
)
"""Every request of a node."""

ALL_ROWS: Final[Mapping[type[Request], CatalogueEntry]] = MappingProxyType(
    {**CATALOGUE, **PEER_ROWS}
)
"""Every request of anybody: what the gate judges by."""
