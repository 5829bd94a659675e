"""Records inside a batch: what clients write and read, and brokers only when they must.

Rules:
- Decoding is bounded three times: by the decompression limit, by the record count that the header
  claims checked against the bytes there are, and by each length checked against what is left.
- `decode_batch` costs about a microsecond a record; a broker calls it off its event loop only
  (DESIGN section 4).

The batch header and what is decided from it alone stand in `batch`, and are offered here as well.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_BATCH_RECORDS
from appliance.wire.kafka.batch import (
    CODEC_MASK,
    CONTROL_BIT,
    CRC_START,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    NO_TIMESTAMP,
    SIZE_PREFIX_BYTES,
    TRANSACTIONAL_BIT,
    BatchHeader,
    TimestampLimits,
    check_produced,
    read_header,
    read_stamp,
    split,
    stamp,
)
from appliance.wire.kafka.checksum import crc32c
from appliance.wire.kafka.compression import Codec, compress, decompress

__all__ = [
    "NO_PRODUCER",
    "BatchHeader",
    "Codec",
    "Producer",
    "Record",
    "TimestampLimits",
    "check_produced",
    "decode_batch",
    "encode_batch",
    "read_header",
    "read_stamp",
    "split",
    "stamp",
    "with_records",
]

_MIN_RECORD_BYTES: Final = 7
"""Length, attributes, two deltas, two null lengths and a header count, one byte each."""
_MAX_VARINT_BYTES: Final = 10


class Record(Struct, frozen=True, gc=False):
    """One record; `timestamp_ms` -1 is no time, `offset` -1 one that is not assigned yet."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int = NO_TIMESTAMP
    offset: int = -1


class Producer(Struct, frozen=True, gc=False):
    """Who wrote a batch, for idempotence and transactions; -1 throughout for nobody known."""

    producer_id: int = -1
    epoch: int = -1
    base_sequence: int = -1
    is_transactional: bool = False


NO_PRODUCER: Final = Producer()


def encode_batch(
    records: Sequence[Record],
    *,
    codec: Codec = Codec.NONE,
    producer: Producer = NO_PRODUCER,
    base_offset: int = 0,
    is_control: bool = False,
) -> bytearray:
    """One batch that holds `records`, at offsets from `base_offset` on, one apart.

    The records' own `offset` is not looked at.

    Raises:
        RequestError: INVALID_RECORD if there are none or more than a batch may hold.
    """
    if not 0 < len(records) <= MAX_BATCH_RECORDS:
        raise RequestError(ErrorCode.INVALID_RECORD, "a batch holds at least one record")
    base_timestamp_ms = records[0].timestamp_ms
    plain = bytearray()
    for delta, record in enumerate(records):
        body = _encode_record(record, delta, record.timestamp_ms - base_timestamp_ms)
        _put_varint(plain, len(body))
        plain += body
    batch = bytearray(HEADER_BYTES)
    batch += compress(codec, plain)
    attributes = codec | (TRANSACTIONAL_BIT if producer.is_transactional else 0)
    header = [
        base_offset,
        len(batch) - SIZE_PREFIX_BYTES,
        -1,
        MAGIC,
        0,
        attributes | (CONTROL_BIT if is_control else 0),
        len(records) - 1,
        base_timestamp_ms,
        max(record.timestamp_ms for record in records),
        producer.producer_id,
        producer.epoch,
        producer.base_sequence,
        len(records),
    ]
    HEADER.pack_into(batch, 0, *header)
    header[4] = crc32c(memoryview(batch)[CRC_START:])
    HEADER.pack_into(batch, 0, *header)
    return batch


def with_records(batch: memoryview, records: Sequence[Record]) -> bytearray:
    """The same batch with only these of its records, at the offsets and times that they have.

    Header and sequences stay, so that the producer's next batch still follows. A batch that keeps
    none is a header alone, without compression and without a time.
    """
    header = read_header(batch)
    plain = bytearray()
    for record in records:
        body = _encode_record(
            record,
            record.offset - header.base_offset,
            record.timestamp_ms - header.base_timestamp_ms,
        )
        _put_varint(plain, len(body))
        plain += body
    codec = header.codec if records else Codec.NONE
    rebuilt = bytearray(HEADER_BYTES)
    rebuilt += compress(codec, plain)
    fields = [
        header.base_offset,
        len(rebuilt) - SIZE_PREFIX_BYTES,
        header.leader_epoch,
        MAGIC,
        0,
        header.attributes & ~CODEC_MASK | codec,
        header.last_offset_delta,
        header.base_timestamp_ms if records else NO_TIMESTAMP,
        max((record.timestamp_ms for record in records), default=NO_TIMESTAMP),
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        len(records),
    ]
    HEADER.pack_into(rebuilt, 0, *fields)
    fields[4] = crc32c(memoryview(rebuilt)[CRC_START:])
    HEADER.pack_into(rebuilt, 0, *fields)
    return rebuilt


