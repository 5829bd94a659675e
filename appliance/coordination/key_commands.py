"""Commands of the catalogue about key domains: a topic's own key, and how it is shredded.

Rules: those of `commands`. A key domain's id is drawn once and never used again: after a shredding
the topic goes on in a new domain, so no wrap of the old one can ever open again by its name.
"""

from uuid import UUID

import msgspec

from appliance.coordination.commands import Command
from appliance.types import (
    KeyDomainId,
    NodeId,
    Offset,
    PartitionId,
    Position,
    TimestampMs,
    TopicId,
)


class AssignKeyDomain(Command, frozen=True, tag="assign-key-domain/1"):
    """Has a topic's logs sealed under a key of their own; before the first of them is made."""

    topic: TopicId
    domain: KeyDomainId


class BeginShred(Command, frozen=True, tag="begin-shred/1"):
    """Step 1: the topic refuses reads and writes; `nodes` are to drop its keys and say so."""

    topic: TopicId
    shred: UUID
    begun_ms: TimestampMs
    nodes: tuple[NodeId, ...]


class LogEnd(msgspec.Struct, frozen=True):
    """Where a log ended when its keys were dropped: it goes on after `position`, at `offset`."""

    partition: PartitionId
    position: Position
    offset: Offset


class ConfirmShred(Command, frozen=True, tag="confirm-shred/1"):
    """Step 2, by each node: its logs are closed and its keys wiped; `ends` of those it holds."""

    topic: TopicId
    shred: UUID
    node: NodeId
    ends: tuple[LogEnd, ...]


class CompleteShred(Command, frozen=True, tag="complete-shred/1"):
    """Step 5: the key is gone and nothing opens; the topic goes on in a new domain.

    `late` are nodes that could not be reached, whose leases have ended.
    """

    topic: TopicId
    shred: UUID
    domain: KeyDomainId
    completed_ms: TimestampMs
    late: tuple[NodeId, ...] = ()


KeyCommand = AssignKeyDomain | BeginShred | ConfirmShred | CompleteShred


class Shredding(msgspec.Struct, frozen=True):
    """A shredding under way."""

    shred: UUID
    begun_ms: TimestampMs
    nodes: tuple[NodeId, ...]
    confirmed: tuple[NodeId, ...] = ()


class Shredded(msgspec.Struct, frozen=True):
    """A shredding that is done: what the certificate of destruction says."""

    shred: UUID
    domain: KeyDomainId
    begun_ms: TimestampMs
    completed_ms: TimestampMs
    confirmed: tuple[NodeId, ...]
    late: tuple[NodeId, ...]


class TopicKeys(msgspec.Struct, frozen=True):
    """A topic's own key domain; `ends` say where its logs begin since the last shredding."""

    domain: KeyDomainId
    shredding: Shredding | None = None
    last: Shredded | None = None
    ends: tuple[LogEnd, ...] = ()


class KeysChanged(msgspec.Struct, frozen=True):
    """The topic's keys are as they were told to be."""

    topic: TopicId
    keys: TopicKeys
