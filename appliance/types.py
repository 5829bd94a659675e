"""The quantities and names that cross module boundaries.

Index counts entries of a Raft log, Offset counts records of a partition; both start at 0 for
offsets
and 1 for indexes. No bare int crosses a module: a function that takes two of these takes them by
name.
"""

from enum import IntEnum
from typing import Final, NewType
from uuid import UUID

import msgspec

Index = NewType("Index", int)
"""Position of an entry in one Raft log; the first entry has index 1, 0 means 'before the first'."""

Term = NewType("Term", int)
"""Raft term, below 2^31 because clients know it as the leader epoch (DESIGN section 4)."""

Offset = NewType("Offset", int)
"""Position of a record in one partition, from 0."""

TimestampMs = NewType("TimestampMs", int)
"""Milliseconds since the Unix epoch."""

NodeId = NewType("NodeId", int)
"""A node's number; used once for all time."""

PartitionIndex = NewType("PartitionIndex", int)
"""A partition's number within its topic, from 0."""

ProducerId = NewType("ProducerId", int)
ProducerEpoch = NewType("ProducerEpoch", int)
Sequence = NewType("Sequence", int)

TopicName = NewType("TopicName", str)
GroupName = NewType("GroupName", str)
MemberId = NewType("MemberId", str)

ClusterId = NewType("ClusterId", UUID)
TopicId = NewType("TopicId", UUID)

PartitionId = NewType("PartitionId", UUID)
"""Names one replicated log: a topic's partition, the catalogue, an internal log.

Never a name on disk.
"""

KeyDomainId = NewType("KeyDomainId", UUID)
"""What one Vault key protects: the whole cluster, or one topic."""

Buffer = bytes | bytearray | memoryview


class EntryKind(IntEnum):
    """What an entry of a Raft log holds (DESIGN section 4, 'Entries and offsets')."""

    BATCH = 0
    COMMAND = 1
    CONFIGURATION = 2
    NO_OP = 3
    GAP = 4


ENTRY_HEADER_BYTES: Final = 40
"""What each entry takes of a log beside its payload."""


class EntryHeader(msgspec.Struct, frozen=True, gc=False):
    """The fixed-width header before each entry; only batches advance offsets.

    `base_offset` of an entry that takes no offsets is the next offset to be assigned, and its
    `last_offset_delta` is -1, so `base_offset + last_offset_delta + 1` is the next offset for
    every kind.
    """

    kind: EntryKind
    index: Index
    term: Term
    leader_time_ms: TimestampMs
    base_offset: Offset
    last_offset_delta: int
    payload_bytes: int

    @property
    def next_offset(self) -> Offset:
        """The offset that the next batch after this entry takes."""
        return Offset(self.base_offset + self.last_offset_delta + 1)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An entry of a Raft log; the payload is never copied between the socket and the seal."""

    header: EntryHeader
    payload: bytes | bytearray | memoryview


class Position(msgspec.Struct, frozen=True, gc=False, order=True):
    """A place in a Raft log, ordered as Raft compares logs: by term, then by index."""

    term: Term
    index: Index


class PrincipalKind(IntEnum):
    """Whom a certificate speaks for."""

    USER = 0
    NODE = 1


class Principal(msgspec.Struct, frozen=True):
    """Who makes a request, as authenticated; equality is identity for authorisation and caches."""

    kind: PrincipalKind
    name: str

    def __str__(self) -> str:
        """`User:alice` or `Node:1`, as policies, Kafka's ACLs and the audit log write it."""
        return f"{'User' if self.kind is PrincipalKind.USER else 'Node'}:{self.name}"
