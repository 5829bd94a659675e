"""What a partition remembers of idempotent producers, so that a retry is written once (KIP-98).

Rules: `applied` follows committed batches only and is rebuilt by replay; `tail` lies over it for
batches that are staged, so that a producer's next batch can be judged before the last one is
durable. The last five batches of a producer are remembered, as many as it may have in flight.
Whatever expires does so by the entries' leader time, never by a clock (DESIGN section 7), so every
replay forgets the same producers at the same entry.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from appliance.errors import ErrorCode, RequestError
from appliance.invariant import invariant
from appliance.limits import (
    MAX_PRODUCERS_PER_PARTITION,
    PRODUCER_EXPIRY_MS,
    PRODUCER_GRACE_MS,
)
from appliance.types import Offset, TimestampMs
from appliance.wire.kafka.records import BatchHeader

REMEMBERED_BATCHES: Final = 5
_SEQUENCE_MASK: Final = 0x7FFF_FFFF


class Mark(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A batch that was taken: its sequences and where it lies."""

    first_sequence: int
    last_sequence: int
    base_offset: Offset


class Producer(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A producer's current epoch and its last batches, the newest last."""

    epoch: int
    marks: tuple[Mark, ...]
    time_ms: TimestampMs

    def after(self, header: BatchHeader, mark: Mark, time_ms: TimestampMs) -> "Producer":
        """This producer once it has written one more batch."""
        marks = self.marks if header.producer_epoch == self.epoch else ()
        return Producer(header.producer_epoch, (*marks[1 - REMEMBERED_BATCHES :], mark), time_ms)


_NOBODY: Final = Producer(-1, (), TimestampMs(0))


class ProducerTable:
    """Committed state and the staged tail over it."""

    __slots__ = ("_applied", "_bound", "_pending", "_tail")

    def __init__(self, bound: int = MAX_PRODUCERS_PER_PARTITION) -> None:
        """`bound`: how many producers are remembered at most."""
        self._applied: dict[int, Producer] = {}
        """The longest silent first: a producer moves to the end with each batch."""
        self._tail: dict[int, Producer] = {}
        self._pending: dict[int, int] = {}
        self._bound = bound

    @classmethod
    def holding(cls, known: Sequence[tuple[int, Producer]]) -> "ProducerTable":
        """A table that remembers what `known` gave."""
        table = cls()
        table._applied.update(known)
        return table

    def __len__(self) -> int:
        """How many producers have committed something that is remembered."""
        return len(self._applied)

    def known(self) -> list[tuple[int, Producer]]:
        """Every producer that has committed something that is remembered, by its id."""
        return list(self._applied.items())

    def judge(self, header: BatchHeader, now_ms: TimestampMs) -> Mark | None:
        """None if the batch is the producer's next; the mark of the original if it is a retry.

        Raises RequestError: INVALID_PRODUCER_EPOCH for a fenced producer,
        OUT_OF_ORDER_SEQUENCE_NUMBER for a gap, POLICY_VIOLATION for a producer too many.
        """
        producer = self._tail.get(header.producer_id) or self._applied.get(header.producer_id)
        if producer is None:
            self._check_room(now_ms)
            return None  # what it wrote before may have expired: any first sequence will do
        if header.producer_epoch < producer.epoch:
            raise RequestError(
                ErrorCode.INVALID_PRODUCER_EPOCH, "the producer has been fenced by a newer epoch"
            )
        first, last = header.base_sequence, header.last_sequence
        expected = 0
        if header.producer_epoch == producer.epoch:
            for mark in producer.marks:
                if mark.first_sequence == first and mark.last_sequence == last:
                    return mark
            expected = (producer.marks[-1].last_sequence + 1) & _SEQUENCE_MASK
        if first != expected:
            raise RequestError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, f"sequence {expected} comes next"
            )
        return None

    def expected(self, header: BatchHeader) -> int:
        """The sequence that comes next under a batch's epoch; 0 where nothing is known of it."""
        producer = self._tail.get(header.producer_id) or self._applied.get(header.producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            return 0
        return (producer.marks[-1].last_sequence + 1) & _SEQUENCE_MASK

    def _check_room(self, now_ms: TimestampMs) -> None:
        if len(self._applied) + len(self._tail) < self._bound:
            return
        oldest = next(iter(self._applied.values()), None)
        if oldest is None or oldest.time_ms > now_ms - PRODUCER_GRACE_MS:
            raise RequestError(
                ErrorCode.POLICY_VIOLATION, "too many producers have written to this partition"
            )

    def stage(self, header: BatchHeader, base_offset: Offset, time_ms: TimestampMs) -> None:
        """Notes a batch that was judged and proposed."""
        key = header.producer_id
        before = self._tail.get(key) or self._applied.get(key) or _NOBODY
        mark = Mark(header.base_sequence, header.last_sequence, base_offset)
        self._tail[key] = before.after(header, mark, time_ms)
        self._pending[key] = self._pending.get(key, 0) + 1

    def apply(self, header: BatchHeader, base_offset: Offset, time_ms: TimestampMs) -> None:
        """Notes a committed batch; the tail's part of it is done."""
        key = header.producer_id
        before = self._applied.pop(key, _NOBODY)
        mark = Mark(header.base_sequence, header.last_sequence, base_offset)
        self._applied[key] = before.after(header, mark, time_ms)
        self._settle(key)
        self._expire(time_ms)

    def _settle(self, key: int) -> None:
        pending = self._pending.get(key)
        if pending is None:
            return  # a replay stages nothing
        if pending > 1:
            self._pending[key] = pending - 1
            return
        invariant(pending == 1, "a batch is staged before it is committed")
        del self._pending[key]
        del self._tail[key]

    def _expire(self, time_ms: TimestampMs) -> None:
        """Forgets who has been silent for too long, and the longest silent beyond the bound."""
        while self._applied:
            key, oldest = next(iter(self._applied.items()))
            silent = oldest.time_ms < time_ms - PRODUCER_EXPIRY_MS
            if not silent and len(self._applied) <= self._bound:
                return
            del self._applied[key]

    def drop_tail(self) -> None:
        """Forgets what was staged in an earlier term."""
        self._tail.clear()
        self._pending.clear()
