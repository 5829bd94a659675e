"""The sealed file format: extents of frames, as pure functions over bytes (DESIGN section 5).

    file   = extent*
    extent = magic 4 | format 1 | suite 1 | zero 2 | number 4 | salt 32 | frame*
    frame  = length 4 | nonce 12 (number 4, random 8) | ciphertext | tag 16

`length` counts ciphertext and tag. A frame's plaintext begins with a preamble: kind, format, entry
count, and the last frame that is durable whenever this frame is on disk. Big-endian throughout.
`docs/formats.md` has every byte.
"""

import struct
from enum import IntEnum
from uuid import UUID

import msgspec

from appliance.crypto.aead import (
    MAX_FRAME_NUMBER,
    TAG_BYTES,
    OpeningKey,
    SealingKey,
    TagMismatch,
)
from appliance.crypto.chain import TagChain
from appliance.crypto.keyring import SALT_BYTES, extent_key
from appliance.invariant import invariant
from appliance.limits import MAX_SEALED_FRAME_BYTES
from appliance.ports import SecretKey
from appliance.types import Buffer

FORMAT = 1
SUITE_AES_256_GCM = 1
MAGIC = b"MSXT"
"""As a frame's length it would be far above MAX_SEALED_FRAME_BYTES, so the two never look alike."""

_PLACE = struct.Struct(">BBBx16s16s16s")
_EXTENT_HEADER = struct.Struct(f">4sBBHI{SALT_BYTES}s")
_FRAME_HEADER = struct.Struct(">I12s")
_AAD = struct.Struct(f">56sII{TAG_BYTES}s")
_PREAMBLE = struct.Struct(">BBHIII")

EXTENT_HEADER_BYTES = _EXTENT_HEADER.size
FRAME_HEADER_BYTES = _FRAME_HEADER.size
PREAMBLE_BYTES = _PREAMBLE.size
FRAME_OVERHEAD_BYTES = FRAME_HEADER_BYTES + TAG_BYTES
MIN_LENGTH = PREAMBLE_BYTES + TAG_BYTES
_NONE = MAX_FRAME_NUMBER + 1


class Purpose(IntEnum):
    """What a sealed file is for; part of every key and every tag in it."""

    LOG = 1
    INDEX = 2
    JOURNAL = 3
    MANIFEST = 4
    IDENTITY = 5
    SNAPSHOT = 6


class FrameKind(IntEnum):
    """What a frame holds."""

    ENTRIES = 1
    RECORDS = 2
    VOID = 3
    STOP = 4
    FINAL = 5
    DOCUMENT = 6


class FrameRef(msgspec.Struct, frozen=True, gc=False, order=True, array_like=True):
    """A frame's place in its file, ordered as the file is."""

    extent: int
    number: int


NO_FRAME = FrameRef(-1, -1)
"""Before every frame."""


class Preamble(msgspec.Struct, frozen=True, gc=False):
    """How a frame's plaintext begins; `durable` is the last frame of the flush before."""

    kind: FrameKind
    count: int
    durable: FrameRef

    def encode(self) -> bytes:
        """16 bytes."""
        durable = self.durable
        if durable.number < 0:
            return _PREAMBLE.pack(self.kind, FORMAT, 0, self.count, _NONE, _NONE)
        return _PREAMBLE.pack(self.kind, FORMAT, 0, self.count, durable.extent, durable.number)


def read_preamble(plaintext: Buffer) -> Preamble:
    """The preamble of a verified frame; raises TagMismatch for a format that is not this one."""
    kind, version, _, count, extent, number = _PREAMBLE.unpack_from(plaintext)
    if version != FORMAT:
        raise TagMismatch(f"a frame of format {version}; this is format {FORMAT}")
    durable = NO_FRAME if number == _NONE else FrameRef(extent, number)
    return Preamble(FrameKind(kind), count, durable)


class Place(msgspec.Struct, frozen=True):
    """Where a file belongs; bound into its keys and into every tag in it."""

    purpose: Purpose
    cluster: UUID
    partition: UUID
    file: UUID

    def encoded(self) -> bytes:
        """52 bytes, fixed-width: what the file key is derived by."""
        return _PLACE.pack(
            FORMAT,
            SUITE_AES_256_GCM,
            self.purpose,
            self.cluster.bytes,
            self.partition.bytes,
            self.file.bytes,
        )

    def extent_info(self, number: int) -> bytes:
        """56 bytes: the info of the extent's key, and the beginning of every AAD in it."""
        return self.encoded() + number.to_bytes(4, "big")


class ExtentHeader(msgspec.Struct, frozen=True, gc=False):
    """What stands before an extent's frames, in the clear; its key and tags bind it."""

    number: int
    salt: bytes

    def encode(self) -> bytes:
        """44 bytes."""
        return _EXTENT_HEADER.pack(MAGIC, FORMAT, SUITE_AES_256_GCM, 0, self.number, self.salt)


