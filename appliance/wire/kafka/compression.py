"""The four codecs of record batches, each held to a bound while it decompresses.

Rules:
- The bound is on the output buffer, which is allocated here and handed to the decompressor: it
  cannot write past it. The buffer starts near the input's size and grows by a factor, so that a
  small batch costs little memory, whatever its headers claim.
- Sizes that the data claims (snappy's preamble) are checked before anything is allocated.
- What we compress, the oldest clients must read: snappy goes in xerial blocks, as Java's and
  librdkafka's consumers expect, and LZ4 in independent blocks, because Java's reader refuses
  linked ones.
"""

import struct
from collections.abc import Callable
from enum import IntEnum

import cramjam

from appliance.errors import ErrorCode, RequestError
from appliance.types import Buffer


class Codec(IntEnum):
    """Bits 0 to 2 of a batch's attributes (KIP-98, KIP-110)."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


_XERIAL_HEADER = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
"""snappy-java's stream header: magic, version 1, compatible with version 1."""
_XERIAL_MAGIC_BYTES = 8
_XERIAL_BLOCK_BYTES = 32 * 1024
_BIG_ENDIAN_INT = struct.Struct(">i")

_FIRST_RATIO = 8
_GROWTH = 8
_MIN_OUTPUT_BYTES = 4096
_SNAPPY_MAX_RATIO = 22
"""Three bytes of a snappy stream copy at most 64: more is a lie."""


def compress(codec: Codec, data: bytes | bytearray) -> Buffer:
    """`data` in the form that a batch with this codec carries."""
    match codec:
        case Codec.NONE:
            return data
        case Codec.GZIP:
            return memoryview(cramjam.gzip.compress(data, 6))
        case Codec.SNAPPY:
            return _compress_xerial(data)
        case Codec.LZ4:
            return _compress_lz4(data)
        case Codec.ZSTD:
            return memoryview(cramjam.zstd.compress(data, 3))


def decompress(codec: Codec, data: memoryview, max_bytes: int) -> memoryview:
    """The plain bytes of a batch's records.

    Raises:
        RequestError: INVALID_RECORD if the data is damaged or becomes more than `max_bytes`.
    """
    try:
        match codec:
            case Codec.NONE:
                return data
            case Codec.GZIP:
                return _decompress_growing(cramjam.gzip.decompress_into, data, max_bytes)
            case Codec.SNAPPY:
                return _decompress_snappy(data, max_bytes)
            case Codec.LZ4:
                return _decompress_growing(cramjam.lz4.decompress_into, data, max_bytes)
            case Codec.ZSTD:
                return _decompress_growing(cramjam.zstd.decompress_into, data, max_bytes)
    except cramjam.DecompressionError:
        raise RequestError(
            ErrorCode.INVALID_RECORD,
            f"a {codec.name} batch does not decompress within {max_bytes} bytes",
        ) from None


def _decompress_growing(
    into: Callable[[memoryview, bytearray], int], data: memoryview, max_bytes: int
) -> memoryview:
    """Tries ever larger buffers: a full one and damaged data raise the same error."""
    size = min(max_bytes, max(_MIN_OUTPUT_BYTES, _FIRST_RATIO * len(data)))
    while True:
        output = bytearray(size)
        try:
            return memoryview(output)[: into(data, output)]
        except cramjam.DecompressionError:
            if size >= max_bytes:
                raise
        del output  # Before a larger one is made.
        size = min(max_bytes, size * _GROWTH)


def _compress_xerial(data: bytes | bytearray) -> bytearray:
    view = memoryview(data)
    output = bytearray(_XERIAL_HEADER)
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES])
        output += _BIG_ENDIAN_INT.pack(len(block))
        output += memoryview(block)
    return output


def _decompress_snappy(data: memoryview, max_bytes: int) -> memoryview:
    """Reads xerial blocks, or one raw block, which librdkafka sends."""
    if data[:_XERIAL_MAGIC_BYTES] != _XERIAL_HEADER[:_XERIAL_MAGIC_BYTES]:
        output = bytearray()
        _decompress_block(data, output, max_bytes)
        return memoryview(output)
    output = bytearray()
    position = len(_XERIAL_HEADER)
    while position < len(data):
        if position + 4 > len(data):
            raise cramjam.DecompressionError
        (size,) = _BIG_ENDIAN_INT.unpack_from(data, position)
        position += 4
        if not 0 < size <= len(data) - position:
            raise cramjam.DecompressionError
        _decompress_block(data[position : position + size], output, max_bytes)
        position += size
    return memoryview(output)


def _decompress_block(block: memoryview, output: bytearray, max_bytes: int) -> None:
    """Appends one raw block; its preamble is believed only within the bounds."""
    size = cramjam.snappy.decompress_raw_len(block)
    if size > max_bytes - len(output) or size > _SNAPPY_MAX_RATIO * len(block):
        raise cramjam.DecompressionError
    start = len(output)
    output += bytes(size)
    with memoryview(output) as whole, whole[start:] as target:
        written = cramjam.snappy.decompress_raw_into(block, target)
    if written != size:
        raise cramjam.DecompressionError


def _compress_lz4(data: bytes | bytearray) -> memoryview:
    """A frame of independent blocks, without a checksum: the batch has its own CRC."""
    compressor = cramjam.lz4.Compressor(content_checksum=False, block_linked=False)
    compressor.compress(bytes(data))
    return memoryview(compressor.finish())
