"""What the node journal remembers: votes, and marks that say how much of each log was durable.

A mark is written after the sync that it attests. So a log that ends before its mark has lost what
was durable, and is damaged, not torn (DESIGN section 5). Journal and manifests carry each other's
sequence, so that either of them, rolled back alone, is named.
"""

from uuid import UUID

import msgspec

from appliance.crypto.sealed import FrameRef
from appliance.errors import DamageDetected
from appliance.types import NodeId, PartitionId, Position, Term


class VoteRecord(msgspec.Struct, frozen=True, tag="vote"):
    """A group's term and this node's vote in it."""

    partition: PartitionId
    term: Term
    vote: NodeId | None


class MarkRecord(msgspec.Struct, frozen=True, tag="mark"):
    """How far a log is durable: in which file, up to which frame and entry.

    `manifest` is the sequence of the manifest in force: one that is found with a smaller one was
    rolled back. `position` is of the last entry that is not void.
    """

    partition: PartitionId
    manifest: int
    file: UUID
    frame: FrameRef
    length: int
    position: Position


class LossRecord(msgspec.Struct, frozen=True, tag="loss"):
    """What a damaged log once held, as far as is known; None once it holds that again."""

    partition: PartitionId
    known_last: Position | None


class LifeRecord(msgspec.Struct, frozen=True, tag="life"):
    """The number of a life of this node's process, larger than those of all before."""

    number: int


class SequenceRecord(msgspec.Struct, frozen=True, tag="sequence"):
    """How many records this journal and those before it had held before it began."""

    sequence: int


class GoneRecord(msgspec.Struct, frozen=True, tag="gone"):
    """A log that was deleted."""

    partition: PartitionId


AnyRecord = VoteRecord | MarkRecord | LossRecord | GoneRecord | LifeRecord | SequenceRecord
_decoder: msgspec.msgpack.Decoder[AnyRecord] = msgspec.msgpack.Decoder(AnyRecord)


class Remembered:
    """The newest vote and mark of every group, and what damaged logs once held."""

    def __init__(self) -> None:
        """Begins with nothing."""
        self.votes: dict[PartitionId, VoteRecord] = {}
        self.marks: dict[PartitionId, MarkRecord] = {}
        self.losses: dict[PartitionId, LossRecord] = {}
        self.life = LifeRecord(0)
        self.sequence = 0
        """Of the last record of the journals that were replayed; it never falls."""

    def apply(self, record: AnyRecord) -> bytes:
        """Takes a record in, and gives the bytes to be journalled for it."""
        if isinstance(record, VoteRecord):
            self.votes[record.partition] = record
        elif isinstance(record, MarkRecord):
            self.marks[record.partition] = record
        elif isinstance(record, SequenceRecord):
            self.sequence = record.sequence
        elif isinstance(record, LifeRecord):
            self.life = record
        elif isinstance(record, LossRecord):
            self.losses.pop(record.partition, None)
            if record.known_last is not None:
                self.losses[record.partition] = record
        else:
            self.losses.pop(record.partition, None)
            self.votes.pop(record.partition, None)
            self.marks.pop(record.partition, None)
        return msgspec.msgpack.encode(record)

    def replay(self, records: list[bytes]) -> None:
        """Takes a whole journal in; raises DamageDetected if a record is malformed."""
        for record in records:
            try:
                self.sequence += 1
                self.apply(_decoder.decode(record))
            except msgspec.MsgspecError:
                raise DamageDetected("a record of the node journal is malformed") from None

    def snapshot(self, sequence: int) -> list[bytes]:
        """Everything, as the first records of a new journal, which goes on after `sequence`."""
        begun = SequenceRecord(sequence)
        newest = (*self.votes.values(), *self.marks.values(), *self.losses.values())
        return [msgspec.msgpack.encode(record) for record in (begun, self.life, *newest)]
