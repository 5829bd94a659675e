"""What the asker may do with a resource, as the bit field that Kafka's clients know (KIP-430).

Bit n is set for the operation that Kafka's ACLs number n.
"""

from appliance.authz.acls import OPERATIONS
from appliance.authz.actions import ACTIONS_ON, Resource
from appliance.authz.gate import Authorized
from appliance.wire.requests import Request


def operations_on(authorized: Authorized[Request], resource: Resource) -> int:
    """The operations that are allowed on `resource`."""
    bits = 0
    for action in ACTIONS_ON[resource.kind]:
        if authorized.permits(action, resource).allowed:
            bits |= 1 << OPERATIONS[action]
    return bits
