"""The one message between each two nodes that says: I live, and this is what I lead now.

    body = epoch 8 | sequence 8 | flags 1 | count 4 | groups | terms | leads
    columns of count values: a group 16, its term 4, whether it is led 1

Rules (DESIGN section 7): one every 100 ms, however many groups there are, with only those whose
leadership has changed since the last; everything (`FULL`) on a new connection, after which changes
cannot be missed, since a connection keeps order and is dropped with what it still held. Rows are
columns, taken apart without an object for each.
"""

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final
from uuid import UUID

import msgspec

from appliance.errors import ProtocolViolation
from appliance.types import PartitionId, Term

_HEAD: Final = Struct(">QQBI")
FULL: Final = 1
_ROW_BYTES: Final = 16 + 4 + 1


class Row(msgspec.Struct, frozen=True, gc=False):
    """Whether the sender leads a group, and in which term."""

    group: PartitionId
    term: Term
    leads: bool


class Liveness(msgspec.Struct, frozen=True, gc=False):
    """One message, its columns still packed."""

    epoch: int
    sequence: int
    full: bool
    groups: memoryview
    terms: memoryview
    leads: memoryview

    def rows(self) -> Iterator[Row]:
        """The rows."""
        terms = self.terms.cast("B")
        for at, leads in enumerate(self.leads):
            group = PartitionId(UUID(bytes=bytes(self.groups[16 * at : 16 * at + 16])))
            term = Term(int.from_bytes(terms[4 * at : 4 * at + 4], "big"))
            yield Row(group, term, bool(leads))


def encode(epoch: int, sequence: int, rows: Iterable[Row], *, full: bool) -> bytes:
    """The body of one message."""
    held = tuple(rows)
    return b"".join(
        (
            _HEAD.pack(epoch, sequence, FULL if full else 0, len(held)),
            *(row.group.bytes for row in held),
            *(row.term.to_bytes(4, "big") for row in held),
            bytes(row.leads for row in held),
        )
    )


def decode(body: memoryview) -> Liveness:
    """Takes a message apart; raises ProtocolViolation."""
    if len(body) < _HEAD.size:
        raise ProtocolViolation("a liveness message is cut short")
    epoch, sequence, flags, count = _HEAD.unpack_from(body)
    if flags not in {0, FULL} or len(body) != _HEAD.size + count * _ROW_BYTES:
        raise ProtocolViolation("a liveness message does not add up")
    groups = body[_HEAD.size : _HEAD.size + 16 * count]
    terms = body[_HEAD.size + 16 * count : _HEAD.size + 20 * count]
    return Liveness(epoch, sequence, flags == FULL, groups, terms, body[_HEAD.size + 20 * count :])
