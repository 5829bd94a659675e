"""What the node journal remembers: votes, and marks that say how much of each log was durable.

A mark is written after the sync that it attests. So a log that ends before its mark has lost what
was durable, and is damaged, not torn (DESIGN section 5).
"""

from uuid import UUID

import msgspec

from appliance.errors import DamageDetected
from appliance.types import NodeId, PartitionId, Term


class VoteRecord(msgspec.Struct, frozen=True, tag="vote"):
    """A group's term and this node's vote in it."""

    partition: PartitionId
    term: Term
    vote: NodeId | None


class MarkRecord(msgspec.Struct, frozen=True, tag="mark"):
    """The length up to which a log's active file is durable."""

    partition: PartitionId
    file: UUID
    length: int


class GoneRecord(msgspec.Struct, frozen=True, tag="gone"):
    """A log that was deleted."""

    partition: PartitionId


_decoder = msgspec.msgpack.Decoder(VoteRecord | MarkRecord | GoneRecord)


class Remembered:
    """The newest vote and mark of every group."""

    def __init__(self) -> None:
        """Begins with nothing."""
        self.votes: dict[PartitionId, VoteRecord] = {}
        self.marks: dict[PartitionId, MarkRecord] = {}

    def apply(self, record: VoteRecord | MarkRecord | GoneRecord) -> bytes:
        """Takes a record in, and gives the bytes to be journalled for it."""
        if isinstance(record, VoteRecord):
            self.votes[record.partition] = record
        elif isinstance(record, MarkRecord):
            self.marks[record.partition] = record
        else:
            self.votes.pop(record.partition, None)
            self.marks.pop(record.partition, None)
        return msgspec.msgpack.encode(record)

    def replay(self, records: list[bytes]) -> None:
        """Takes a whole journal in; raises DamageDetected if a record is malformed."""
        for record in records:
            try:
                self.apply(_decoder.decode(record))
            except msgspec.MsgspecError:
                raise DamageDetected("a record of the node journal is malformed") from None

    def snapshot(self) -> list[bytes]:
        """Everything, as the first records of a new journal."""
        return [msgspec.msgpack.encode(r) for r in (*self.votes.values(), *self.marks.values())]
