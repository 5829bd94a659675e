"""The 61-byte header of record batch v2, and what is decided from it alone (KIP-98).

Invariants:
- The CRC covers everything from the attributes on. Base offset and leader epoch stand before it,
  so the leader writes them without touching the CRC, in a copy of its own (`stamp`).
- Records stay opaque here; `appliance.wire.kafka.records` opens them.
"""

import struct
from collections.abc import Iterator
from typing import Final, NoReturn

from msgspec import Struct

from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_BATCH_RECORDS
from appliance.types import Buffer, EntryHeader, TimestampMs
from appliance.wire.kafka.checksum import crc32c
from appliance.wire.kafka.compression import Codec

HEADER_BYTES: Final = 61
SIZE_PREFIX_BYTES: Final = 12
"""Base offset and length, which the length does not count."""
CRC_START: Final = 21
MAGIC: Final = 2

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_STAMP: Final = struct.Struct(">qq")
_STAMP_AT: Final = 35
"""Where the largest timestamp stands, with the producer id behind it."""
_PREFIX: Final = struct.Struct(">qi")
_BASE_OFFSET: Final = struct.Struct(">q")
_LEADER_EPOCH: Final = struct.Struct(">i")

CODEC_MASK: Final = 0x07
APPEND_TIME_BIT: Final = 0x08
TRANSACTIONAL_BIT: Final = 0x10
CONTROL_BIT: Final = 0x20
_PRODUCER_BITS: Final = CODEC_MASK | TRANSACTIONAL_BIT

_LAST_CODEC: Final = int(Codec.ZSTD)

NO_TIMESTAMP: Final = -1


class BatchHeader(Struct, frozen=True, gc=False):
    """The header as it stands on the wire, field by field.

    `batch_length` counts from the leader epoch on; times are in milliseconds since the epoch;
    producer id, epoch and sequence are -1 for a producer that is not idempotent.
    """

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        """The whole batch, its prefix included."""
        return self.batch_length + SIZE_PREFIX_BYTES

    @property
    def next_offset(self) -> int:
        """The offset after the last record's."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """The last record's sequence; sequences wrap from 2^31 - 1 to 0 (KIP-98)."""
        return (self.base_sequence + self.last_offset_delta) & 0x7FFF_FFFF

    @property
    def codec(self) -> Codec:
        """How the records are compressed; raises RequestError for a number that is no codec."""
        number = self.attributes & CODEC_MASK
        if number > Codec.ZSTD:
            raise RequestError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"no codec {number}")
        return Codec(number)

    @property
    def is_append_time(self) -> bool:
        """Whether `max_timestamp_ms` is every record's time, given by the broker."""
        return bool(self.attributes & APPEND_TIME_BIT)

    @property
    def is_transactional(self) -> bool:
        """Whether the batch belongs to a transaction."""
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        """Whether the batch holds a transaction marker instead of records."""
        return bool(self.attributes & CONTROL_BIT)


class TimestampLimits(Struct, frozen=True, gc=False):
    """A topic's bounds around the leader's clock (KIP-937); None is no bound. Milliseconds."""

    before_ms: int | None = None
    after_ms: int | None = 3_600_000


def read_header(view: memoryview) -> BatchHeader:
    """The header at the start of `view`, whose length is not looked at further.

    Raises:
        RequestError: CORRUPT_MESSAGE if there are fewer than 61 bytes.
    """
    if len(view) < HEADER_BYTES:
        raise RequestError(ErrorCode.CORRUPT_MESSAGE, "a batch has at least 61 bytes")
    return BatchHeader(*HEADER.unpack_from(view))


def read_stamp(view: Buffer) -> tuple[int, int]:
    """Largest time and producer id of a batch that is known to be sound."""
    largest_ms, producer_id = _STAMP.unpack_from(view, _STAMP_AT)
    return largest_ms, producer_id


