"""What commands about keys ask of nodes first: which there are, and how they see the keys."""

from appliance.client.admin import Admin
from appliance.errors import ConfigurationError, KeysUnavailable
from appliance.types import NodeId
from appliance.wire.requests import DescribeKeysResult, KeyDomainState


async def reached_nodes(admin: Admin) -> list[NodeId]:
    """Every node of the cluster; raises KeysUnavailable unless all of them are heard."""
    found = (await admin.nodes()).nodes
    silent = [str(each.node) for each in found if not each.alive]
    if silent:
        raise KeysUnavailable(
            f"nodes {', '.join(silent)} cannot be reached, and keep keys and data of their own:"
            " bring them back and run this again"
        )
    return [each.node for each in found]


def state_of(found: DescribeKeysResult, topic: str | None) -> KeyDomainState:
    """A topic's own domain, or the cluster's; raises ConfigurationError."""
    for state in found.domains:
        if state.topic == topic:
            return state
    raise ConfigurationError(
        f"topic {topic} has no key of its own: leave --topic away to rotate the cluster's"
    )


def name_of(state: KeyDomainState) -> str:
    """What a person calls it."""
    return "the cluster's key" if state.topic is None else f"the key of topic {state.topic}"
