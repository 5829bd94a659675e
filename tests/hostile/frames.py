"""Requests as an enemy writes them, derived from the declarations of every API and version.

Counts and lengths that nothing could hold, arrays of the narrowest elements that there are, and
values inside values: each as the body of a message, for whoever puts a header before it.
"""

import base64
from collections.abc import Iterator
from typing import Final

from appliance.limits import MAX_MESSAGE_ELEMENTS
from appliance.wire.kafka.schema import Array, Field, Fields, Scalar

MOST: Final = (1 << 31) - 1
SPACE_BYTES: Final = 64
"""What follows a hostile count."""
COUNTS: Final = {"2^31-1": MOST, "-2": -2, "one beyond the bytes left": SPACE_BYTES + 1}
DEPTH: Final = 10_000

WIDTHS: Final = {
    Scalar.BOOL: 1, Scalar.INT8: 1, Scalar.INT16: 2, Scalar.INT32: 4, Scalar.INT64: 8,
    Scalar.UINT16: 2, Scalar.FLOAT64: 8, Scalar.UUID: 16,
}  # fmt: skip


def varint(number: int) -> bytes:
    """Seven bits a byte; a negative number as 32 bits have it."""
    number &= 0xFFFF_FFFF
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(data) + bytes([number])


def count(number: int, flexible: bool) -> bytes:
    """The count of an array."""
    return varint(number + 1) if flexible else number.to_bytes(4, "big", signed=True)


def length(kind: Scalar, number: int, flexible: bool) -> bytes:
    """The length of a text or of bytes, as far as its field is wide."""
    if flexible:
        return varint(number + 1)
    if kind is Scalar.STRING:
        return min(number, (1 << 15) - 1).to_bytes(2, "big", signed=True)
    return number.to_bytes(4, "big", signed=True)


def empty(kind: Scalar | Array, flexible: bool) -> bytes:
    """The least bytes that a value takes."""
    if isinstance(kind, Array):
        return count(0, flexible)
    if kind in WIDTHS:
        return bytes(WIDTHS[kind])
    return b"\x01" if flexible else bytes(2 if kind is Scalar.STRING else 4)


def with_counts(
    fields: Fields, version: int, flexible: bool, number: int = MOST, before: bytes = b""
) -> Iterator[bytes]:
    """The start of a message up to each of its counts and lengths, which is `number`."""
    for field in fields.fields:
        if not field.carried_by(version) or field.tag is not None:
            continue
        kind = field.kind
        if isinstance(kind, Fields):
            present = b"\x01" if version >= field.nullable_from else b""
            yield from with_counts(kind, version, flexible, number, before + present)
            before += b"\xff" if present else b""
            continue
        if isinstance(kind, Array):
            yield before + count(number, flexible)
            if isinstance(kind.of, Fields):
                one = before + count(1, flexible)
                yield from with_counts(kind.of, version, flexible, number, one)
        elif kind not in WIDTHS:
            yield before + length(kind, number, flexible)
        before += empty(kind, flexible)


def least(fields: Fields, version: int, flexible: bool) -> bytes:
    """The least bytes that a row takes."""
    carried = [f for f in fields.fields if f.carried_by(version) and f.tag is None]
    return b"".join(least_of(f, version, flexible) for f in carried) + (
        b"\x00" if flexible else b""
    )


def least_of(field: Field, version: int, flexible: bool) -> bytes:
    """The least bytes that a field takes."""
    if isinstance(field.kind, Fields):
        null = version >= field.nullable_from
        return b"\xff" if null else least(field.kind, version, flexible)
    return empty(field.kind, flexible)


def crowded(fields: Fields, version: int, flexible: bool, size: int) -> Iterator[bytes]:
    """Messages of which one array each is filled with the narrowest elements that there are."""
    carried = [f for f in fields.fields if f.carried_by(version) and f.tag is None]
    for place, field in enumerate(carried):
        if not isinstance(field.kind, Array):
            continue
        of = field.kind.of
        before = b"".join(least_of(f, version, flexible) for f in carried[:place])
        after = b"".join(least_of(f, version, flexible) for f in carried[place + 1 :])
        after += b"\x00" if flexible else b""
        if isinstance(of, Fields):
            element = least(of, version, flexible)
            for inner in crowded(of, version, flexible, size):
                yield before + count(1, flexible) + inner + after
        else:
            element = b"\x7f" * WIDTHS[of] if of in WIDTHS else empty(of, flexible)
        number = min(size // len(element), MAX_MESSAGE_ELEMENTS) - 1
        yield before + count(number, flexible) + element * number + after


_NATIVE_HEADER: Final = b"\x01\x00\x00\x00\x00\x00\x00\x01"
_FETCH: Final = b"\x82\xa4type\xa5Fetch\xa6topics"
_METADATA: Final = b"\x82\xa4type\xa8Metadata\xa6topics"
NATIVE: Final = {
    "count of 2^32-1": _NATIVE_HEADER + _METADATA + b"\xdd\xff\xff\xff\xff",
    "depth of 10,000": _NATIVE_HEADER + b"\x91" * DEPTH,
    "depth in a field": _NATIVE_HEADER + _METADATA + b"\x91" * DEPTH,
    "depth in a row": _NATIVE_HEADER + _FETCH + b"\x91\x82\xa1x" + b"\x91" * DEPTH,
    "a map of 2^32-1": _NATIVE_HEADER + b"\xdf\xff\xff\xff\xff\xa4type",
    "text of 2^32-1": _NATIVE_HEADER + _METADATA + b"\x91\xdb\xff\xff\xff\xff",
}  # fmt: skip
"""Frames of the native dialect, without their size."""


def deep_token() -> bytes:
    """A first message of OAUTHBEARER whose token's header is JSON within JSON, 9,000 deep."""
    header = base64.urlsafe_b64encode(b"[" * 9_000).rstrip(b"=")
    return b"n,,\x01auth=Bearer " + header + b".e30.e30\x01\x01"
