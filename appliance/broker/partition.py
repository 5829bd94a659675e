"""One partition of a topic: batches in, batches and offsets out.

Rules: the record batch stays opaque; what is known of it comes from its header. Nothing at or above
the high watermark is ever shown. A retry of a batch gets the original's offset, after the original
is committed and not before.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from appliance.broker.cleaning import clean
from appliance.broker.opening import with_records_of
from appliance.broker.partition_commands import (
    KeptState,
    SetLogStart,
    decode,
    decode_state,
    encode,
    encode_state,
)
from appliance.broker.producers import Producer, ProducerTable
from appliance.broker.replica import Replica
from appliance.broker.retention import new_start
from appliance.broker.topic_settings import TopicSettings
from appliance.broker.withheld import Wanted
from appliance.errors import (
    DamageDetected,
    ErrorCode,
    KeyProviderError,
    RequestError,
    Shredded,
    StorageError,
)
from appliance.ports import Slice
from appliance.raft.ready import Role
from appliance.types import Entry, EntryHeader, EntryKind, Offset, Term, TimestampMs
from appliance.wire.kafka.records import BatchHeader, Record, read_header, read_stamp

Done = Callable[[ErrorCode, int], None]
"""Told what became of a batch: NONE and its base offset, or an error and -1."""

FREE_AFTER_S: Final = (0.0, 0.1, 1.0)
"""When files are looked at once the log begins further up; later, housekeeping does."""

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
        """Knows nothing of any batch."""
        self.on_start: Callable[[], None] = lambda: None
        """Told when the log begins further up."""
        self.producers = ProducerTable()
        self.staged_in = Term(0)
        """The term under which the batches were proposed that lie over the applied ones."""
        self.max_timestamp_ms = -1
        self.max_timestamp_offset = Offset(-1)
        """Base offset of the first batch that holds the largest time."""
        self.followers: dict[Offset, list[Done]] = {}
        """Retries that wait for the original, by its base offset."""
        self.log_start = Offset(0)
        """Where the log begins by command."""

    def snapshot(self) -> bytes:
        """See `applying.Machine.snapshot`."""
        return encode_state(
            KeptState(
                tuple(self.producers.known()),
                self.max_timestamp_ms,
                self.max_timestamp_offset,
                self.log_start,
            )
        )

    def restore(self, state: bytes) -> None:
        """See `applying.Machine.restore`."""
        kept = decode_state(state)
        self.producers = ProducerTable.holding(kept.producers)
        self.staged_in = Term(0)
        self.max_timestamp_ms = kept.max_timestamp_ms
        self.max_timestamp_offset = kept.max_timestamp_offset
        self.followers = {}
        self.log_start = kept.log_start

    def apply(self, entry: Entry) -> None:
        """Takes the next committed batch or command."""
        if entry.header.kind is EntryKind.COMMAND:
            command = decode(entry.payload)
            if command.offset > self.log_start:
                self.log_start = command.offset
                self.on_start()
            return
        largest_ms, producer_id = read_stamp(entry.payload)
        base_offset = entry.header.base_offset
        if largest_ms > self.max_timestamp_ms:
            self.max_timestamp_ms = largest_ms
            self.max_timestamp_offset = base_offset
        if producer_id >= 0:
            header = read_header(memoryview(entry.payload))
            self.producers.apply(header, base_offset, entry.header.leader_time_ms)
            for done in self.followers.pop(base_offset, ()):
                done(ErrorCode.NONE, base_offset)


class Partition:
    """A partition of which a replica is open here; what is written goes to the one that leads."""

    __slots__ = ("_ended", "_freeing", "_replica", "_shredded_below", "_state")

    def __init__(
        self,
        replica: Replica[None],
        state: PartitionState,
        *,
        shredded_below: Offset = Offset(0),  # noqa: B008 - a number
    ) -> None:
        """`state` is the machine that the started replica applies to.

        Records below `shredded_below` were made unreadable for good.
        """
        self._replica = replica
        self._state = state
        self._shredded_below = shredded_below
        self._ended = ErrorCode.NONE
        self._freeing = False
        state.on_start = self._free_soon
        replica.beginning.keep_state()

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
        return max(self._replica.log.start_offset, self._state.log_start)

    @property
    def leader_epoch(self) -> Term:
        """The term of the leader, this node."""
        return self._replica.term

    @property
    def follows(self) -> bool:
        """Whether this replica is sound and hears a leader elsewhere."""
        replica = self._replica
        return (
            replica.role is Role.FOLLOWER
            and replica.leader is not None
            and not replica.failed
            and not replica.closed
        )

    @property
    def size_bytes(self) -> int:
        """What its files amount to."""
        return sum(segment.size_bytes for segment in self._replica.log.segments())

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

    def divergence(self, epoch: int, offset: int) -> tuple[int, int] | None:
        """Where a reader whose last batch is of `epoch` left this log, or None if it did not.

        The largest epoch up to its own and that one's end, where the reader's is another or lies
        beyond (KIP-595). Raises RequestError(OFFSET_OUT_OF_RANGE) where nothing is known of it.
        """
        known, end = self.end_of_epoch(epoch)
        if epoch == self.leader_epoch:
            end = self._replica.log.end_offset
        if known < 0:
            raise RequestError(
                ErrorCode.OFFSET_OUT_OF_RANGE, "the epoch of the last batch is not known here"
            )
        return (known, end) if known < epoch or end < offset else None

    def append(
        self,
        batch: memoryview,
        header: BatchHeader,
        done: Done,
        now_ms: int,
        wanted: Wanted | None = None,
    ) -> None:
        """Has a checked batch written; `done` is told later, or now for a committed retry.

        It is told of success when a majority holds the batch, or as many replicas as are `wanted`.
        Raises RequestError without having taken the batch.
        """
        self._check_usable()
        if wanted is not None:
            done = self._replica.withheld.until(wanted, done)
        replica, producers = self._replica, self._state.producers
        if header.producer_id < 0:
            replica.propose(
                EntryKind.BATCH, batch, header.last_offset_delta, _Written(self._state, done)
            )
            return
        if not replica.serving:
            replica.check_leading()  # only who leads knows what was written, and what comes next
        self._enter_term()
        original = producers.judge(header, TimestampMs(now_ms))
        if original is not None:
            if original.base_offset < replica.high_watermark:
                done(ErrorCode.NONE, original.base_offset)
            else:
                replica.check_leading()
                self._state.followers.setdefault(original.base_offset, []).append(done)
            return
        entry = replica.propose(
            EntryKind.BATCH, batch, header.last_offset_delta, _Written(self._state, done)
        )
        producers.stage(header, entry.base_offset, entry.leader_time_ms)

    def expected(self, header: BatchHeader) -> int:
        """Which sequence of its producer comes next; 0 where nothing is known of it."""
        if self._replica.serving:
            self._enter_term()
        return self._state.producers.expected(header)

    def _enter_term(self) -> None:
        """Forgets what was staged in an earlier term: what that has kept is applied by now."""
        if self._state.staged_in != self._replica.term:
            self._state.producers.drop_tail()
            self._state.staged_in = self._replica.term

    def _check_usable(self) -> None:
        if self._ended is not ErrorCode.NONE:
            raise RequestError(self._ended, "the topic was deleted, or is being shredded")

    def check_epoch(self, asked: int) -> None:
        """Raises RequestError when a client speaks of another leader's time (KIP-320)."""
        if asked not in {-1, self.leader_epoch}:
            if asked < self.leader_epoch:
                raise RequestError(ErrorCode.FENCED_LEADER_EPOCH, "there is a newer leader")
            raise RequestError(ErrorCode.UNKNOWN_LEADER_EPOCH, "that leader is not known here")

    async def read(self, offset: Offset, max_bytes: int) -> Slice:
        """Whole committed batches from the one that holds `offset` on; at least one, if any.

        Raises Shredded; RequestError: OFFSET_OUT_OF_RANGE below the start or above the end,
        KAFKA_STORAGE_ERROR when the log cannot be read. What lies above the end here may well be
        with a leader that this one has not heard of, and a reader who is told that it is out of
        range begins elsewhere: so a quorum is asked first.
        """
        self._check_usable()
        log = self._replica.log
        if offset > log.end_offset:
            await self._replica.confirm()
        if offset < self._shredded_below:
            raise Shredded(f"records below offset {self._shredded_below} were shredded")
        if not self.start_offset <= offset <= log.end_offset:
            raise RequestError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offsets {self.start_offset} to {self.high_watermark} are held",
            )
        end = self.high_watermark
        if offset >= end:
            return Slice((), offset, offset, 0)
        try:
            return await log.read(offset, end, max_bytes)
        except (StorageError, KeyProviderError) as error:
            self._report(error)
            raise RequestError(
                ErrorCode.KAFKA_STORAGE_ERROR, "the partition's log cannot be read"
            ) from None

    def _report(self, error: Exception) -> None:
        if isinstance(error, DamageDetected):
            self._replica.report_damage()

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
            raise RequestError(ErrorCode.UNSUPPORTED_VERSION, f"no meaning of time {timestamp_ms}")
        return await self._find_by_time(TimestampMs(timestamp_ms))

    async def _find_largest(self) -> tuple[int, Offset]:
        largest_ms = self._state.max_timestamp_ms
        if largest_ms < 0:
            return -1, Offset(-1)
        if self._state.max_timestamp_offset < self.start_offset:
            held_ms = max(segment.max_time_ms for segment in self._replica.log.segments())
            return await self._find_by_time(held_ms) if held_ms >= 0 else (-1, Offset(-1))
        held = await self.read(self._state.max_timestamp_offset, 1)
        return await _first_at(held.batches[0], TimestampMs(largest_ms), self.start_offset)

    async def _find_by_time(self, timestamp_ms: TimestampMs) -> tuple[int, Offset]:
        try:
            batch = await self._replica.log.first_batch_at_time(timestamp_ms, self.high_watermark)
        except (StorageError, KeyProviderError) as error:
            self._report(error)
            raise RequestError(
                ErrorCode.KAFKA_STORAGE_ERROR, "the partition's log cannot be read"
            ) from None
        return (
            (-1, Offset(-1))
            if batch is None
            else await _first_at(batch, timestamp_ms, self.start_offset)
        )

    # --- where the log begins ---

    def deletable(self, offset: int) -> Offset:
        """The offset up to which records go that are asked to; -1 is the high watermark.

        Raises RequestError(OFFSET_OUT_OF_RANGE) beyond the high watermark.
        """
        if offset == -1:
            return self.high_watermark
        if not 0 <= offset <= self.high_watermark:
            raise RequestError(
                ErrorCode.OFFSET_OUT_OF_RANGE, f"the high watermark is {self.high_watermark}"
            )
        return Offset(offset)

    async def set_start(self, offset: Offset) -> Offset:
        """Has the log begin at `offset` for everyone, and returns where it begins.

        Raises RequestError; a command whose wait is cancelled may still take effect.
        """
        self._check_usable()
        if offset > self.start_offset:
            await self._replica.room.wait(0)
            await self._propose(SetLogStart(offset))
        with suppress(StorageError):  # it begins there; housekeeping says so, and tries again
            await self.free()
        return self.start_offset

    async def _propose(self, command: SetLogStart) -> None:
        done = trio.Event()
        errors: list[ErrorCode] = []

        def committed(error: ErrorCode, _: EntryHeader, __: None) -> None:
            errors.append(error)
            done.set()

        self._replica.propose(EntryKind.COMMAND, encode(command), -1, committed)
        await done.wait()
        if errors[0] is not ErrorCode.NONE:
            raise RequestError(errors[0], "the command could not be made durable")

    @property
    def is_alone(self) -> bool:
        """Whether this is the group's only replica."""
        return len(self._replica.configuration.members) == 1

    async def free(self) -> None:
        """Removes files below where the log begins; raises StorageError."""
        if not self._ended and self._may_free():
            await self._replica.beginning.free(min(self._state.log_start, self.high_watermark))

    def _free_soon(self) -> None:
        """Has files go without waiting for the next round of housekeeping."""
        if not self._freeing and not self._ended:
            self._freeing = True
            self._replica.start_soon(self._free_now)

    async def _free_now(self) -> None:
        try:
            for delay_s in FREE_AFTER_S:  # a member may need a moment to get what is to go
                await trio.sleep(delay_s)
                with suppress(StorageError):  # housekeeping says so, and tries again
                    await self.free()
                if not self._may_free():
                    return
        finally:
            self._freeing = False

    def _may_free(self) -> bool:
        """Whether readers see more than they should, or a file holds nothing that they may see."""
        start, files = self._state.log_start, self._replica.log.segments()
        oldest = files[0]
        goes_whole = len(files) > 1 or oldest.first_offset < oldest.next_offset
        return start > self._replica.log.start_offset or (
            goes_whole and oldest.next_offset <= start
        )

    def limit_segments(self, settings: TopicSettings) -> None:
        """Has files end as the topic's settings ask."""
        self._replica.log.limit_segments(
            max_bytes=settings.segment_bytes, max_ms=settings.segment_ms
        )

    async def keep_house(self, settings: TopicSettings, now_ms: TimestampMs) -> None:
        """Ends, lets go of and compacts files as the topic's settings ask.

        Where the log begins is for the leader to propose; the rest each replica does for itself.
        Raises RequestError, StorageError.
        """
        self.limit_segments(settings)
        await self.free()
        if settings.deletes and self._replica.serving:
            await self._expire(settings, now_ms)
        if settings.compacts and not self._ended:
            producers = self._state.producers.known()
            await clean(
                self._replica.log,
                settings,
                bound=self.high_watermark,
                keep_headers={producer.marks[-1].base_offset for _, producer in producers},
                drops_tombstones=self.is_alone,
                now_ms=now_ms,
            )

    async def _expire(self, settings: TopicSettings, now_ms: TimestampMs) -> None:
        start = self.start_offset
        kept_from = new_start(
            self._replica.log.segments(),
            start=start,
            high_watermark=self.high_watermark,
            now_ms=now_ms,
            retention_ms=settings.retention_ms,
            retention_bytes=settings.retention_bytes,
        )
        if kept_from > start:
            await self.set_start(kept_from)

    def end(self, code: ErrorCode) -> None:
        """The topic is deleted or being shredded: whoever waits or comes is told so."""
        self._ended = code
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
        self._done(error, -1)
        for done in self._state.followers.pop(header.base_offset, ()):
            done(error, -1)


async def _first_at(
    batch: memoryview, timestamp_ms: TimestampMs, start: Offset
) -> tuple[int, Offset]:
    """The first record of a batch, from `start` on, at or after a time.

    Decoded off the loop (DESIGN section 4).
    """

    def look(records: list[Record]) -> tuple[int, Offset]:
        for record in records:
            if record.timestamp_ms >= timestamp_ms and record.offset >= start:
                return record.timestamp_ms, Offset(record.offset)
        return -1, Offset(-1)

    return await with_records_of(batch, look, stored=True)
