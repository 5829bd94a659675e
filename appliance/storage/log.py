"""A partition's sealed log: entries are staged, flushed together, and read back as whole batches.

Rules:

- Nothing is durable before its sync returned; `on_durable` is the only word of it.
- What arrives while a sync runs goes into the next flush. Small flushes are sealed on the event
  loop, larger ones in the thread that writes them: one thread hop either way.
- A write or sync that fails ends the log: nothing after it becomes durable, reads go on.
- A full disk is found while space is reserved; what was staged then is refused, nothing is lost.
"""

from collections.abc import Callable, Sequence

import trio

from appliance.crypto.sealed import PREAMBLE_BYTES, FrameKind
from appliance.errors import DamageDetected, ErrorCode, RequestError, StorageError, StorageFull
from appliance.invariant import invariant
from appliance.limits import (
    INLINE_SEAL_BYTES,
    MAX_FLUSH_BYTES,
    MAX_FRAME_PAYLOAD_BYTES,
    MAX_SEGMENT_BYTES,
    MAX_STAGED_BYTES,
)
from appliance.ports import Slice
from appliance.storage import layout
from appliance.storage.cache import CachedFrame, LogTail, TailCache
from appliance.storage.files import LogFile, LogFiles
from appliance.storage.layout import Stamp
from appliance.storage.segment import Flush, Frame
from appliance.types import (
    Entry,
    EntryHeader,
    EntryKind,
    Index,
    Offset,
    Position,
    TimestampMs,
)

_Group = list[Entry]


class SealedLog:
    """One log; see `ports.PartitionLog`."""

    def __init__(
        self,
        files: LogFiles,
        *,
        stamp: Stamp,
        cache: TailCache,
        on_idle: Callable[[], None],
        last: Position,
        end_offset: Offset,
    ) -> None:
        """For recovery, which has verified what the files hold; `on_idle` follows each flush."""
        self._on_idle = on_idle
        self._files = files
        self._stamp = stamp
        self._cache = cache
        self._tail = LogTail()
        self._staged: list[Entry] = []
        self._staged_bytes = 0
        self._last = last
        self._end_offset = end_offset
        self._durable = last.index
        self._flushing = False
        self._failure: StorageError | None = None

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
        return self._files.first.entry.first_offset

    @property
    def end_offset(self) -> Offset:
        """See `ports.PartitionLog.end_offset`."""
        return self._end_offset

    @property
    def busy(self) -> bool:
        """Whether entries are staged or on their way to the disk."""
        return bool(self._staged) or self._flushing

    # --- writing -------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """See `ports.PartitionLog.append`."""
        self._refuse_if_failed()
        size = sum(map(layout.entry_bytes, entries))
        if self._staged_bytes + size > MAX_STAGED_BYTES:
            raise StorageFull("more entries wait for the disk than may")
        for entry in entries:
            header = entry.header
            invariant(header.index == self._last.index + 1, "entries follow one another")
            invariant(header.base_offset == self._end_offset, "batches follow one another")
            self._last = Position(header.term, header.index)
            self._end_offset = header.next_offset
        self._staged += entries
        self._staged_bytes += size

    async def flush(self, on_durable: Callable[[Index], None]) -> None:
        """See `ports.PartitionLog.flush`."""
        invariant(not self._flushing, "one flush runs at a time")
        self._flushing = True
        try:
            with trio.CancelScope(shield=True):
                while self._staged:
                    self._refuse_if_failed()
                    await self._flush_some()
                    on_durable(self._durable)
        except StorageError as failure:
            self._failure = failure
            raise
        finally:
            self._flushing = False
            self._on_idle()

    async def _flush_some(self) -> None:
        """Seals, writes and syncs one flush of what is staged."""
        groups = self._take()
        frames = [(group, layout.lay_out(group, self._stamp)) for group in groups]
        size = sum(len(plaintext) for _, plaintext in frames)
        file = self._files.active
        if file.writer.position + size > MAX_SEGMENT_BYTES:
            file = await self._roll(groups[0][0].header)
        before = file.writer.tail
        flush = self._seal(file, frames) if size < INLINE_SEAL_BYTES else None

        def write_and_sync() -> Flush:
            sealed = flush or self._seal(file, frames)
            file.file.reserve(sealed.position + len(sealed.buffer))
            file.file.write(sealed.position, sealed.buffer)
            file.file.sync()
            return sealed

        sealed = await trio.to_thread.run_sync(write_and_sync)
        file.writer.synced(sealed.last)
        file.index.note(groups[0][0].header.index, groups[0][0].header.base_offset, before)
        self._keep(frames)
        self._durable = groups[-1][-1].header.index

    def _take(self) -> list[_Group]:
        """Entries for one flush, grouped by frame; at least one entry."""
        groups: list[_Group] = [[]]
        taken = flushed = held = 0
        for entry in self._staged:
            size = layout.entry_bytes(entry)
            if taken and flushed + size > MAX_FLUSH_BYTES:
                break
            if groups[-1] and held + size > MAX_FRAME_PAYLOAD_BYTES:
                groups.append([])
                held = 0
            groups[-1].append(entry)
            held += size
            flushed += size
            taken += 1
        del self._staged[:taken]
        self._staged_bytes -= flushed
        return groups

    @staticmethod
    def _seal(file: LogFile, frames: Sequence[tuple[_Group, bytearray]]) -> Flush:
        return file.writer.lay_out(
            [(FrameKind.ENTRIES, len(group), plaintext) for group, plaintext in frames]
        )

    def _keep(self, frames: Sequence[tuple[_Group, bytearray]]) -> None:
        """Keeps the plaintext of durable frames for those who keep up."""
        for group, plaintext in frames:
            headers = [entry.header for entry in group]
            content = memoryview(plaintext)[PREAMBLE_BYTES:]
            frame = CachedFrame(headers[0].base_offset, headers[-1].next_offset, content, headers)
            self._cache.add(self._tail, frame)

    async def _roll(self, first: EntryHeader) -> LogFile:
        """Closes the active file with a final frame and begins the next one."""

        def roll() -> LogFile:
            return self._files.roll(first.index, first.base_offset)

        return await trio.to_thread.run_sync(roll)

    # --- reading -------------------------------------------------------------------------------

    async def read(self, start: Offset, end: Offset, max_bytes: int) -> Slice:
        """See `ports.PartitionLog.read`."""
        if not self.start_offset <= start <= end:
            raise RequestError(ErrorCode.OFFSET_OUT_OF_RANGE, "the offset is not in the log")
        collected = _Collected(start, end, max_bytes)
        frames = self._tail.frames
        if start < end and not (frames and frames[0].base_offset <= start):
            await trio.to_thread.run_sync(self._read_files, collected, start)
        else:
            for frame in tuple(frames):
                if frame.next_offset > start and not collected.take(frame.content, frame.headers):
                    break
        if start < end and not collected.slices:
            raise DamageDetected("the log does not hold the offset that it must hold")
        return collected.slice()

    def _read_files(self, collected: "_Collected", start: Offset) -> None:
        for file in self._files.from_offset(start):
            for frame in file.frames_before_offset(start):
                headers = _headers_of(frame)
                if headers and headers[-1].next_offset <= start:
                    continue
                if headers and not collected.take(frame.content, headers):
                    return

    async def entries(self, first: Index, last: Index, max_bytes: int) -> list[Entry]:
        """See `ports.PartitionLog.entries`."""

        def read() -> list[Entry]:
            found: list[Entry] = []
            size = 0
            for file in self._files.from_index(first):
                for frame in file.frames_before_index(first):
                    for entry in layout.entries_of(frame.content, _headers_of(frame)):
                        if entry.header.index < first:
                            continue
                        size += layout.entry_bytes(entry)
                        if entry.header.index > last or (found and size > max_bytes):
                            return found
                        found.append(entry)
            return found

        return await trio.to_thread.run_sync(read)

    async def first_batch_at_time(
        self, timestamp_ms: TimestampMs, end: Offset
    ) -> memoryview | None:
        """See `ports.PartitionLog.first_batch_at_time`."""

        def search() -> memoryview | None:
            for file in self._files:
                for frame in file.frames_before_offset(file.entry.first_offset):
                    for entry in layout.entries_of(frame.content, _headers_of(frame)):
                        if entry.header.kind is not EntryKind.BATCH:
                            continue
                        if entry.header.next_offset > end:
                            return None
                        if layout.max_timestamp_ms(entry) >= timestamp_ms:
                            return memoryview(entry.payload)
            return None

        return await trio.to_thread.run_sync(search)

    async def close(self) -> None:
        """See `ports.PartitionLog.close`."""
        invariant(not self._flushing, "a log is closed when nothing is flushed any more")
        with trio.CancelScope(shield=True):
            if self._failure is None:
                await self.flush(lambda _: None)
                await trio.to_thread.run_sync(self._files.stop)
            self._cache.forget(self._tail)
            self._files.close()
            self._failure = StorageError("the log is closed")

    def _refuse_if_failed(self) -> None:
        if self._failure is not None:
            raise StorageError(f"the log takes nothing more: {self._failure}")


