"""What can be done, and to what: the words that policies, the gate and the audit log share.

Rules: the values are what a policy line says, spelled as Kafka's ACLs spell them; a resource's name
is plain data, never a pattern.
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct


class Action(StrEnum):
    """What a principal does to a resource (Kafka's AclOperation, KIP-11 and KIP-277)."""

    READ = "READ"
    WRITE = "WRITE"
    CREATE = "CREATE"
    DELETE = "DELETE"
    ALTER = "ALTER"
    DESCRIBE = "DESCRIBE"
    CLUSTER_ACTION = "CLUSTER_ACTION"
    DESCRIBE_CONFIGS = "DESCRIBE_CONFIGS"
    ALTER_CONFIGS = "ALTER_CONFIGS"
    IDEMPOTENT_WRITE = "IDEMPOTENT_WRITE"


class ResourceKind(StrEnum):
    """What kinds of things a policy line can speak of."""

    TOPIC = "TOPIC"
    GROUP = "GROUP"
    CLUSTER = "CLUSTER"
    TRANSACTIONAL_ID = "TRANSACTIONAL_ID"
    POLICY = "POLICY"


class Resource(Struct, frozen=True, gc=False):
    """One thing, by its kind and its name; the name may be hostile and is only ever compared."""

    kind: ResourceKind
    name: str


CLUSTER: Final = Resource(ResourceKind.CLUSTER, "kafka-cluster")
"""The one cluster, under the name that Kafka's ACLs give it."""

POLICY: Final = Resource(ResourceKind.POLICY, "policy")
"""The one policy."""

GRANTED_BY: Final = {
    Action.DESCRIBE: (
        Action.DESCRIBE,
        Action.READ,
        Action.WRITE,
        Action.DELETE,
        Action.ALTER,
    ),
    Action.DESCRIBE_CONFIGS: (Action.DESCRIBE_CONFIGS, Action.ALTER_CONFIGS),
}
"""Which allowed actions bring another with them; an action that is not here brings itself only.

It holds for lines that allow. A line that denies READ says nothing about DESCRIBE.
"""


class Elsewhere(Struct, frozen=True, gc=False):
    """What will do instead of an action that no line allows and no line denies.

    `resource` None stands for at least one resource of `kind`, whichever it is.
    """

    action: Action
    kind: ResourceKind
    resource: Resource | None


INSTEAD: Final = {
    (Action.CREATE, ResourceKind.TOPIC): Elsewhere(Action.CREATE, ResourceKind.CLUSTER, CLUSTER),
    (Action.IDEMPOTENT_WRITE, ResourceKind.CLUSTER): Elsewhere(
        Action.WRITE, ResourceKind.TOPIC, None
    ),
}
"""Whoever may create in the cluster may create each topic (KIP-277); whoever may write to some
topic may have a producer id (KIP-679). Unlike Kafka, a line that denies the action itself wins."""

ACTIONS_ON: Final = {
    ResourceKind.TOPIC: frozenset(
        {
            Action.READ,
            Action.WRITE,
            Action.CREATE,
            Action.DELETE,
            Action.ALTER,
            Action.DESCRIBE,
            Action.DESCRIBE_CONFIGS,
            Action.ALTER_CONFIGS,
        }
    ),
    ResourceKind.GROUP: frozenset(
        {
            Action.READ,
            Action.DELETE,
            Action.DESCRIBE,
            Action.DESCRIBE_CONFIGS,
            Action.ALTER_CONFIGS,
        }
    ),
    ResourceKind.CLUSTER: frozenset(
        {
            Action.CREATE,
            Action.ALTER,
            Action.DESCRIBE,
            Action.CLUSTER_ACTION,
            Action.DESCRIBE_CONFIGS,
            Action.ALTER_CONFIGS,
            Action.IDEMPOTENT_WRITE,
        }
    ),
    ResourceKind.TRANSACTIONAL_ID: frozenset({Action.WRITE, Action.DESCRIBE}),
    ResourceKind.POLICY: frozenset({Action.ALTER, Action.DESCRIBE}),
}
"""The actions that a request may need on a resource of each kind; others are misspelt."""
