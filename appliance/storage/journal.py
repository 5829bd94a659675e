"""A sealed, append-only file of small records: the node journal and the audit log.

Rules: `append` returns when its records are durable; whatever arrives while a sync runs goes into
the next one; one write or sync that fails ends the journal for good, a lack of space refuses what
waits and no more. Its file is found by its own
name, chained from `GENESIS`, and every start adds an extent.

A flush is one frame, and its file appears with its first frame whole. So an unreadable first frame
is damage, and so is an unreadable frame that has another behind it: no crash leaves either.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final

import trio

from appliance.crypto.aead import NONCE_RANDOM_BYTES
from appliance.crypto.chain import GENESIS, TagChain
from appliance.crypto.keyring import SALT_BYTES
from appliance.crypto.sealed import (
    NO_FRAME,
    PREAMBLE_BYTES,
    ExtentWriter,
    FrameKind,
    Place,
    Preamble,
    sealed_bytes,
)
from appliance.errors import DamageDetected, StorageError, StorageFull
from appliance.invariant import invariant
from appliance.limits import MAX_FRAME_PAYLOAD_BYTES, MAX_JOURNAL_RECORD_BYTES
from appliance.ports import Entropy, SecretKey
from appliance.storage.disk import BlockFile, Disk
from appliance.storage.marks import MarkRecord
from appliance.storage.segment import Flush, SegmentReader, SegmentWriter, Tail, keep_aside
from appliance.types import Index, PartitionId, Position, Term

_LENGTH: Final = struct.Struct(">I")
BEGINNING: Final = Tail(position=0, tag=GENESIS, frame=NO_FRAME, next_extent=0)


class FileJournal:
    """One journal; see `ports.SealedJournal`."""

    def __init__(self, file: BlockFile, writer: SegmentWriter, reader: SegmentReader) -> None:
        """For `open_journal`, which has verified what the file holds."""
        self._file = file
        self._writer = writer
        self._reader = reader
        self._waiting: list[bytes] = []
        self._round = trio.Event()
        self._flushing = False
        self._accepted = 0
        self._durable = 0
        self._settled = 0
        """Records that are durable, or were refused for want of space."""
        self._no_space = (0, 0)
        """The records that were refused last: after the first number, up to the second."""
        self._failure: StorageError | None = None
        self._broken: StorageError | None = None
        self.on_broken: Callable[[], None] = lambda: None
        """Called when a write has failed: nothing more is recorded in this life of the node."""
        self._marked = (writer.tail.frame, writer.position)

    @property
    def end(self) -> int:
        """Length of what has been written."""
        return self._writer.position

    @property
    def durable_records(self) -> int:
        """How many records have become durable since it was opened."""
        return self._durable

    @property
    def accepted_records(self) -> int:
        """How many records have been taken since it was opened, durable or not."""
        return self._accepted

    async def append(self, records: Sequence[bytes]) -> None:
        """Returns when the records are durable; concurrent calls share one sync."""
        for record in records:
            invariant(len(record) <= MAX_JOURNAL_RECORD_BYTES, "a journal record keeps its bound")
        self._refuse_if_failed()
        self._waiting.extend(records)
        self._accepted += len(records)
        mine = self._accepted
        while self._settled < mine:
            if self._flushing:
                await self._round.wait()
            else:
                with trio.CancelScope(shield=True):
                    await self._flush()
            if self._settled < mine:
                self._refuse_if_failed()
        after, last = self._no_space
        if after < mine <= last:
            raise StorageFull("no space to record anything")

    async def _flush(self) -> None:
        """Writes one frame of what waits, and wakes whoever waited for it."""
        self._flushing = True
        count = _fitting(self._waiting)
        records, self._waiting = self._waiting[:count], self._waiting[count:]
        try:
            await self._write(records)
            self._durable += count
            self._settled += count
        except StorageFull:
            self._no_space = (self._settled, self._accepted)
            self._settled = self._accepted
            self._waiting.clear()
        except StorageError as failure:
            self._failure = self._broken = failure
            self.on_broken()
        finally:
            self._flushing = False
            done, self._round = self._round, trio.Event()
            done.set()

    async def _write(self, records: Sequence[bytes]) -> None:
        flush = self._writer.lay_out([(FrameKind.RECORDS, len(records), _framed(records))])

        def write_and_sync() -> None:
            try:
                self._file.reserve(flush.end)
            except StorageFull:
                self._writer.take_back(flush.befores[0])
                raise
            self._file.write(flush.position, flush.buffers)
            self._file.sync()

        await trio.to_thread.run_sync(write_and_sync)
        self._synced(flush)

    def _synced(self, flush: Flush) -> None:
        self._writer.synced(flush.last)
        self._marked = (flush.last, flush.end)

    def mark(self, name: PartitionId) -> MarkRecord:
        """How far it is durable, for the node journal to attest."""
        frame, length = self._marked
        return MarkRecord(name, 0, name, frame, length, Position(Term(0), Index(0)))

    async def read_all(self) -> list[bytes]:
        """Every record from the first, verified; raises DamageDetected."""
        end = self._writer.position

        def read() -> list[bytes]:
            records = read_records(self._reader, end)
            if self._reader.tail.position != end:
                raise DamageDetected("a journal cannot be read to its end")
            return records

        return await trio.to_thread.run_sync(read)

    async def close(self) -> None:
        """Seals a stop frame and lets go of the file."""
        with trio.CancelScope(shield=True):
            while self._flushing:
                await self._round.wait()
            if self._failure is None:
                flush = self._writer.lay_out([(FrameKind.STOP, 0, bytearray(PREAMBLE_BYTES))])

                def write_and_sync() -> None:
                    self._file.write(flush.position, flush.buffers)
                    self._file.sync()

                await trio.to_thread.run_sync(write_and_sync)
                self._synced(flush)
                self._failure = StorageError("the journal is closed")
            self._file.close()

    def check(self) -> None:
        """Raises StorageError if a write has failed, which only another start mends."""
        if self._broken is not None:
            raise StorageError(f"a journal takes nothing more: {self._broken}")

    def _refuse_if_failed(self) -> None:
        if self._failure is not None:
            raise StorageError(f"nothing more is recorded: {self._failure}")


def read_records(reader: SegmentReader, end: int) -> list[bytes]:
    """Every record up to `end`, or to what cannot be read: `reader.tail` says where that is."""
    records = []
    for frame in reader.scan(BEGINNING, end):
        if frame.preamble.kind is FrameKind.RECORDS:
            records += _unframed(frame.content, frame.preamble.count)
    return records


def open_journal(
    disk: Disk, name: str, *, place: Place, key: SecretKey, entropy: Entropy, durable_end: int = 0
) -> FileJournal:
    """Opens a journal, or makes it. Blocks. Raises DamageDetected, StorageError.

    `durable_end` is the length that the node journal attests, where it attests one.
    """
    directory, _, base = name.rpartition("/")
    if base not in disk.names(directory):
        if durable_end:
            raise DamageDetected(f"the journal {name} is gone, and was durable")
        disk.replace(name, _first_flush(place, key, entropy))
    file = disk.open(name)
    reader = SegmentReader(file, place=place, key=key)
    end = file.written_end(0)
    for _ in reader.scan(BEGINNING, end):
        pass  # verifying is what this is for
    reader.judge_tail(end, durable_end)
    if reader.tail.frame == NO_FRAME or reader.frames_seem_to_follow(end):
        raise DamageDetected(f"file {place.file} cannot be read, and what cannot was durable")
    keep_aside(file, reader.tail.position, lambda torn: disk.replace(f"{name}.torn", torn))
    reader.settle(durable_end)
    writer = SegmentWriter(file, place=place, key=key, tail=reader.tail, entropy=entropy)
    return FileJournal(file, writer, reader)


def _first_flush(place: Place, key: SecretKey, entropy: Entropy) -> bytes:
    """What a new file appears with: an extent that holds no records."""
    extent = ExtentWriter(
        place=place,
        key=key,
        number=0,
        salt=entropy.random_bytes(SALT_BYTES),
        chain=TagChain(GENESIS),
    )
    plaintext = bytearray(Preamble(FrameKind.RECORDS, 0, NO_FRAME).encode())
    sealed = bytearray(sealed_bytes(len(plaintext)))
    random = entropy.random_bytes(NONCE_RANDOM_BYTES)
    extent.seal_frame(plaintext, random, memoryview(sealed), 0)
    return extent.header.encode() + bytes(sealed)


def _fitting(records: Sequence[bytes]) -> int:
    """How many of the first records one frame takes."""
    held = 0
    for count, record in enumerate(records):
        held += _LENGTH.size + len(record)
        if held > MAX_FRAME_PAYLOAD_BYTES:
            return count
    return len(records)


def _framed(records: Sequence[bytes]) -> bytearray:
    plaintext = bytearray(PREAMBLE_BYTES)
    for record in records:
        plaintext += _LENGTH.pack(len(record))
        plaintext += record
    return plaintext


def _unframed(content: memoryview, count: int) -> list[bytes]:
    records = []
    at = 0
    for _ in range(count):
        if len(content) - at < _LENGTH.size:
            raise DamageDetected("a journal frame is shorter than its records")
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        if length > len(content) - at:
            raise DamageDetected("a journal frame is shorter than its records")
        records.append(bytes(content[at : at + length]))
        at += length
    return records