def _headers_of(frame: Frame) -> list[EntryHeader]:
    if frame.preamble.kind is not FrameKind.ENTRIES:
        return []
    return layout.read_headers(frame.content, frame.preamble.count)


class _Collected:
    """Batches from `start` on, within the bounds of a read, but never less than one."""

    def __init__(self, start: Offset, end: Offset, max_bytes: int) -> None:
        self.slices: list[memoryview] = []
        self._next = start
        self._end = end
        self._left = max_bytes
        self._base: Offset | None = None

    def take(self, content: memoryview, headers: Sequence[EntryHeader]) -> bool:
        """Takes what it may of a frame; False when there is no more to take."""
        at = len(headers) * layout.ENTRY_HEADER_BYTES
        first = stop = -1
        goes_on = True
        for header in headers:
            if header.kind is EntryKind.BATCH and header.next_offset > self._next:
                too_much = self._base is not None and header.payload_bytes > self._left
                if header.next_offset > self._end or too_much:
                    goes_on = False
                    break
                if stop != at:
                    self._keep(content, first, stop)
                    first = at
                stop = at + header.payload_bytes
                self._left -= header.payload_bytes
                self._next = header.next_offset
                self._base = header.base_offset if self._base is None else self._base
            at += header.payload_bytes
        self._keep(content, first, stop)
        return goes_on and self._next < self._end

    def _keep(self, content: memoryview, first: int, stop: int) -> None:
        if first >= 0:
            self.slices.append(content[first:stop])

    def slice(self) -> Slice:
        """What was collected."""
        base = self._next if self._base is None else self._base
        size = sum(len(part) for part in self.slices)
        return Slice(tuple(self.slices), base, self._next, size)
