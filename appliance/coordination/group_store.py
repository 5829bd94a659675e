"""What must survive of groups: their offsets, and the number of their last generation.

Rules: deterministic, fed by committed commands only. Offsets belong to a topic's id, so a namesake
of a deleted topic begins without any.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import assert_never

import msgspec

from appliance.coordination.group_messages import (
    BeginGeneration,
    CommitOffsets,
    DropGroup,
    ForgetGroup,
    ForgetTopic,
    GroupCommand,
    StoredOffset,
)
from appliance.limits import MAX_GROUPS
from appliance.types import GroupName, Offset, PartitionIndex, TimestampMs, TopicId

Place = tuple[TopicId, PartitionIndex]


class _Kept(msgspec.Struct):
    generation: int = 0
    protocol_type: str = ""
    offsets: dict[Place, StoredOffset] = {}


class KeptGroup(msgspec.Struct, frozen=True, array_like=True):
    """One group as a snapshot holds it."""

    group: GroupName
    generation: int
    protocol_type: str
    offsets: tuple[tuple[TopicId, PartitionIndex, Offset, int, str, TimestampMs], ...]
    """Of each partition: topic, partition, offset, leader epoch, metadata, time."""


class KeptGroups(msgspec.Struct, frozen=True, tag="groups/1"):
    """All groups as a snapshot holds them."""

    groups: tuple[KeptGroup, ...]


class GroupStore:
    """Applied state of all groups."""

    def __init__(self) -> None:
        self._groups: dict[GroupName, _Kept] = {}

    def __contains__(self, group: object) -> bool:
        """Whether anything is kept of a group."""
        return group in self._groups

    def names(self) -> tuple[GroupName, ...]:
        """Every group of which something is kept, sorted."""
        return tuple(sorted(self._groups))

    def has_room(self, group: GroupName) -> bool:
        """Whether the group is known, or one more may be."""
        return group in self._groups or len(self._groups) < MAX_GROUPS

    def generation(self, group: GroupName) -> int:
        """The last generation that began; 0 before the first."""
        kept = self._groups.get(group)
        return kept.generation if kept is not None else 0

    def protocol_type(self, group: GroupName) -> str:
        """The protocol type of the last generation; empty before the first."""
        kept = self._groups.get(group)
        return kept.protocol_type if kept is not None else ""

    def offsets(self, group: GroupName) -> Mapping[Place, StoredOffset]:
        """The group's offsets by topic and partition."""
        kept = self._groups.get(group)
        return MappingProxyType(kept.offsets if kept is not None else {})

    def topics(self) -> frozenset[TopicId]:
        """Every topic of which some group has an offset."""
        return frozenset(topic for kept in self._groups.values() for topic, _ in kept.offsets)

    def apply(self, command: GroupCommand) -> None:
        """Takes the next command of the log."""
        match command:
            case BeginGeneration():
                kept = self._keep(command.group)
                kept.generation = max(kept.generation, command.generation)
                kept.protocol_type = command.protocol_type
            case CommitOffsets():
                kept = self._keep(command.group)
                for stored in command.offsets:
                    kept.offsets[stored.topic, stored.partition] = stored
            case DropGroup():
                self._groups.pop(command.group, None)
            case ForgetGroup():
                if not self.offsets(command.group):
                    self._groups.pop(command.group, None)
            case ForgetTopic():
                self._forget_topic(command.topic)
            case _:
                assert_never(command)

    def kept(self) -> KeptGroups:
        """Everything, for a snapshot."""
        return KeptGroups(
            tuple(
                KeptGroup(
                    name,
                    kept.generation,
                    kept.protocol_type,
                    tuple(map(msgspec.structs.astuple, kept.offsets.values())),
                )
                for name, kept in self._groups.items()
            )
        )

    def restore(self, kept: KeptGroups) -> None:
        """Holds what a snapshot holds, and nothing else."""
        self._groups = {
            each.group: _Kept(
                each.generation,
                each.protocol_type,
                {(offset[0], offset[1]): StoredOffset(*offset) for offset in each.offsets},
            )
            for each in kept.groups
        }

    def _keep(self, group: GroupName) -> _Kept:
        return self._groups.setdefault(group, _Kept())

    def _forget_topic(self, topic: TopicId) -> None:
        for kept in self._groups.values():
            gone = [place for place in kept.offsets if place[0] == topic]
            for place in gone:
                del kept.offsets[place]