def decode_batch(view: memoryview, *, max_decompressed_bytes: int) -> list[Record]:
    """The records of exactly one batch, with their offsets and times.

    Raises:
        RequestError: CORRUPT_MESSAGE if length or CRC are wrong; INVALID_RECORD if what the CRC
            covers makes no sense, or would become more than `max_decompressed_bytes`.
    """
    header = read_header(view)
    if header.size_bytes != len(view) or header.magic != MAGIC:
        raise RequestError(ErrorCode.CORRUPT_MESSAGE, "not exactly one batch v2")
    if crc32c(view[CRC_START:]) != header.crc:
        raise RequestError(ErrorCode.CORRUPT_MESSAGE, "the batch's CRC32C is wrong")
    plain = decompress(header.codec, view[HEADER_BYTES:], max_decompressed_bytes).tobytes()
    count = header.record_count
    if not 0 <= count <= min(MAX_BATCH_RECORDS, len(plain) // _MIN_RECORD_BYTES):
        raise RequestError(ErrorCode.INVALID_RECORD, "the batch cannot hold its record count")
    records: list[Record] = []
    position = 0
    try:
        for _ in range(count):
            position = _decode_record(plain, position, header, records)
    except (IndexError, UnicodeDecodeError):
        raise _invalid("a record is cut short or no UTF-8") from None
    if position != len(plain):
        raise _invalid("bytes follow the last record")
    return records


def _invalid(message: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_RECORD, message)


def _encode_record(record: Record, offset_delta: int, timestamp_delta: int) -> bytearray:
    body = bytearray(1)
    _put_varint(body, timestamp_delta)
    _put_varint(body, offset_delta)
    _put_bytes(body, record.key)
    _put_bytes(body, record.value)
    _put_varint(body, len(record.headers))
    for key, value in record.headers:
        _put_bytes(body, key.encode())
        _put_bytes(body, value)
    return body


def _put_varint(output: bytearray, value: int) -> None:
    """Zigzag, seven bits a byte, least significant first."""
    zigzag = (value << 1) ^ (value >> 63)
    while zigzag > 0x7F:
        output.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    output.append(zigzag)


def _put_bytes(output: bytearray, value: bytes | None) -> None:
    if value is None:
        output.append(1)
        return
    _put_varint(output, len(value))
    output += value


def _decode_record(plain: bytes, position: int, header: BatchHeader, records: list[Record]) -> int:
    """Appends the record at `position`, returns where it ends; IndexError if it is cut short."""
    size, position = _varint(plain, position)
    end = position + size
    if size < _MIN_RECORD_BYTES - 1 or end > len(plain):
        raise _invalid("a record gives an impossible length")
    timestamp_delta, position = _varint(plain, position + 1)
    offset_delta, position = _varint(plain, position)
    key, position = _take_bytes(plain, position)
    value, position = _take_bytes(plain, position)
    headers: tuple[tuple[str, bytes | None], ...] = ()
    if plain[position] == 0:
        position += 1
    else:
        headers, position = _decode_headers(plain, position, end)
    if position != end:
        raise _invalid("a record is not as long as it says")
    _check_offset_delta(offset_delta, header, records)
    timestamp_ms = (
        header.max_timestamp_ms
        if header.is_append_time
        else header.base_timestamp_ms + timestamp_delta
    )
    records.append(Record(key, value, headers, timestamp_ms, header.base_offset + offset_delta))
    return position


def _check_offset_delta(offset_delta: int, header: BatchHeader, records: list[Record]) -> None:
    """Compaction leaves gaps between offsets; it never reorders them (KIP-98)."""
    least = records[-1].offset - header.base_offset + 1 if records else 0
    if not least <= offset_delta <= header.last_offset_delta:
        raise _invalid("offsets in a batch only grow")


def _decode_headers(
    plain: bytes, position: int, end: int
) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    count, position = _varint(plain, position)
    if not 0 <= count <= (end - position) // 2:
        raise _invalid("a record cannot hold its header count")
    headers = []
    for _ in range(count):
        key, position = _take_bytes(plain, position)
        value, position = _take_bytes(plain, position)
        if key is None:
            raise _invalid("a header has no key")
        headers.append((key.decode(), value))
    return tuple(headers), position


def _take_bytes(plain: bytes, position: int) -> tuple[bytes | None, int]:
    size, position = _varint(plain, position)
    if size < 0:
        if size != -1:
            raise _invalid("a length is negative")
        return None, position
    end = position + size
    if end > len(plain):
        raise _invalid("a field is cut short")
    return plain[position:end], end


def _varint(plain: bytes, position: int) -> tuple[int, int]:
    byte = plain[position]
    position += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), position
    zigzag = byte & 0x7F
    shift = 7
    while True:
        byte = plain[position]
        position += 1
        zigzag |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift >= 7 * _MAX_VARINT_BYTES:
            raise _invalid("a number has too many bytes")
    return (zigzag >> 1) ^ -(zigzag & 1), position
