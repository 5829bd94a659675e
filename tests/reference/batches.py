"""Batches as a producer sends them, and with one thing wrong each."""

import struct
from collections.abc import Iterator
from typing import Final

from appliance.wire.kafka.batch import CRC_START, HEADER
from appliance.wire.kafka.checksum import crc32c
from appliance.wire.kafka.records import Codec, Producer, Record, encode_batch

TIME_MS: Final = 1_700_000_000_000
_FIELDS: Final = (
    "base_offset", "batch_length", "leader_epoch", "magic", "crc", "attributes", "last_delta",
    "base_time", "max_time", "producer_id", "producer_epoch", "sequence", "count",
)  # fmt: skip


def batch(count: int = 1, codec: Codec = Codec.NONE, producer: Producer | None = None) -> bytes:
    """A batch of so many records, a second apart."""
    records = [
        Record(b"key %d" % n, b"value %d" % n, timestamp_ms=TIME_MS + n * 1000)
        for n in range(count)
    ]
    if producer is None:
        return bytes(encode_batch(records, codec=codec))
    return bytes(encode_batch(records, codec=codec, producer=producer))


def with_header(data: bytes, *, signed: bool = True, **fields: int) -> bytes:
    """The batch with other fields in its header, and the CRC that fits them if `signed`."""
    values = dict(zip(_FIELDS, HEADER.unpack_from(data), strict=True)) | fields
    changed = bytearray(data)
    HEADER.pack_into(changed, 0, *values.values())
    if signed:
        struct.pack_into(">I", changed, 17, crc32c(memoryview(changed)[CRC_START:]))
    return bytes(changed)


def with_records(data: bytes, records: bytes) -> bytes:
    """The batch with these bytes for records, its length and CRC right."""
    changed = data[: HEADER.size] + records
    return with_header(changed, batch_length=len(changed) - 12)


def wrong_batches() -> Iterator[tuple[str, bytes | None]]:
    """(what is wrong, the batch); a topic of its own takes each."""
    one, three = batch(), batch(3)
    yield "no batch", None
    yield "no bytes", b""
    yield "a header cut short", one[:40]
    yield "records cut short", one[:-3]
    yield "a byte after it", one + b"\x00"
    yield "two batches", one + one
    yield "base offset", with_header(one, base_offset=77)
    yield "leader epoch", with_header(one, leader_epoch=99)
    yield "crc", with_header(one, signed=False, crc=1)
    for magic in (0, 1, 3, -1):
        yield f"magic {magic}", with_header(one, magic=magic)
    for codec in (5, 6, 7):
        yield f"codec {codec}", with_header(one, attributes=codec)
    for codec in Codec:
        yield (
            f"{codec.name} says {Codec.GZIP.name}",
            with_header(batch(3, codec), attributes=Codec.GZIP),
        )
        yield f"{codec.name} of no bytes", with_records(with_header(one, attributes=codec), b"")
    yield "append time", with_header(one, attributes=8)
    yield "transactional", with_header(one, attributes=16)
    yield "control", with_header(one, attributes=32)
    yield "an unknown attribute", with_header(one, attributes=256)
    yield "count zero", with_header(one, count=0)
    yield "count minus one", with_header(one, count=-1)
    yield "count too large", with_header(one, count=2)
    yield "count too small", with_header(three, count=2)
    yield "count and delta too large", with_header(one, count=2, last_delta=1)
    yield "last delta negative", with_header(one, last_delta=-1)
    yield "last delta too large", with_header(one, last_delta=5)
    yield "length negative", with_header(one, batch_length=-1)
    yield "length zero", with_header(one, batch_length=0)
    yield "length too large", with_header(one, batch_length=1 << 20)
    yield "time of no record", with_header(one, base_time=-1, max_time=-1)
    yield "time in the far future", with_header(one, base_time=1 << 45, max_time=1 << 45)
    yield "max time before base time", with_header(one, max_time=TIME_MS - 10)
    yield "records that are none", with_records(one, b"\x00" * 20)
    yield "a negative record length", with_records(one, b"\x01" + b"\x00" * 20)
    yield (
        "too large",
        batch(1)[:0] + bytes(encode_batch([Record(b"k", b"v" * 1_200_000, timestamp_ms=TIME_MS)])),
    )
    yield "sequence without a producer", with_header(one, sequence=3)
    yield "a producer without a sequence", with_header(one, producer_id=4_000, producer_epoch=0)
    yield "a producer of epoch -1", with_header(one, producer_id=4_000, sequence=0)


def idempotent(producer_id: int, epoch: int, sequence: int, count: int = 1) -> bytes:
    """A batch of an idempotent producer."""
    return batch(count, producer=Producer(producer_id, epoch, sequence))