def check_produced(
    view: memoryview, *, max_batch_bytes: int, now_ms: TimestampMs, limits: TimestampLimits
) -> BatchHeader:
    """Checks what a producer sent for one partition: exactly one batch, and a sound one.

    1. The length is exact, and within `max_batch_bytes`.
    2. The format is v2, offsets begin at 0, and the CRC32C from the attributes on is right.
    3. The attributes are ones that a producer may set.
    4. The counts agree, and are within bounds.
    5. An idempotent producer gives its epoch and sequence.
    6. Base and max timestamp are within the topic's `limits` around `now_ms`.

    Returns:
        The header, of which all this holds; the records have not been looked at.

    Raises:
        RequestError: with the code that Kafka's clients know for each fault.
    """
    if len(view) < HEADER_BYTES:
        raise RequestError(ErrorCode.INVALID_RECORD, "there is no whole batch")
    header = read_header(view)
    given_bytes = len(view)
    if header.batch_length + SIZE_PREFIX_BYTES != given_bytes or given_bytes > max_batch_bytes:
        _refuse_extent(header, given_bytes, max_batch_bytes)
    if header.magic != MAGIC or header.base_offset != 0:
        _refuse_format(header)
    if crc32c(view[CRC_START:]) != header.crc:
        raise RequestError(ErrorCode.CORRUPT_MESSAGE, "the batch's CRC32C is wrong")
    attributes = header.attributes
    if attributes & ~_PRODUCER_BITS or attributes & CODEC_MASK > _LAST_CODEC:
        _refuse_attributes(attributes)
    if not 0 < header.record_count <= MAX_BATCH_RECORDS:
        raise RequestError(ErrorCode.INVALID_RECORD, "the batch's record count is out of bounds")
    if header.record_count != header.last_offset_delta + 1:
        raise RequestError(ErrorCode.INVALID_RECORD, "record count and offsets disagree")
    if header.producer_id != -1 or attributes & TRANSACTIONAL_BIT:
        _check_producer(header)
    _check_time(header.base_timestamp_ms, now_ms, limits)
    if header.max_timestamp_ms != header.base_timestamp_ms:
        _check_time(header.max_timestamp_ms, now_ms, limits)
    return header


def stamp(view: memoryview, header: EntryHeader) -> None:
    """Writes what the leader assigned, base offset and term, into its own copy of a batch."""
    _BASE_OFFSET.pack_into(view, 0, header.base_offset)
    _LEADER_EPOCH.pack_into(view, SIZE_PREFIX_BYTES, header.term)


def split(view: memoryview) -> Iterator[memoryview]:
    """The whole batches that `view` is made of, in order.

    Raises:
        RequestError: CORRUPT_MESSAGE if a batch is cut short or gives an impossible length.
    """
    position = 0
    while position < len(view):
        if len(view) - position < HEADER_BYTES:
            raise RequestError(ErrorCode.CORRUPT_MESSAGE, "a batch is cut short")
        size = _PREFIX.unpack_from(view, position)[1] + SIZE_PREFIX_BYTES
        if not HEADER_BYTES <= size <= len(view) - position:
            raise RequestError(ErrorCode.CORRUPT_MESSAGE, "a batch gives an impossible length")
        yield view[position : position + size]
        position += size


def _refuse_extent(header: BatchHeader, given_bytes: int, max_batch_bytes: int) -> NoReturn:
    if given_bytes > max_batch_bytes:
        raise RequestError(
            ErrorCode.MESSAGE_TOO_LARGE, f"the batch exceeds the topic's {max_batch_bytes} bytes"
        )
    if header.size_bytes > given_bytes:
        raise RequestError(ErrorCode.INVALID_RECORD, "the batch is cut short")
    if header.size_bytes < HEADER_BYTES:
        raise RequestError(ErrorCode.CORRUPT_MESSAGE, "the batch gives an impossible length")
    raise RequestError(ErrorCode.INVALID_RECORD, "exactly one batch a partition is accepted")


def _refuse_format(header: BatchHeader) -> NoReturn:
    if header.magic == MAGIC:
        raise RequestError(ErrorCode.INVALID_RECORD, "a producer's offsets begin at 0")
    older = 0 <= header.magic < MAGIC
    code = ErrorCode.INVALID_RECORD if older else ErrorCode.CORRUPT_MESSAGE
    raise RequestError(code, "only record batches v2 are accepted")


def _refuse_attributes(attributes: int) -> NoReturn:
    if attributes & APPEND_TIME_BIT:
        raise RequestError(ErrorCode.INVALID_TIMESTAMP, "only the broker sets append time")
    if attributes & CODEC_MASK > _LAST_CODEC:
        raise RequestError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "no such codec")
    raise RequestError(ErrorCode.INVALID_RECORD, "a producer may not set these attributes")


def _check_producer(header: BatchHeader) -> None:
    if header.producer_id < 0:
        if header.producer_id != -1 or header.is_transactional:
            raise RequestError(ErrorCode.INVALID_RECORD, "the batch needs a producer id")
    elif header.producer_epoch < 0 or header.base_sequence < 0:
        raise RequestError(ErrorCode.INVALID_RECORD, "a producer id needs epoch and sequence")


def _check_time(timestamp_ms: int, now_ms: TimestampMs, limits: TimestampLimits) -> None:
    """-1 means that a record has no time, which no bound forbids."""
    if timestamp_ms == NO_TIMESTAMP:
        return
    too_old = limits.before_ms is not None and timestamp_ms < now_ms - limits.before_ms
    too_new = limits.after_ms is not None and timestamp_ms > now_ms + limits.after_ms
    if timestamp_ms < 0 or too_old or too_new:
        raise RequestError(ErrorCode.INVALID_TIMESTAMP, "a timestamp is outside the topic's bounds")
