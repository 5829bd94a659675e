"""Each codec gives back what it was given, and never more than its bound."""

import tracemalloc
from contextlib import suppress

import cramjam
import pytest

from appliance.errors import ErrorCode, RequestError
from appliance.wire.kafka.compression import Codec, compress, decompress
from appliance.wire.kafka.records import Record, decode_batch, encode_batch

COMPRESSED = (Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD)
EVERY = pytest.mark.parametrize("codec", tuple(Codec), ids=lambda codec: codec.name)
EACH = pytest.mark.parametrize("codec", COMPRESSED, ids=lambda codec: codec.name)
MIB = 1 << 20
SAMPLES = (b"", b"x", b"abc" * 100_000, bytes(range(256)) * 300)


@EVERY
@pytest.mark.parametrize("data", SAMPLES, ids=len)
def test_what_goes_in_comes_out(codec, data):
    packed = memoryview(compress(codec, data))
    assert bytes(decompress(codec, packed, MIB)) == data


@EACH
def test_a_bomb_is_refused_within_its_bound(codec):
    """A few hundred kilobytes at most that would become 64 MiB."""
    bomb = bytes(compress(codec, bytes(64 * MIB)))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as refused:
            decompress(codec, memoryview(bomb), MIB)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.code is ErrorCode.INVALID_RECORD
    assert peak_bytes < 4 * MIB


@EACH
def test_a_bomb_inside_a_batch_is_refused(codec):
    batch = encode_batch([Record(None, bytes(8 * MIB), (), 0, 0)], codec=codec)
    assert len(batch) < MIB
    with pytest.raises(RequestError) as refused:
        decode_batch(memoryview(batch), max_decompressed_bytes=MIB)
    assert refused.value.code is ErrorCode.INVALID_RECORD


@EACH
@pytest.mark.parametrize("cut", [1, 5, 20])
def test_what_is_damaged_is_refused(codec, cut):
    packed = bytes(compress(codec, b"abc" * 1_000))
    for damaged in (packed[:-cut], b"\xff" * cut + packed[cut:]):
        plain = None
        with suppress(RequestError):
            plain = bytes(decompress(codec, memoryview(damaged), MIB))
        # A checksum's loss may go unseen, a byte's may not.
        assert plain in {None, b"abc" * 1_000}


def test_a_size_that_snappy_claims_is_not_believed():
    claims_a_gigabyte = b"\x80\x80\x80\x80\x04" + b"\0" * 100
    with pytest.raises(RequestError):
        decompress(Codec.SNAPPY, memoryview(claims_a_gigabyte), 2 << 30)


def test_snappy_of_librdkafka_is_one_raw_block():
    raw = bytes(cramjam.snappy.compress_raw(b"abc" * 1_000))
    assert bytes(decompress(Codec.SNAPPY, memoryview(raw), MIB)) == b"abc" * 1_000