def read_extent_header(data: Buffer, position: int) -> ExtentHeader | None:
    """The extent header that begins at `position`, or None if none of this format does."""
    if len(data) - position < EXTENT_HEADER_BYTES:
        return None
    magic, version, suite, zero, number, salt = _EXTENT_HEADER.unpack_from(data, position)
    if (magic, version, suite, zero) != (MAGIC, FORMAT, SUITE_AES_256_GCM, 0):
        return None
    return ExtentHeader(number, salt)


class FrameHeader(msgspec.Struct, frozen=True, gc=False):
    """A frame's length and nonce; the length has been checked against its bounds."""

    length: int
    nonce: bytes

    @property
    def number(self) -> int:
        """The frame's number within its extent."""
        return int.from_bytes(self.nonce[:4], "big")

    @property
    def plaintext_bytes(self) -> int:
        """Length of the plaintext, preamble included."""
        return self.length - TAG_BYTES

    @property
    def frame_bytes(self) -> int:
        """Length of the whole frame on disk."""
        return FRAME_HEADER_BYTES + self.length


def read_frame_header(data: Buffer, position: int) -> FrameHeader | None:
    """The frame header at `position`, or None if none could stand there.

    Only the length is judged, before anything of that length is read or allocated.
    """
    if len(data) - position < FRAME_HEADER_BYTES:
        return None
    length, nonce = _FRAME_HEADER.unpack_from(data, position)
    if not MIN_LENGTH <= length <= MAX_SEALED_FRAME_BYTES:
        return None
    return FrameHeader(length, nonce)


def sealed_bytes(plaintext_bytes: int) -> int:
    """Length on disk of a frame with so much plaintext, preamble included."""
    return plaintext_bytes + FRAME_OVERHEAD_BYTES


class ExtentWriter:
    """Seals the frames of one extent, in order, into the caller's buffers."""

    __slots__ = ("_chain", "_info", "_key", "header")

    def __init__(
        self, *, place: Place, key: SecretKey, number: int, salt: bytes, chain: TagChain
    ) -> None:
        """Begins extent `number` of the file at `place`; `salt` is 32 fresh random bytes."""
        self.header = ExtentHeader(number, salt)
        self._info = place.extent_info(number)
        self._key = SealingKey(extent_key(key, salt, self._info))
        self._chain = chain

    @property
    def next_frame(self) -> FrameRef:
        """The place of the frame that is sealed next."""
        return FrameRef(self.header.number, self._key.next_number)

    @property
    def spent(self) -> bool:
        """Whether every number of this extent has been used."""
        return self._key.next_number > MAX_FRAME_NUMBER

    def seal_frame(self, plaintext: Buffer, random: bytes, out: memoryview, at: int) -> int:
        """Seals a frame into `out` from `at` on; returns where it ends.

        Args:
            plaintext: preamble and content.
            random: 8 fresh bytes for the nonce.
            out: the buffer of the flush; must have `sealed_bytes(len(plaintext))` bytes from `at`.
            at: where the frame begins.
        """
        length = len(plaintext) + TAG_BYTES
        invariant(MIN_LENGTH <= length <= MAX_SEALED_FRAME_BYTES, "a frame keeps its bounds")
        nonce = self._key.spend(random)
        aad = _AAD.pack(self._info, self._key.next_number - 1, length, self._chain.tag)
        body = at + FRAME_HEADER_BYTES
        end = body + length
        _FRAME_HEADER.pack_into(out, at, length, nonce)
        self._key.seal_into(nonce, plaintext, aad, out[body:end])
        self._chain.link(bytes(out[end - TAG_BYTES : end]))
        return end


class ExtentReader:
    """Opens frames of one extent, in any order."""

    __slots__ = ("_info", "_key", "header")

    def __init__(self, *, place: Place, key: SecretKey, header: ExtentHeader) -> None:
        """For the extent with this header in the file at `place`."""
        self.header = header
        self._info = place.extent_info(header.number)
        self._key = OpeningKey(extent_key(key, header.salt, self._info))

    def open_frame(
        self, header: FrameHeader, sealed: Buffer, prior_tag: bytes, out: memoryview
    ) -> None:
        """Verifies a frame and writes its plaintext to `out`.

        Args:
            header: as read from the frame.
            sealed: ciphertext and tag, `header.length` bytes.
            prior_tag: the tag of the frame before, wherever that stands.
            out: `header.plaintext_bytes` bytes; zeros when this raises.

        Raises:
            TagMismatch: anything is not as it was sealed.
        """
        aad = _AAD.pack(self._info, header.number, header.length, prior_tag)
        self._key.open_into(header.nonce, sealed, aad, out)
