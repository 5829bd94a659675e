"""The Kafka protocol's primitive types: a bounded reader, and writers that append to a bytearray.

Rules:
- Nothing is allocated for a count or a length before it was checked against the bytes left: an
  element's least width on the wire is known, and is never zero.
- Array elements of one message are also bounded together, in number and in the memory that they
  become, because a narrow element (an empty string is one byte) becomes an object of fifty or more.
- Strings are strict UTF-8 of at most 32,767 bytes; numbers of variable length have no spare bytes
  beyond what their width needs.
- Everything that does not fit raises ProtocolViolation. Byte fields are views into the frame.
"""

import struct
from typing import Final
from uuid import UUID

from appliance.errors import ProtocolViolation
from appliance.limits import (
    DECODED_BYTES_PER_FRAME_BYTE,
    MAX_MESSAGE_ELEMENTS,
    MAX_STRING_BYTES,
    MAX_TAGGED_FIELDS,
    SPARE_DECODED_BYTES,
)
from appliance.types import Buffer

_INT8: Final = struct.Struct(">b")
_INT16: Final = struct.Struct(">h")
_INT32: Final = struct.Struct(">i")
_INT64: Final = struct.Struct(">q")
_UINT16: Final = struct.Struct(">H")
_FLOAT64: Final = struct.Struct(">d")
_MIN_TAGGED_BYTES: Final = 2
_CUT_SHORT: Final = "a message is cut short"

Records = tuple[memoryview, ...] | memoryview | None
"""Batches as they are sent: several, one, or null."""

_ZERO_UUID: Final = bytes(16)


