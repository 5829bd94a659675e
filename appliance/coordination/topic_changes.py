"""Commands of the catalogue that change a topic that is there.

Rules: those of `commands`. Each names the topic by id, so that a namesake made meanwhile is left
alone, and says what it expects to find, so that two that cross do not undo each other.
"""

import msgspec

from appliance.coordination.commands import Command, Topic
from appliance.types import PartitionId, TopicId


class AlterTopic(Command, frozen=True, tag="alter-topic/1"):
    """Puts other settings in place of those that a topic has."""

    topic: TopicId
    expected: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]


class AddPartitions(Command, frozen=True, tag="add-partitions/1"):
    """Gives a topic that has `expected_count` partitions more of them."""

    topic: TopicId
    expected_count: int
    partitions: tuple[PartitionId, ...]


TopicChange = AlterTopic | AddPartitions


class TopicChanged(msgspec.Struct, frozen=True):
    """The topic as it is now."""

    topic: Topic
