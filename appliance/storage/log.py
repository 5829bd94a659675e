"""A partition's sealed log: entries are staged, flushed together, and read back as whole batches.

Rules:

- Nothing is durable before its sync returned; `on_durable` is the only word of it.
- What arrives while a sync runs goes into the next flush (`storage.flushing`).
- A write or sync that fails ends the log: nothing after it becomes durable, reads go on.
- Taking entries back takes turns with flushes: what is under way becomes durable first, is never
  called durable, and is voided then.
- A full disk is found while space is reserved: nothing was written, what is staged waits, and the
  next flush tries again.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVarTuple

import trio

from appliance.crypto.sealed import PREAMBLE_BYTES
from appliance.errors import DamageDetected, ErrorCode, RequestError, StorageError, StorageFull
from appliance.invariant import invariant
from appliance.limits import (
    MAX_ACTIVE_FRAMES,
    MAX_FLUSH_BYTES,
    MAX_SEGMENT_BYTES,
    NEVER_MS,
)
from appliance.ports import SegmentInfo, Slice, Snapshot
from appliance.storage import layout
from appliance.storage.ahead import ReadAhead
from appliance.storage.cache import CachedFrame, LogTail, TailCache
from appliance.storage.epochs import Epoch, EpochTable
from appliance.storage.files import LogFiles
from appliance.storage.flushing import Flusher, SealedGroups, Unwritten
from appliance.storage.halves import read_piece
from appliance.storage.layout import Stamp
from appliance.storage.logfile import END_OF_INDEXES, LogFile
from appliance.storage.manifest import ClosedEnd
from appliance.storage.marks import MarkRecord
from appliance.storage.reading import Collected, find_batch_at_time, read_entries
from appliance.storage.recovery import Recovered
from appliance.storage.rewriting import Change, Rest, Rewritten, rewrite, unchanged
from appliance.storage.rounds import WriteRounds
from appliance.storage.staging import Group, Staging
from appliance.storage.worker import in_thread
from appliance.types import (
    Entry,
    EntryHeader,
    Index,
    Offset,
    Position,
    Term,
    TimestampMs,
)

Args = TypeVarTuple("Args")


class SealedLog:
    """One log; see `ports.PartitionLog`."""

    def __init__(
        self,
        files: LogFiles,
        *,
        stamp: Stamp,
        cache: TailCache,
        ahead: ReadAhead,
        rounds: WriteRounds,
        on_idle: Callable[[], None],
        found: Recovered,
    ) -> None:
        """For recovery, which has verified what the files hold; `on_idle` follows each flush."""
        self._on_idle = on_idle
        self._files = files
        self._stamp = stamp
        self._cache = cache
        self._tail = LogTail()
        self._ahead = ahead
        self._scanned_to = Offset(-1)
        self._staging = Staging()
        self._flusher = Flusher(self._staging, stamp, rounds)
        self._last = found.last
        self._end_offset = found.end_offset
        self._epochs = found.epochs
        self._durable = found.last.index
        self._written = found.last.index
        self._taken_back = END_OF_INDEXES
        self._segment_bytes = MAX_SEGMENT_BYTES
        self._segment_ms = NEVER_MS
        self._flushing = False
        self._failure: StorageError | None = None
        self._changing = trio.Lock()
        self._changes_waiting = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether its files are let go of and its keys are wiped."""
        return self._closed

    @property
    def last(self) -> Position:
        """See `ports.PartitionLog.last`."""
        return self._last

    @property
    def durable(self) -> Index:
        """See `ports.PartitionLog.durable`."""
        return self._durable

    @property
    def first_index(self) -> Index:
        """See `ports.PartitionLog.first_index`."""
        return self._files.first.entry.first_index

    @property
    def start_offset(self) -> Offset:
        """See `ports.PartitionLog.start_offset`."""
        return self._files.start_offset

    @property
    def end_offset(self) -> Offset:
        """See `ports.PartitionLog.end_offset`."""
        return self._end_offset

    def term_at(self, index: Index) -> Term | None:
        """See `ports.PartitionLog.term_at`."""
        if not self.first_index - 1 <= index <= self._last.index:
            return None
        return self._epochs.term_at(index)

    def epochs(self) -> tuple[tuple[Term, Offset], ...]:
        """See `ports.PartitionLog.epochs`."""
        runs = self._epochs.runs
        return tuple((run.term, run.first_offset) for run in runs if run.term > 0)

    def segments(self) -> tuple[SegmentInfo, ...]:
        """See `ports.PartitionLog.segments`."""
        return self._files.segments(self._written_offset())

    def _written_offset(self) -> Offset:
        """The next offset after what was given to the disk."""
        return self._staging.next_offset(self._end_offset)

    def mark(self) -> MarkRecord:
        """How far the log is durable now, for the node's journal."""
        term = self._epochs.term_at(self._written)
        return self._files.mark(Position(Term(term or 0), self._written))

    @property
    def busy(self) -> bool:
        """Whether entries are staged or on their way to the disk."""
        return bool(self._staging) or self._flushing

    # --- writing -------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """See `ports.PartitionLog.append`."""
        self._refuse_if_failed()
        size = self._staging.check_room(entries)
        for entry in entries:
            header = entry.header
            invariant(header.index == self._last.index + 1, "entries follow one another")
            invariant(header.base_offset == self._end_offset, "batches follow one another")
            self._epochs.note(header.term, header.index, self._end_offset)
            self._last = Position(header.term, header.index)
            self._end_offset = header.next_offset
        self._staging.add(entries, size)
        self._flusher.arrived()

    async def flush(self, on_durable: Callable[[Index], None]) -> None:
        """See `ports.PartitionLog.flush`."""
        invariant(not self._flushing, "one flush runs at a time")
        self._flushing = True
        try:
            while self._staging:
                await self._flush_in_turn(on_durable)
        except StorageFull:
            raise
        except StorageError as failure:
            self._failure = failure
            raise
        finally:
            self._flushing = False
            self._on_idle()

    async def _flush_in_turn(self, on_durable: Callable[[Index], None]) -> None:
        """Takes its turn with other changes, without a detour over the scheduler if it can."""
        try:
            self._changing.acquire_nowait()
        except trio.WouldBlock:
            with trio.CancelScope(shield=True):
                await self._changing.acquire()
        try:
            self._refuse_if_failed()
            if self._staging:
                await self._flush_staged(on_durable)
        finally:
            self._changing.release()

    async def _flush_staged(self, on_durable: Callable[[Index], None]) -> None:
        limit = min(self._segment_bytes, MAX_SEGMENT_BYTES)
        groups = self._staging.take(min(MAX_FLUSH_BYTES, limit), at_least_one=True)

        def goes_on() -> bool:
            return not self._changes_waiting and not self._is_old(file, self._staging.first)

        def synced(sealed: SealedGroups) -> None:
            if self._note_synced(file, sealed):
                on_durable(self._durable)

        try:
            file = await self._file_for(groups, limit)
            room = limit - file.writer.position
            await self._flusher.flush(file, groups, room, goes_on, synced)
        except Unwritten as unwritten:
            self._staging.give_back(unwritten.groups, self._taken_back)
            raise

    async def _file_for(self, groups: Sequence[Group], limit: int) -> LogFile:
        """The active file, or the next one if it is too old or would grow beyond `limit`.

        Or beyond MAX_ACTIVE_FRAMES: a start pays for each frame, however small.
        """
        file, first = self._files.active, groups[0][0].header
        written = file.writer.position
        too_large = (
            written + sum(map(layout.frame_bytes, groups)) > limit
            or file.frames >= MAX_ACTIVE_FRAMES
        )
        if written and (too_large or self._is_old(file, first)):
            try:
                return await self._roll(first.index, first.base_offset)
            except StorageFull as full:
                raise Unwritten(groups, full) from None
        return file

    def _is_old(self, file: LogFile, first: EntryHeader) -> bool:
        """Whether an entry comes too long after the first one of a file."""
        return 0 <= file.first_time_ms <= first.leader_time_ms - self._segment_ms

    def _note_synced(self, file: LogFile, sealed: SealedGroups) -> bool:
        """Takes in what a sync has made durable; whether more of the log is, then."""
        file.synced(sealed.flush)
        for group, before in zip(sealed.groups, sealed.flush.befores, strict=True):
            file.note(group, before)
        self._written = sealed.groups[-1][-1].header.index
        if self._taken_back <= self._written:
            durable = min(self._written, Index(self._taken_back - 1))
        else:
            durable = self._written
            self._keep(sealed)
        grown = durable > self._durable
        self._durable = max(durable, self._durable)
        return grown

    def _keep(self, sealed: SealedGroups) -> None:
        """Keeps the plaintext of durable frames for those who keep up."""
        for group, plaintext in zip(sealed.groups, sealed.plaintexts, strict=True):
            headers = [entry.header for entry in group]
            content = memoryview(plaintext)[PREAMBLE_BYTES:]
            frame = CachedFrame(headers[0].base_offset, headers[-1].next_offset, content, headers)
            self._cache.add(self._tail, frame)

    async def _roll(self, index: Index, offset: Offset) -> LogFile:
        """Closes the active file with a final frame and begins the next one, at these."""
        epochs = self._epochs.before(index)
        return await in_thread(partial(self._files.roll, index, offset, epochs))

    def limit_segments(self, *, max_bytes: int, max_ms: int) -> None:
        """See `ports.PartitionLog.limit_segments`."""
        self._segment_bytes, self._segment_ms = max_bytes, max_ms

    # --- taking back ---------------------------------------------------------------------------

    async def truncate(self, last_kept: Index) -> None:
        """See `ports.PartitionLog.truncate`."""
        invariant(last_kept >= self.first_index - 1, "what a snapshot covers is not taken back")
        if last_kept >= self._last.index:
            return
        async with self._change(Index(last_kept + 1)):
            term = self._epochs.term_at(last_kept)
            invariant(term is not None, "the log knows the term of what it holds")
            offset = await self._next_offset_at(last_kept)
            self._epochs.void_from(Index(last_kept + 1))
            if last_kept < self._written:
                runs = self._epochs.runs
                await self._write(self._files.truncate, Index(last_kept + 1), offset, runs)
                self._written = last_kept
            self._cache.forget(self._tail)
            self._ahead.forget(id(self))
            self._last = Position(Term(term or 0), last_kept)
            self._end_offset = offset
            self._durable = min(self._durable, last_kept)

    async def _next_offset_at(self, index: Index) -> Offset:
        """The next offset after an entry that is held, or before the first one."""
        if index < self.first_index:
            return self._files.first.entry.first_offset
        if index > self._written:
            return self._staging.last_offset()
        (entry,) = await self.entries(index, index, 1)
        return entry.header.next_offset

    async def reset(
        self, position: Position, offset: Offset, snapshot: Snapshot | None = None
    ) -> None:
        """See `ports.PartitionLog.reset`."""
        async with self._change(Index(0)):
            self._epochs = EpochTable((Epoch(position.term, position.index, offset),))
            first = Index(position.index + 1)
            await self._write(self._files.reset, first, offset, self._epochs.runs, snapshot)
            self._cache.forget(self._tail)
            self._ahead.forget(id(self))
            self._last = position
            self._end_offset = offset
            self._durable = self._written = position.index

    async def raise_start(
        self,
        offset: Offset,
        *,
        applied: Index | None = None,
        snapshot: Callable[[Index], Snapshot | None] | None = None,
    ) -> None:
        """See `ports.PartitionLog.raise_start`."""
        async with self._change(END_OF_INDEXES):
            invariant(offset <= self._end_offset, "a log does not start after its end")
            may_go = self._written if applied is None else min(applied, self._written)
            end = self._written_offset()
            next_index = Index(self._written + 1)
            begun = self._files.active.entry.first_index
            try:
                if offset == end and begun < next_index <= may_go + 1:
                    runs = self._epochs.before(next_index)
                    await self._write(self._files.roll, next_index, end, runs)
                first = self._files.first_kept(offset, may_go).entry.first_index
                taken = None
                if snapshot is not None and first > self.first_index:
                    taken = snapshot(Index(first - 1))
                    may_go = Index(0) if taken is None else may_go
                await self._write(self._files.raise_start, offset, may_go, taken)
            except StorageFull:
                self._failure = None  # nothing has changed; whoever wants it tries again
                raise
            self._epochs.forget_before(Index(self.first_index - 1))

    async def keep_snapshot(self, snapshot: Callable[[Index], Snapshot | None]) -> None:
        """See `ports.PartitionLog.keep_snapshot`."""
        async with self._change(END_OF_INDEXES):
            taken = snapshot(Index(self.first_index - 1))
            if taken is not None:
                try:
                    await self._write(self._files.keep_snapshot, taken)
                except StorageFull:
                    self._failure = None  # the one before stands
                    raise

    async def read_snapshot(self) -> Snapshot | None:
        """See `ports.PartitionLog.read_snapshot`."""
        return await trio.to_thread.run_sync(self._files.read_snapshot)

    @property
    def compacted(self) -> Offset:
        """See `ports.PartitionLog.compacted`."""
        return self._files.manifest.compacted

    async def rewrite(self, first_index: Index, change: Change) -> None:
        """See `ports.PartitionLog.rewrite`."""
        self._refuse_if_failed()
        old = self._files.closed_at(first_index)
        if old is None:
            return
        try:
            rewritten = await rewrite(self._files, old, change, self._stamp)
        except StorageError:
            if self._files.closed_at(first_index) is not old:
                return  # retention has taken the file while it was read
            raise
        if rewritten.wanted and rewritten.closed is not None:
            await self._replace(rewritten, rewritten.closed)

    @property
    def outdated_bytes(self) -> int:
        """See `ports.PartitionLog.outdated_bytes`."""
        return sum(file.end for file in self._files.outdated)

    async def rekey(self, rest: Rest) -> bool:
        """See `ports.PartitionLog.rekey`."""
        self._refuse_if_failed()
        outdated = self._files.outdated
        if not outdated:
            await self._write(self._files.remove_torn)
            return False
        if self._files.active in outdated:
            await self._renew_active()
        else:
            old = outdated[0]
            try:
                rewritten = await rewrite(self._files, old, unchanged, self._stamp, rest)
            except StorageError:
                if old in self._files.outdated:
                    raise
                return True  # retention has taken the file while it was read
            if rewritten.closed is not None:
                await self._replace(rewritten, rewritten.closed)
        return True

    async def _replace(self, rewritten: Rewritten, closed: ClosedEnd) -> None:
        async with self._change(END_OF_INDEXES):
            await self._write(self._files.take_rewritten, rewritten.old, rewritten.fresh, closed)

    async def _renew_active(self) -> None:
        """Has what is written next sealed under the newest key: ends the active file.

        One that holds no entry is replaced.
        """
        async with self._change(END_OF_INDEXES):
            next_index = Index(self._written + 1)
            if self._files.active.entry.first_index == next_index:
                await self._write(self._files.renew_active)
            else:
                runs = self._epochs.before(next_index)
                await self._write(self._files.roll, next_index, self._written_offset(), runs)

    async def end_compaction(self, end: Offset) -> None:
        """See `ports.PartitionLog.end_compaction`."""
        async with self._change(END_OF_INDEXES):
            await self._write(self._files.set_compacted, end)

    @asynccontextmanager
    async def _change(self, taken_back: Index) -> AsyncIterator[None]:
        """One change at a time, none while a flush is under way; entries from `taken_back` on go.

        What is under way of them becomes durable, is not called so, and is voided then.
        """
        self._refuse_if_failed()
        self._staging.drop_from(taken_back)
        self._taken_back = min(self._taken_back, taken_back)
        self._changes_waiting += 1
        with trio.CancelScope(shield=True):
            async with self._changing:
                self._changes_waiting -= 1
                try:
                    self._refuse_if_failed()
                    yield
                finally:
                    self._taken_back = END_OF_INDEXES
        self._on_idle()

    async def _write(self, change: Callable[[*Args], object], *given: *Args) -> None:
        """Changes the files in a thread; a failure ends the log."""
        try:
            await trio.to_thread.run_sync(change, *given)
        except StorageError as failure:
            self._failure = failure
            raise

    # --- reading -------------------------------------------------------------------------------

    async def read(self, start: Offset, end: Offset, max_bytes: int) -> Slice:
        """See `ports.PartitionLog.read`."""
        self._check_held(start, end)
        frames = self._tail.frames
        if start < end and not (frames and frames[0].base_offset <= start):
            collected = await self._read_files(start, end, max_bytes)
        else:
            collected = Collected(start, end, max_bytes)
            for frame in tuple(frames):
                if frame.next_offset > start and not collected.take(frame.content, frame.headers):
                    break
        if not (collected.slices or collected.complete):
            raise DamageDetected("the log does not hold the offset that it must hold")
        return collected.slice()

    async def _read_files(self, start: Offset, end: Offset, max_bytes: int) -> Collected:
        """What was read ahead, or is read now; and what comes next is wanted for a scan."""
        collected = await self._ahead.take(id(self), start, max_bytes)
        if collected is None:
            collected = await self._read_now(start, end, max_bytes)
        reached = collected.slice().next_offset
        if start == self._scanned_to and reached < end:
            self._ahead.want(id(self), self._collect, reached, end, max_bytes)
        self._scanned_to = reached
        return collected

    def _collect(self, start: Offset, end: Offset, max_bytes: int) -> Collected:
        """Reads the files; blocks."""
        return read_piece(self._files, start, end, max_bytes)

    async def _read_now(self, start: Offset, end: Offset, max_bytes: int) -> Collected:
        """Reads, and once more if the file was taken away or replaced meanwhile."""
        while True:
            sequence = self._files.manifest.sequence
            try:
                return await in_thread(partial(self._collect, start, end, max_bytes))
            except StorageError:
                self._check_held(start, end)
                if self._files.manifest.sequence == sequence:
                    raise

    def _check_held(self, start: Offset, end: Offset) -> None:
        if not self.start_offset <= start <= end:
            raise RequestError(ErrorCode.OFFSET_OUT_OF_RANGE, "the offset is not in the log")

    async def entries(self, first: Index, last: Index, max_bytes: int) -> list[Entry]:
        """See `ports.PartitionLog.entries`."""
        return await trio.to_thread.run_sync(read_entries, self._files, first, last, max_bytes)

    async def first_batch_at_time(
        self, timestamp_ms: TimestampMs, end: Offset
    ) -> memoryview | None:
        """See `ports.PartitionLog.first_batch_at_time`."""
        return await trio.to_thread.run_sync(
            find_batch_at_time, self._files, timestamp_ms, self.start_offset, end
        )

    async def close(self) -> None:
        """See `ports.PartitionLog.close`."""
        invariant(not self._flushing, "a log is closed when nothing is flushed any more")
        with trio.CancelScope(shield=True):
            if self._failure is None:
                await self.flush(lambda _: None)
                async with self._changing:
                    await trio.to_thread.run_sync(self._files.stop)
            self._failure = StorageError("the log is closed")
            self._cache.forget(self._tail)
            self._ahead.forget(id(self))
            self._closed = True
            await trio.to_thread.run_sync(self._files.close)

    def _refuse_if_failed(self) -> None:
        if self._failure is not None:
            raise StorageError(f"the log takes nothing more: {self._failure}")
