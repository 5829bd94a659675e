"""One partition of a topic: batches in, batches and offsets out.

Rules: the record batch stays opaque; what is known of it comes from its header. Nothing at or above
the high watermark is ever shown. A retry of a batch gets the original's offset, after the original
is committed and not before.
"""

from collections.abc import Callable
from typing import Final

import trio

from appliance.broker.producers import Producer, ProducerTable
from appliance.broker.replica import Replica
from appliance.errors import ErrorCode, KeyProviderError, RequestError, StorageError
from appliance.limits import MAX_DECOMPRESSED_BYTES
from appliance.ports import Slice
from appliance.types import Entry, EntryHeader, EntryKind, Offset, Term, TimestampMs
from appliance.wire.kafka.records import BatchHeader, Record, decode_batch, read_header

Done = Callable[[ErrorCode, int], None]
"""Told what became of a batch: NONE and its base offset, or an error and -1."""

LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
LATEST_TIERED: Final = -5
EARLIEST_TO_TIER: Final = -6
"""Special times of ListOffsets; nothing is tiered here, so local is all there is (KIP-405)."""


class PartitionState:
    """What committed batches amount to: the replica's machine."""

    def __init__(self) -> None:
        self.producers = ProducerTable()
        self.max_timestamp_ms = -1
        self.max_timestamp_offset = Offset(-1)
        """Base offset of the first batch that holds the largest time."""
        self.size_bytes = 0
        """Of every batch that was committed."""
        self.followers: dict[Offset, list[Done]] = {}
        """Retries that wait for the original, by its base offset."""

    def apply(self, entry: Entry) -> None:
        """Takes the next committed batch; commands are not for partitions."""
        if entry.header.kind is not EntryKind.BATCH:
            return
        header = read_header(memoryview(entry.payload))
        base_offset = entry.header.base_offset
        self.size_bytes += header.size_bytes
        if header.max_timestamp_ms > self.max_timestamp_ms:
            self.max_timestamp_ms = header.max_timestamp_ms
            self.max_timestamp_offset = base_offset
        if header.producer_id >= 0:
            self.producers.apply(header, base_offset, entry.header.leader_time_ms)
            for done in self.followers.pop(base_offset, ()):
                done(ErrorCode.NONE, base_offset)


