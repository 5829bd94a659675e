"""The native dialect's frame: a size, a fixed header, and one msgpack value.

    u32 size of all that follows | u8 version | u8 kind | u16 zero | u32 correlation | msgpack

All numbers big-endian. A frame of another version or with a non-zero reserved field is refused, so
that both can carry a meaning later.
"""

import struct
from enum import IntEnum
from typing import Final

from msgspec import Struct
from msgspec.msgpack import Encoder

from appliance.errors import ProtocolViolation, UnsupportedVersion
from appliance.types import Buffer

VERSION: Final = 1
SIZE_BYTES: Final = 4
HEADER_BYTES: Final = 8
"""Of the fixed header, without the size."""

MAX_CORRELATION: Final = (1 << 32) - 1

_BODY_AT: Final = SIZE_BYTES + HEADER_BYTES
_HEADER = struct.Struct(">BBHI")
_SIZED_HEADER = struct.Struct(">IBBHI")
_encoder: Final = Encoder()


class FrameKind(IntEnum):
    """Who sent a frame: a client asks, a server answers."""

    REQUEST = 0
    RESPONSE = 1


def open_frame(frame: Buffer, kind: FrameKind) -> tuple[int, memoryview]:
    """(correlation, msgpack body) of a frame without its size; the body is a view.

    Raises:
        UnsupportedVersion: the frame is of another version of the dialect.
        ProtocolViolation: too short, of the wrong kind, or with a reserved field in use.
    """
    if len(frame) < HEADER_BYTES:
        raise ProtocolViolation("a native frame is shorter than its header")
    version, found, reserved, correlation = _HEADER.unpack_from(frame)
    if version != VERSION:
        raise UnsupportedVersion(f"native frames of version {version} are not served")
    if found != kind:
        raise ProtocolViolation("a native frame goes in the wrong direction")
    if reserved != 0:
        raise ProtocolViolation("a reserved field of a native frame is in use")
    return correlation, memoryview(frame)[HEADER_BYTES:]


def seal_header(frame: bytearray, kind: FrameKind, correlation: int) -> None:
    """Writes size and header into the first 12 bytes of a frame whose body follows them."""
    _SIZED_HEADER.pack_into(frame, 0, len(frame) - SIZE_BYTES, VERSION, kind, 0, correlation)


def build_frame(kind: FrameKind, correlation: int, value: Struct) -> bytearray:
    """A frame, size included, encoded behind its header without a copy."""
    frame = bytearray(_BODY_AT)
    _encoder.encode_into(value, frame, _BODY_AT)
    seal_header(frame, kind, correlation)
    return frame
