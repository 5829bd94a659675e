"""Frames as an enemy sends them: cut anywhere, too long, with counts that nothing could hold."""

import contextlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka_declared import EVERY, label, request_frame, values_of, whole, write

from appliance.errors import ProtocolViolation
from appliance.limits import MAX_MESSAGE_ELEMENTS, MIB, SPARE_DECODED_BYTES
from appliance.wire.kafka import codec
from appliance.wire.kafka.apis.registry import APIS
from appliance.wire.kafka.schema import Array, Fields, Scalar

MOST = (1 << 31) - 1
PARAMETERS = pytest.mark.parametrize(("api", "version"), EVERY, ids=label)

WIDTHS = {
    Scalar.BOOL: 1, Scalar.INT8: 1, Scalar.INT16: 2, Scalar.INT32: 4, Scalar.INT64: 8,
    Scalar.UINT16: 2, Scalar.FLOAT64: 8, Scalar.UUID: 16,
}  # fmt: skip


def varint(number):
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(data) + bytes([number])


def count(number, flexible):
    return varint(number + 1) if flexible else number.to_bytes(4, "big", signed=True)


def empty(kind, flexible):
    """The least bytes that a value takes."""
    if isinstance(kind, Array):
        return count(0, flexible)
    if kind in WIDTHS:
        return bytes(WIDTHS[kind])
    return b"\x01" if flexible else bytes(2 if kind is Scalar.STRING else 4)


def hostile(fields, version, flexible, before=b""):
    """The start of a message up to each of its counts, which is the largest that there is."""
    for field in fields.fields:
        if not field.carried_by(version) or field.tag is not None:
            continue
        kind = field.kind
        if isinstance(kind, Fields):
            present = b"\x01" if version >= field.nullable_from else b""
            yield from hostile(kind, version, flexible, before + present)
            before += b"\xff" if present else b""
            continue
        if isinstance(kind, Array):
            yield before + count(MOST, flexible)
            if isinstance(kind.of, Fields):
                yield from hostile(kind.of, version, flexible, before + count(1, flexible))
        elif kind not in WIDTHS:
            size = (
                varint(MOST)
                if flexible
                else b"\x7f\xff\xff\xff"[: 2 if kind is Scalar.STRING else 4]
            )
            yield before + size
        before += empty(kind, flexible)


@PARAMETERS
def test_a_count_or_length_beyond_the_frame_is_refused_before_anything_is_allocated(api, version):
    flexible = api.is_flexible(version)
    for start in hostile(api.request, version, flexible):
        frame = memoryview(request_frame(api, version, start + bytes(64)))
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolViolation):
                codec.decode(frame)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 * len(frame) + 16_384, peak


def least(fields, version, flexible):
    """The least bytes that a row takes."""
    carried = [f for f in fields.fields if f.carried_by(version) and f.tag is None]
    return b"".join(least_of(f, version, flexible) for f in carried) + (
        b"\x00" if flexible else b""
    )


def least_of(field, version, flexible):
    if isinstance(field.kind, Fields):
        null = version >= field.nullable_from
        return b"\xff" if null else least(field.kind, version, flexible)
    return empty(field.kind, flexible)


def crowded(fields, version, flexible, size):
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


@pytest.mark.parametrize("api", APIS, ids=label)
def test_a_message_of_the_narrowest_elements_becomes_little_more_than_eight_times_as_large(api):
    for version in {api.lowest, api.highest}:
        flexible = api.is_flexible(version)
        size = min(MIB, api.max_request_bytes - 512)
        for body in crowded(api.request, version, flexible, size):
            frame = memoryview(request_frame(api, version, body))
            tracemalloc.start()
            try:
                with contextlib.suppress(ProtocolViolation):
                    codec.decode(frame)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak <= 8 * len(frame) + SPARE_DECODED_BYTES, (version, peak, len(frame))


@PARAMETERS
@settings(max_examples=1, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_frame_is_taken_whole_or_not_at_all(api, version, data):
    body = write(api, version, "request", data.draw(values_of(whole(api, version, "request"))))
    frame = request_frame(api, version, body)
    for end in range(len(frame)):
        with pytest.raises(ProtocolViolation):
            codec.decode(memoryview(frame[:end]))
    with pytest.raises(ProtocolViolation):
        codec.decode(memoryview(frame + bytes(api.spare_bytes + 1)))


def test_a_row_of_tags_that_goes_on_for_ever_is_refused():
    for tags in (b"\xff\xff\xff\xff\x0f", b"\x40" + b"\x01\x00" * 64, b"\x02\x05\x00\x05\x00"):
        frame = b"\x00\x03\x00\x0c\x00\x00\x00\x01\xff\xff" + tags + bytes(8)
        with pytest.raises(ProtocolViolation):
            codec.decode(memoryview(frame))
