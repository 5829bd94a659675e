"""Frames as an enemy sends them: cut anywhere, too long, with counts that nothing could hold."""

import contextlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka_declared import EVERY, label, request_frame, values_of, whole, write

from appliance.errors import ProtocolViolation
from appliance.limits import MIB, SPARE_DECODED_BYTES
from appliance.wire.kafka import codec
from appliance.wire.kafka.apis.registry import APIS
from tests.hostile.frames import COUNTS, SPACE_BYTES, crowded, with_counts

PARAMETERS = pytest.mark.parametrize(("api", "version"), EVERY, ids=label)


def starts(fields, version, flexible):
    """Up to each count and length, which is each of the hostile numbers."""
    for number in COUNTS.values():
        yield from with_counts(fields, version, flexible, number)


@PARAMETERS
def test_a_count_or_length_beyond_the_frame_is_refused_before_anything_is_allocated(api, version):
    flexible = api.is_flexible(version)
    for start in starts(api.request, version, flexible):
        frame = memoryview(request_frame(api, version, start + bytes(SPACE_BYTES)))
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolViolation):
                codec.decode(frame)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 * len(frame) + 16_384, peak


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
