"""What a log's frames hold: entry headers first, then all payloads, contiguous.

    content = entry header (40 bytes)* | payload*

So the batches of a frame are one slice. Big-endian; `docs/formats.md` has every byte.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final

from appliance.crypto.sealed import PREAMBLE_BYTES
from appliance.errors import DamageDetected
from appliance.invariant import invariant
from appliance.types import (
    ENTRY_HEADER_BYTES,
    Entry,
    EntryHeader,
    EntryKind,
    Index,
    Offset,
    Term,
    TimestampMs,
)

ENTRY_FORMAT: Final = 1
_ENTRY: Final = struct.Struct(">BBHIQIqQi")
invariant(_ENTRY.size == ENTRY_HEADER_BYTES, "an entry's header has its size")
_NO_PREAMBLE: Final = bytes(PREAMBLE_BYTES)
_VOID: Final = struct.Struct(">QQ")
_MAX_TIMESTAMP: Final = struct.Struct(">q")
_MAX_TIMESTAMP_AT: Final = 35
_LEAST_BATCH: Final = _MAX_TIMESTAMP_AT + _MAX_TIMESTAMP.size

Stamp = Callable[[memoryview, EntryHeader], None]
"""Writes base offset and leader epoch into the copy of a batch that is about to be sealed."""


def entry_bytes(entry: Entry) -> int:
    """What an entry takes of a frame."""
    return ENTRY_HEADER_BYTES + entry.header.payload_bytes


def frame_bytes(entries: Sequence[Entry]) -> int:
    """Length of the plaintext of a frame with these entries."""
    return PREAMBLE_BYTES + sum(map(entry_bytes, entries))


def lay_out(entries: Sequence[Entry], stamp: Stamp) -> bytearray:
    """A frame's plaintext, its preamble left free; payloads are copied here and nowhere else.

    One join copies everything, into memory that need not be zeroed before.
    """
    heads = [
        _ENTRY.pack(
            ENTRY_FORMAT,
            header.kind,
            0,
            header.payload_bytes,
            header.index,
            header.term,
            header.leader_time_ms,
            header.base_offset,
            header.last_offset_delta,
        )
        for entry in entries
        for header in (entry.header,)
    ]
    plaintext = bytearray().join([_NO_PREAMBLE, *heads, *[entry.payload for entry in entries]])
    view = memoryview(plaintext)
    at = PREAMBLE_BYTES + len(entries) * ENTRY_HEADER_BYTES
    for entry in entries:
        header = entry.header
        if header.kind is EntryKind.BATCH:
            stamp(view[at : at + header.payload_bytes], header)
        at += header.payload_bytes
    return plaintext


def read_headers(content: memoryview, count: int) -> list[EntryHeader]:
    """The entry headers of a verified frame; raises DamageDetected if they do not fill it."""
    if count * ENTRY_HEADER_BYTES > len(content):
        raise DamageDetected("a frame is shorter than its entry headers")
    headers = []
    size = count * ENTRY_HEADER_BYTES
    for at in range(0, size, ENTRY_HEADER_BYTES):
        version, kind, _, length, index, term, time_ms, base, delta = _ENTRY.unpack_from(
            content, at
        )
        if version != ENTRY_FORMAT or kind > EntryKind.GAP:
            raise DamageDetected(f"an entry of format {version} and kind {kind}")
        size += length
        headers.append(
            EntryHeader(
                EntryKind(kind),
                Index(index),
                Term(term),
                TimestampMs(time_ms),
                Offset(base),
                delta,
                length,
            )
        )
    if size != len(content):
        raise DamageDetected("a frame's entries do not fill it")
    return headers


def entries_of(content: memoryview, headers: Sequence[EntryHeader]) -> list[Entry]:
    """The entries of a frame; payloads are views into it."""
    at = len(headers) * ENTRY_HEADER_BYTES
    entries = []
    for header in headers:
        entries.append(Entry(header, content[at : at + header.payload_bytes]))
        at += header.payload_bytes
    return entries


def max_timestamp_ms(batch: Entry) -> TimestampMs:
    """The largest timestamp in a batch, from its header (record batch v2, byte 35)."""
    (largest,) = _MAX_TIMESTAMP.unpack_from(batch.payload, _MAX_TIMESTAMP_AT)
    return TimestampMs(largest)


def max_time_ms(entries: Sequence[Entry]) -> TimestampMs:
    """The largest timestamp of all batches among entries, or -1."""
    largest = -1
    for entry in entries:
        if entry.header.kind is EntryKind.BATCH and entry.header.payload_bytes >= _LEAST_BATCH:
            largest = max(largest, max_timestamp_ms(entry))
    return TimestampMs(largest)


def void_content(index: Index, offset: Offset) -> bytes:
    """What a void frame holds: the first entry that is void, and the next offset from there."""
    return _VOID.pack(index, offset)


def read_void(content: memoryview) -> tuple[Index, Offset]:
    """See `void_content`; raises DamageDetected."""
    if len(content) != _VOID.size:
        raise DamageDetected("a void frame of another length")
    index, offset = _VOID.unpack(content)
    return Index(index), Offset(offset)