class Partition:
    """A partition whose replica leads."""

    __slots__ = ("_deleted", "_replica", "_state")

    def __init__(self, replica: Replica[None], state: PartitionState) -> None:
        """`state` is the machine that the started replica applies to."""
        self._replica = replica
        self._state = state
        self._deleted = False

    @property
    def replica(self) -> Replica[None]:
        """The replica: its readers, its room, its term."""
        return self._replica

    @property
    def high_watermark(self) -> Offset:
        """The offset after the last committed batch."""
        return self._replica.high_watermark

    @property
    def start_offset(self) -> Offset:
        """The offset of the first batch that is held."""
        return self._replica.log.start_offset

    @property
    def leader_epoch(self) -> Term:
        """The term of the leader, this node."""
        return self._replica.term

    @property
    def size_bytes(self) -> int:
        """What its batches amount to."""
        return self._state.size_bytes

    def producers(self) -> list[tuple[int, Producer]]:
        """Every producer that is remembered, as committed batches left it."""
        return self._state.producers.known()

    def end_of_epoch(self, epoch: int) -> tuple[int, int]:
        """The largest epoch up to `epoch` that has records, and the offset after its last one.

        (-1, -1) where none is known: before the first, or of a time to come (KIP-279).
        """
        if epoch == self.leader_epoch:
            return epoch, self.high_watermark
        table = self._replica.log.epochs()
        ends = [start for _, start in table[1:]] + [self._replica.log.end_offset]
        known = [(term, end) for (term, _), end in zip(table, ends, strict=True) if term <= epoch]
        if epoch > self.leader_epoch or not known:
            return -1, -1
        return known[-1]

    @property
    def deleted(self) -> bool:
        """Whether its topic is gone."""
        return self._deleted

    def append(self, batch: memoryview, header: BatchHeader, done: Done, now_ms: int) -> None:
        """Has a checked batch written; `done` is told later, or now for a committed retry.

        Raises RequestError without having taken the batch.
        """
        self._check_usable()
        replica, producers = self._replica, self._state.producers
        if header.producer_id < 0:
            replica.propose(
                EntryKind.BATCH, batch, header.last_offset_delta, _Written(self._state, done)
            )
            return
        original = producers.judge(header, TimestampMs(now_ms))
        if original is not None:
            if original.base_offset < replica.high_watermark:
                done(ErrorCode.NONE, original.base_offset)
            else:
                self._state.followers.setdefault(original.base_offset, []).append(done)
            return
        entry = replica.propose(
            EntryKind.BATCH, batch, header.last_offset_delta, _Written(self._state, done)
        )
        producers.stage(header, entry.base_offset, entry.leader_time_ms)

    def _check_usable(self) -> None:
        if self._deleted:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the topic was deleted")

    def check_epoch(self, asked: int) -> None:
        """Raises RequestError when a client speaks of another leader's time (KIP-320)."""
        if asked >= 0 and asked != self.leader_epoch:
            if asked < self.leader_epoch:
                raise RequestError(ErrorCode.FENCED_LEADER_EPOCH, "there is a newer leader")
            raise RequestError(ErrorCode.UNKNOWN_LEADER_EPOCH, "that leader is not known here")

    async def read(self, offset: Offset, max_bytes: int) -> Slice:
        """Whole committed batches from the one that holds `offset` on; at least one, if any.

        Raises RequestError: OFFSET_OUT_OF_RANGE below the start or above the end,
        KAFKA_STORAGE_ERROR when the log cannot be read.
        """
        self._check_usable()
        log = self._replica.log
        if not log.start_offset <= offset <= log.end_offset:
            raise RequestError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offsets {log.start_offset} to {self.high_watermark} are held",
            )
        end = self.high_watermark
        if offset >= end:
            return Slice((), offset, offset, 0)
        try:
            return await log.read(offset, end, max_bytes)
        except (StorageError, KeyProviderError):
            raise RequestError(
                ErrorCode.KAFKA_STORAGE_ERROR, "the partition's log cannot be read"
            ) from None

    async def find(self, timestamp_ms: int) -> tuple[int, Offset]:
        """(time, offset) for ListOffsets: earliest, latest, of the largest time, or by time.

        (-1, -1) where no record is meant. Raises RequestError.
        """
        self._check_usable()
        if timestamp_ms == LATEST:
            return -1, self.high_watermark
        if timestamp_ms in {EARLIEST, EARLIEST_LOCAL}:
            return -1, self.start_offset
        if timestamp_ms == MAX_TIMESTAMP:
            return await self._find_largest()
        if timestamp_ms in {LATEST_TIERED, EARLIEST_TO_TIER}:
            return -1, Offset(-1)
        if timestamp_ms < 0:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"no meaning of time {timestamp_ms}")
        return await self._find_by_time(TimestampMs(timestamp_ms))

    async def _find_largest(self) -> tuple[int, Offset]:
        largest_ms = self._state.max_timestamp_ms
        if largest_ms < 0:
            return -1, Offset(-1)
        held = await self.read(self._state.max_timestamp_offset, 1)
        return await _first_at(held.batches[0], TimestampMs(largest_ms))

    async def _find_by_time(self, timestamp_ms: TimestampMs) -> tuple[int, Offset]:
        try:
            batch = await self._replica.log.first_batch_at_time(timestamp_ms, self.high_watermark)
        except (StorageError, KeyProviderError):
            raise RequestError(
                ErrorCode.KAFKA_STORAGE_ERROR, "the partition's log cannot be read"
            ) from None
        return (-1, Offset(-1)) if batch is None else await _first_at(batch, timestamp_ms)

    def end(self) -> None:
        """The topic is deleted: whoever waits or comes is told so."""
        self._deleted = True
        self._replica.readers.end()

    async def close(self) -> None:
        """Lets what is under way become durable, and closes the log."""
        await self._replica.close()


class _Written:
    """Tells a producer what became of its batch; a failure concerns its retries too."""

    __slots__ = ("_done", "_state")

    def __init__(self, state: PartitionState, done: Done) -> None:
        self._state = state
        self._done = done

    def __call__(self, error: ErrorCode, header: EntryHeader, _: None) -> None:
        if error is ErrorCode.NONE:
            self._done(error, header.base_offset)
            return
        self._state.producers.drop_tail()
        self._done(error, -1)
        for done in self._state.followers.pop(header.base_offset, ()):
            done(error, -1)


async def _first_at(batch: memoryview, timestamp_ms: TimestampMs) -> tuple[int, Offset]:
    """The first record of a batch at or after a time; decoded off the loop (DESIGN section 4)."""
    records = await trio.to_thread.run_sync(_decode, batch)
    for record in records:
        if record.timestamp_ms >= timestamp_ms:
            return record.timestamp_ms, Offset(record.offset)
    return -1, Offset(-1)


def _decode(batch: memoryview) -> list[Record]:
    return decode_batch(batch, max_decompressed_bytes=MAX_DECOMPRESSED_BYTES)
