"""What the asker may do with a resource, as the bit field that Kafka's clients know (KIP-430).

Bit n is set for the operation that Kafka's ACLs number n.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from appliance.authz.actions import ACTIONS_ON, Action, Resource
from appliance.authz.gate import Authorized
from appliance.wire.requests import Request

OPERATION_NUMBERS: Final[Mapping[Action, int]] = MappingProxyType({
    Action.READ: 3,
    Action.WRITE: 4,
    Action.CREATE: 5,
    Action.DELETE: 6,
    Action.ALTER: 7,
    Action.DESCRIBE: 8,
    Action.CLUSTER_ACTION: 9,
    Action.DESCRIBE_CONFIGS: 10,
    Action.ALTER_CONFIGS: 11,
    Action.IDEMPOTENT_WRITE: 12,
})  # fmt: skip
"""Kafka's `AclOperation` codes; 1 is 'any' and 2 'all', which are no operations themselves."""


def operations_on(authorized: Authorized[Request], resource: Resource) -> int:
    """The operations that are allowed on `resource`."""
    bits = 0
    for action in ACTIONS_ON[resource.kind]:
        if authorized.permits(action, resource).allowed:
            bits |= 1 << OPERATION_NUMBERS[action]
    return bits
