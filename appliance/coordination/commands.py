"""The commands of the catalogue and what each comes to: values, applied in log order.

Rules: a command holds everything that its effect depends on (ids and times are drawn by who
proposes it, never by who applies it). Its tag carries its version: a changed meaning is a new
class with the next number, used only after the catalogue's feature level allows it (DESIGN
section 7).
"""

from typing import Union

import msgspec

from appliance.errors import ErrorCode
from appliance.types import NodeId, PartitionId, ProducerId, TopicId, TopicName


class Command(msgspec.Struct, frozen=True, tag_field="command", forbid_unknown_fields=True):
    """Root of all replicated commands."""


class CreateTopic(Command, frozen=True, tag="create-topic/1"):
    """Makes a topic; its logs are made after this is committed."""

    topic: TopicId
    name: TopicName
    partitions: tuple[PartitionId, ...]
    settings: tuple[tuple[str, str], ...] = ()


class DeleteTopic(Command, frozen=True, tag="delete-topic/1"):
    """Removes a topic, by id so that a namesake made meanwhile is left alone."""

    topic: TopicId


class AllocateProducerIds(Command, frozen=True, tag="allocate-producer-ids/1"):
    """Hands a node a block of ids that nobody ever gets again (KIP-730)."""

    node: NodeId
    count: int


class SetPolicy(Command, frozen=True, tag="set-policy/1"):
    """Puts a whole policy in force if `expected_version` still is."""

    text: str
    expected_version: int


class Endpoint(msgspec.Struct, frozen=True):
    """Where clients of one listener reach a node."""

    listener: str
    host: str
    port: int


class RegisterNode(Command, frozen=True, tag="register-node/1"):
    """Says where a node is and how it is reached."""

    node: NodeId
    host: str
    rack: str | None
    endpoints: tuple[Endpoint, ...]


CatalogCommand = Union[CreateTopic, DeleteTopic, AllocateProducerIds, SetPolicy, RegisterNode]


class Topic(msgspec.Struct, frozen=True, array_like=True):
    """One topic: partition i is the log `partitions[i]`."""

    topic: TopicId
    name: TopicName
    partitions: tuple[PartitionId, ...]
    settings: tuple[tuple[str, str], ...]


class TopicCreated(msgspec.Struct, frozen=True):
    """The topic is in the catalogue."""

    topic: Topic


class TopicDeleted(msgspec.Struct, frozen=True):
    """The topic is no longer in the catalogue; its logs are to be removed."""

    topic: Topic


class ProducerIds(msgspec.Struct, frozen=True):
    """Ids `first` to `first + count - 1`."""

    first: ProducerId
    count: int


class PolicySet(msgspec.Struct, frozen=True):
    """The policy's new version."""

    version: int


class NodeRegistered(msgspec.Struct, frozen=True):
    """The node is known as it said."""

    node: NodeId


class CommandRefused(msgspec.Struct, frozen=True):
    """Nothing was changed, and why."""

    error: ErrorCode
    message: str


Outcome = Union[
    TopicCreated, TopicDeleted, ProducerIds, PolicySet, NodeRegistered, CommandRefused
]  # fmt: skip
