"""Commands of the catalogue about key domains: a topic's own key, and how it is shredded.

Rules: those of `commands`. A key domain's id is drawn once and never used again: after a shredding
the topic goes on in a new domain, so no wrap of the old one can ever open again by its name.
"""

from uuid import UUID

import msgspec

from appliance.coordination.commands import Command, Topic
from appliance.ports import WrapAt
from appliance.types import (
    KeyDomainId,
    NodeId,
    Offset,
    PartitionId,
    Position,
    Term,
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
    """Where a log ended on one node; `term` is the latest that the node knows of its group."""

    partition: PartitionId
    position: Position
    offset: Offset
    term: Term


class ConfirmShred(Command, frozen=True, tag="confirm-shred/2"):
    """Step 2, by each node: its logs are closed and its keys wiped.

    `ends` are of those logs that it holds and can read, or was to hold and never began. `trial` is
    one of the wraps that it kept, for whoever checks later that none opens.
    """

    topic: TopicId
    shred: UUID
    node: NodeId
    ends: tuple[LogEnd, ...]
    trial: WrapAt | None = None


class NoteKeyGone(Command, frozen=True, tag="note-key-gone/1"):
    """Step 4, where a node was not reached: the key is gone and nothing opens.

    From here on no node earns its lease on the key anew, so each counts once that has ended.
    """

    topic: TopicId
    shred: UUID


class CompleteShred(Command, frozen=True, tag="complete-shred/2"):
    """Step 5: the key is gone and nothing opens; the topic goes on in a new domain and new logs.

    `partitions` are the ids of these, one for each that the topic has. `late` are nodes that could
    not be reached, whose leases have ended.
    """

    topic: TopicId
    shred: UUID
    domain: KeyDomainId
    partitions: tuple[PartitionId, ...]
    completed_ms: TimestampMs
    late: tuple[NodeId, ...] = ()


KeyCommand = AssignKeyDomain | BeginShred | ConfirmShred | NoteKeyGone | CompleteShred


class Confirmed(msgspec.Struct, frozen=True):
    """What one node has said in step 2."""

    node: NodeId
    ends: tuple[LogEnd, ...]
    trial: WrapAt | None = None


class Shredding(msgspec.Struct, frozen=True):
    """A shredding under way."""

    shred: UUID
    begun_ms: TimestampMs
    nodes: tuple[NodeId, ...]
    confirmations: tuple[Confirmed, ...] = ()
    key_gone: bool = False

    @property
    def confirmed(self) -> tuple[NodeId, ...]:
        """The nodes that have dropped the keys, in the order in which they said so."""
        return tuple(each.node for each in self.confirmations)

    @property
    def missing(self) -> tuple[NodeId, ...]:
        """The nodes that have not said so yet."""
        return tuple(sorted(set(self.nodes) - set(self.confirmed)))


class Shredded(msgspec.Struct, frozen=True):
    """A shredding that is done: what the certificate of destruction says."""

    shred: UUID
    domain: KeyDomainId
    begun_ms: TimestampMs
    completed_ms: TimestampMs
    confirmed: tuple[NodeId, ...]
    late: tuple[NodeId, ...]


class LogBegin(msgspec.Struct, frozen=True):
    """Where a log that took another's place begins: behind `position`, at `offset`.

    The position is one that no entry has, in the latest term of the group before: so the leader
    epochs that clients see go on growing, as do the offsets.
    """

    partition: PartitionId
    position: Position
    offset: Offset


class TopicKeys(msgspec.Struct, frozen=True):
    """A topic's own key domain; `begins` say where its logs begin since the last shredding."""

    domain: KeyDomainId
    shredding: Shredding | None = None
    last: Shredded | None = None
    begins: tuple[LogBegin, ...] = ()


class KeysChanged(msgspec.Struct, frozen=True):
    """The topic's keys are as they were told to be."""

    topic: TopicId
    keys: TopicKeys


class TopicShredded(msgspec.Struct, frozen=True):
    """The topic has other logs than `before`, under a key that has sealed nothing yet."""

    before: Topic
    topic: Topic
    keys: TopicKeys