class Reader:
    """Reads one message from a view; `position` is the next byte, never past the end."""

    __slots__ = ("_elements_left", "_end", "_memory_left", "_view", "position")

    def __init__(self, view: memoryview, position: int = 0) -> None:
        """Reads `view` from `position` on."""
        self._view = view
        self._end = len(view)
        self._elements_left = MAX_MESSAGE_ELEMENTS
        self._memory_left = DECODED_BYTES_PER_FRAME_BYTE * self._end + SPARE_DECODED_BYTES
        self.position = position

    def finish(self, spare_bytes: int = 0) -> None:
        """Raises ProtocolViolation if more bytes are left than may be."""
        if self._end - self.position > spare_bytes:
            raise ProtocolViolation("bytes follow the message")

    def skip(self, size: int) -> None:
        """Reads past `size` bytes."""
        self._advance(size)

    def _advance(self, size: int) -> int:
        """Where `size` bytes start that are there; they count as read."""
        start = self.position
        end = start + size
        if end > self._end:
            raise ProtocolViolation(_CUT_SHORT)
        self.position = end
        return start

    def numbers(self, form: struct.Struct) -> tuple[object, ...]:
        """Numbers side by side, as `form` has them."""
        start = self.position
        end = start + form.size
        if end > self._end:
            raise ProtocolViolation(_CUT_SHORT)
        self.position = end
        return form.unpack_from(self._view, start)

    def bool(self) -> bool:
        """One byte; any but 0 is true."""
        return self._view[self._advance(1)] != 0

    def int8(self) -> int:
        """A signed byte."""
        start = self.position
        if start + 1 > self._end:
            raise ProtocolViolation(_CUT_SHORT)
        self.position = start + 1
        number: int = _INT8.unpack_from(self._view, start)[0]
        return number

    def int16(self) -> int:
        """A signed 16-bit number."""
        start = self.position
        if start + 2 > self._end:
            raise ProtocolViolation(_CUT_SHORT)
        self.position = start + 2
        number: int = _INT16.unpack_from(self._view, start)[0]
        return number

    def int32(self) -> int:
        """A signed 32-bit number."""
        start = self.position
        if start + 4 > self._end:
            raise ProtocolViolation(_CUT_SHORT)
        self.position = start + 4
        number: int = _INT32.unpack_from(self._view, start)[0]
        return number

    def int64(self) -> int:
        """A signed 64-bit number."""
        start = self.position
        if start + 8 > self._end:
            raise ProtocolViolation(_CUT_SHORT)
        self.position = start + 8
        number: int = _INT64.unpack_from(self._view, start)[0]
        return number

    def uint16(self) -> int:
        """An unsigned 16-bit number."""
        number: int = _UINT16.unpack_from(self._view, self._advance(2))[0]
        return number

    def float64(self) -> float:
        """A number of IEEE 754's binary64."""
        number: float = _FLOAT64.unpack_from(self._view, self._advance(8))[0]
        return number

    def presence(self) -> int:
        """The byte before a row that may be null: 1 if it is there, -1 if not (KIP-893)."""
        flag = self.int8()
        if flag not in {-1, 1}:
            raise ProtocolViolation("a row is neither there nor null")
        return flag

    def uuid(self) -> UUID | None:
        """Sixteen bytes; all zero means that there is none."""
        start = self._advance(16)
        octets = bytes(self._view[start : start + 16])
        return None if octets == _ZERO_UUID else UUID(bytes=octets)

    def unsigned_varint(self) -> int:
        """Up to five bytes of seven bits, least significant first; at most 2^32 - 1 (KIP-482)."""
        start = self.position
        if start >= self._end:
            raise ProtocolViolation(_CUT_SHORT)
        self.position = start + 1
        byte = self._view[start]
        if byte < 0x80:
            return byte
        number = byte & 0x7F
        for shift in (7, 14, 21, 28):
            byte = self._view[self._advance(1)]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if number >> 32:
                    break
                return number
        raise ProtocolViolation("a number has too many bits")

    def string(self) -> str | None:
        """A 16-bit length, -1 for null, and UTF-8."""
        return self._text(self.int16())

    def compact_string(self) -> str | None:
        """A length plus one, 0 for null, and UTF-8."""
        start = self.position
        if start < self._end and (size := self._view[start]) < 0x80:  # As almost always.
            self.position = start + 1
            return self._text(size - 1)
        return self._text(self.unsigned_varint() - 1)

    def _text(self, size: int) -> str | None:
        if not 0 <= size <= MAX_STRING_BYTES:
            if size == -1:
                return None
            raise ProtocolViolation("a string has an impossible length")
        start = self._advance(size)
        try:
            return str(self._view[start : self.position], "utf-8")
        except UnicodeDecodeError:
            raise ProtocolViolation("a string is not UTF-8") from None

    def octets(self) -> bytes | None:
        """A 32-bit length, -1 for null, and that many bytes: a copy that may outlive the frame."""
        view = self._slice(self.int32())
        return None if view is None else bytes(view)

    def compact_octets(self) -> bytes | None:
        """As `octets`, with the length plus one as an unsigned varint."""
        view = self._slice(self.unsigned_varint() - 1)
        return None if view is None else bytes(view)

    def records(self) -> memoryview | None:
        """A 32-bit length, -1 for null, and that many bytes: a view, not a copy."""
        return self._slice(self.int32())

    def compact_records(self) -> memoryview | None:
        """As `records`, with the length plus one as an unsigned varint."""
        return self._slice(self.unsigned_varint() - 1)

    def _slice(self, size: int) -> memoryview | None:
        if size < 0:
            if size == -1:
                return None
            raise ProtocolViolation("bytes have an impossible length")
        start = self._advance(size)
        return self._view[start : self.position]

    def count(self, min_width: int, weight: int) -> int | None:
        """A 32-bit count of elements; None is a null array.

        Each takes at least `min_width` bytes here, and about `weight` bytes once it is decoded.
        """
        return self._admit(self.int32(), min_width, weight)

    def compact_count(self, min_width: int, weight: int) -> int | None:
        """As `count`, with the count plus one as an unsigned varint."""
        start = self.position
        if start < self._end and (count := self._view[start]) < 0x80:  # As almost always.
            self.position = start + 1
            return self._admit(count - 1, min_width, weight)
        return self._admit(self.unsigned_varint() - 1, min_width, weight)

    def _admit(self, count: int, min_width: int, weight: int) -> int | None:
        if count < 0:
            if count == -1:
                return None
            raise ProtocolViolation("an array has an impossible count")
        if count * min_width > self._end - self.position or count > self._elements_left:
            raise ProtocolViolation("an array has more elements than the message can hold")
        self._elements_left -= count
        self._memory_left -= count * weight
        if self._memory_left < 0:
            raise ProtocolViolation("a message would become much larger than it is")
        return count

    def tag_count(self) -> int:
        """How many tagged fields follow."""
        count = self.unsigned_varint()
        if count > min(MAX_TAGGED_FIELDS, (self._end - self.position) // _MIN_TAGGED_BYTES):
            raise ProtocolViolation("too many tagged fields")
        return count

    def skip_tags(self) -> None:
        """Reads past tagged fields that nobody knows; their tags must grow (KIP-482)."""
        if self.position < self._end and self._view[self.position] == 0:
            self.position += 1
            return
        last = -1
        for _ in range(self.tag_count()):
            tag = self.unsigned_varint()
            if tag <= last:
                raise ProtocolViolation("tagged fields are out of order")
            last = tag
            self._advance(self.unsigned_varint())


class Output(bytearray):
    """What is written so far; batches are not copied in but noted with the place they belong to."""

    __slots__ = ("_cuts", "_noted_bytes")

    def __init__(self, initial: bytes = b"") -> None:
        """Starts with the bytes given."""
        super().__init__(initial)
        self._cuts: list[tuple[int, tuple[memoryview, ...]]] = []
        self._noted_bytes = 0

    def note(self, views: tuple[memoryview, ...], size: int) -> None:
        """Puts `views`, of `size` bytes together, after what is written now."""
        self._cuts.append((len(self), views))
        self._noted_bytes += size

    @property
    def size_bytes(self) -> int:
        """What will be sent: the bytes written and the views noted."""
        return len(self) + self._noted_bytes

    def buffers(self) -> list[Buffer]:
        """Everything in order, uncopied; nothing may be written after this."""
        if not self._cuts:
            return [self]
        whole = memoryview(self)
        parts: list[Buffer] = []
        start = 0
        for place, views in self._cuts:
            parts.append(whole[start:place])
            parts.extend(views)
            start = place
        if start < len(self):
            parts.append(whole[start:])
        return parts


def put_bool(output: Output, value: bool) -> None:
    """One byte, 0 or 1."""
    output.append(1 if value else 0)


def put_int8(output: Output, value: int) -> None:
    """A signed byte."""
    output += _INT8.pack(value)


def put_int16(output: Output, value: int) -> None:
    """A signed 16-bit number."""
    output += _INT16.pack(value)


def put_int32(output: Output, value: int) -> None:
    """A signed 32-bit number."""
    output += _INT32.pack(value)


def put_int64(output: Output, value: int) -> None:
    """A signed 64-bit number."""
    output += _INT64.pack(value)


def put_uint16(output: Output, value: int) -> None:
    """An unsigned 16-bit number."""
    output += _UINT16.pack(value)


def put_float64(output: Output, value: float) -> None:
    """A number of IEEE 754's binary64."""
    output += _FLOAT64.pack(value)


def put_uuid(output: Output, value: UUID | None) -> None:
    """Sixteen bytes; None is all zero."""
    output += _ZERO_UUID if value is None else value.bytes


def put_unsigned_varint(output: Output, value: int) -> None:
    """Seven bits a byte, least significant first."""
    while value > 0x7F:
        output.append(value & 0x7F | 0x80)
        value >>= 7
    output.append(value)


def put_string(output: Output, value: str | None) -> None:
    """A 16-bit length, -1 for null, and UTF-8; a longer string is cut at 32,767 bytes."""
    if value is None:
        output += b"\xff\xff"
        return
    text = _text_bytes(value)
    output += _INT16.pack(len(text))
    output += text


def put_compact_string(output: Output, value: str | None) -> None:
    """A length plus one, 0 for null, and UTF-8; a longer string is cut at 32,767 bytes."""
    if value is None:
        output.append(0)
        return
    text = _text_bytes(value)
    put_unsigned_varint(output, len(text) + 1)
    output += text


def _text_bytes(value: str) -> bytes:
    """Only error messages can be too long, and those lose nothing by a cut."""
    text = value.encode()
    if len(text) > MAX_STRING_BYTES:
        return text[:MAX_STRING_BYTES].decode(errors="ignore").encode()
    return text


def put_octets(output: Output, value: Buffer | None) -> None:
    """A 32-bit length, -1 for null, and the bytes."""
    if value is None:
        output += b"\xff\xff\xff\xff"
        return
    output += _INT32.pack(len(value))
    output += value


def put_compact_octets(output: Output, value: Buffer | None) -> None:
    """A length plus one, 0 for null, and the bytes."""
    if value is None:
        output.append(0)
        return
    put_unsigned_varint(output, len(value) + 1)
    output += value


def put_records(output: Output, value: Records) -> None:
    """A 32-bit length, -1 for null, and the batches, which are not copied."""
    if value is None:
        output += b"\xff\xff\xff\xff"
        return
    views = value if isinstance(value, tuple) else (value,)
    size = sum(map(len, views))
    output += _INT32.pack(size)
    if size:
        output.note(views, size)


def put_compact_records(output: Output, value: Records) -> None:
    """A length plus one, 0 for null, and the batches, which are not copied."""
    if value is None:
        output.append(0)
        return
    views = value if isinstance(value, tuple) else (value,)
    size = sum(map(len, views))
    put_unsigned_varint(output, size + 1)
    if size:
        output.note(views, size)


def put_count(output: Output, count: int | None) -> None:
    """A 32-bit count, -1 for a null array."""
    output += _INT32.pack(-1 if count is None else count)


def put_compact_count(output: Output, count: int | None) -> None:
    """A count plus one, 0 for a null array."""
    if count is not None and count < 0x7F:
        output.append(count + 1)
    else:
        put_unsigned_varint(output, 0 if count is None else count + 1)
