"""Compaction by key: what of a partition may go, decided from records alone, without any I/O.

Of each key the newest record stays (Kafka's `cleanup.policy=compact`). A pass reads records up to a
bound that is given, notes the newest offset of each key, and then looks at every batch below again:

- a record stays unless a newer one with its key was noted;
- a tombstone, a record without a value, stays until it is older than `delete.retention.ms` and an
  earlier pass has removed what it covers;
- batches of transactions and their markers are neither looked into nor removed;
- a batch that is emptied keeps its header where its producer's sequence, or a reader's next offset,
  hangs on it; elsewhere a gap takes its place, with the same index, term and offsets.

Memory: a key is 16 bytes of hash and an offset; a pass that has noted as many as it may ends there.
"""

import hashlib
from collections.abc import Collection, Sequence

import msgspec

from appliance.limits import (
    MAX_COMPACTED_KEYS,
    MAX_DECOMPRESSED_BYTES,
    MAX_FRAME_PAYLOAD_BYTES,
)
from appliance.ports import SegmentInfo
from appliance.types import Entry, EntryHeader, EntryKind, Offset, TimestampMs
from appliance.wire.kafka.records import decode_batch, read_header, with_records


def _hash(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()


class NewestOffsets:
    """The newest offset of each key that was noted, up to a bound."""

    def __init__(self, limit: int = MAX_COMPACTED_KEYS) -> None:
        """Notes at most `limit` keys."""
        self._newest: dict[bytes, int] = {}
        self._limit = limit
        self.end = Offset(0)
        """After the last batch that was noted whole."""

    def note(self, entries: Sequence[Entry]) -> bool:
        """Notes batches in order; False when the next one would be too many."""
        for entry in entries:
            if entry.header.kind is EntryKind.BATCH and not self._note(entry):
                return False
            self.end = entry.header.next_offset
        return True

    def _note(self, entry: Entry) -> bool:
        batch = memoryview(entry.payload)
        header = read_header(batch)
        if header.is_transactional or header.is_control:
            return True
        records = decode_batch(batch, max_decompressed_bytes=MAX_DECOMPRESSED_BYTES)
        if len(self._newest) + len(records) > self._limit and self._newest:
            return False
        for record in records:
            if record.key is not None:
                self._newest[_hash(record.key)] = record.offset
        return True

    def superseded(self, key: bytes, offset: int) -> bool:
        """Whether a newer record with this key was noted."""
        return self._newest.get(_hash(key), -1) > offset


class Pass(msgspec.Struct, frozen=True):
    """What one pass judges entries by.

    Tombstones below `tombstones_below` whose leader's time is before `tombstones_before_ms` go.
    Emptied batches whose base offset is in `keep_headers` stay as headers.
    """

    newest: NewestOffsets
    tombstones_below: Offset
    tombstones_before_ms: TimestampMs
    keep_headers: Collection[int]

    def compacted(self, entry: Entry, *, is_last: bool) -> Entry:
        """What takes the entry's place: itself, one with fewer records, or a gap.

        `is_last` says that no batch follows in its file.
        """
        header = entry.header
        if header.kind is not EntryKind.BATCH or header.base_offset >= self.newest.end:
            return entry
        batch = memoryview(entry.payload)
        known = read_header(batch)
        if known.is_transactional or known.is_control or known.record_count == 0:
            return entry
        records = decode_batch(batch, max_decompressed_bytes=MAX_DECOMPRESSED_BYTES)
        ripe = header.leader_time_ms < self.tombstones_before_ms
        kept = [
            record
            for record in records
            if record.key is None
            or not (
                self.newest.superseded(record.key, record.offset)
                or (record.value is None and ripe and record.offset < self.tombstones_below)
            )
        ]
        if len(kept) == len(records):
            return entry
        if kept or is_last or header.base_offset in self.keep_headers:
            payload = with_records(batch, kept)
            if len(payload) > max(len(batch), MAX_FRAME_PAYLOAD_BYTES):
                return entry  # its producer compressed better than we do
            return Entry(msgspec.structs.replace(header, payload_bytes=len(payload)), payload)
        return Entry(_gap(header), b"")


def _gap(header: EntryHeader) -> EntryHeader:
    return msgspec.structs.replace(header, kind=EntryKind.GAP, payload_bytes=0)


def cleanable(
    segments: Sequence[SegmentInfo],
    *,
    compacted: Offset,
    bound: Offset,
    newest_ms: TimestampMs,
    dirty_ratio: float,
) -> tuple[SegmentInfo, ...]:
    """The closed files that a pass should rewrite, oldest first; none if it is not worth it yet.

    Args:
        segments: the log's files; the last one is written and never compacted.
        compacted: the end of the last pass; what lies beyond is dirty.
        bound: the commit, or the last stable offset if that is lower.
        newest_ms: files with younger batches are left alone (`min.compaction.lag.ms`).
        dirty_ratio: what part of the bytes must be dirty (`min.cleanable.dirty.ratio`).
    """
    chosen: list[SegmentInfo] = []
    for segment in segments[:-1]:
        if segment.next_offset > bound or segment.max_time_ms > newest_ms:
            break
        chosen.append(segment)
    dirty = sum(each.size_bytes for each in chosen if each.next_offset > compacted)
    total = sum(each.size_bytes for each in chosen)
    return tuple(chosen) if dirty and dirty >= dirty_ratio * total else ()
