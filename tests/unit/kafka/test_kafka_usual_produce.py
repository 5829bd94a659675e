"""The produce that nearly all are is read and written as its declaration says, or left to it."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.errors import ErrorCode, ProtocolViolation
from appliance.wire.kafka import codec, usual_produce
from appliance.wire.kafka.apis.produce import API
from appliance.wire.kafka.compiler import compile_decoder, compile_encoder
from appliance.wire.kafka.primitives import Output, Reader
from appliance.wire.requests import (
    Broker,
    CurrentLeader,
    ProducedPartition,
    ProducedTopic,
    ProduceResult,
)

VERSIONS = range(usual_produce.SINCE, usual_produce.UNTIL + 1)
DECODE = {v: compile_decoder(API.request, v, flexible=True) for v in VERSIONS}
ENCODE = {v: compile_encoder(API.response, v, flexible=True) for v in VERSIONS}
BY_LIBRDKAFKA = bytes.fromhex(
    "0000000a00000007000772646b61666b610000ffff000075300205746578740200000003"
) + bytes([0x80, 0x08])  # a batch of 1,023 bytes follows, and no tags three times

names = st.text(max_size=200) | st.text("ab", min_size=120, max_size=130)
sizes = st.sampled_from([0, 1, 2, 125, 126, 127, 128, 16_381, 16_382, 16_383, 16_384, 70_000])
numbers = st.integers(-(2**31), 2**31 - 1)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def compact(data: bytes | None) -> bytes:
    return b"\0" if data is None else varint(len(data) + 1) + data


@st.composite
def frames(draw):
    client = draw(st.none() | names)
    head = struct.pack(">hhi", 0, draw(st.sampled_from(VERSIONS)), draw(numbers))
    text = b"" if client is None else client.encode()
    head += struct.pack(">h", -1 if client is None else len(text)) + text + b"\0"
    head += compact(draw(st.sampled_from([None, None, None, b"", b"t"])))
    head += struct.pack(">hi", draw(st.integers(-2, 2)), draw(numbers))
    head += varint(draw(st.sampled_from([2, 2, 2, 2, 1, 3]))) + compact(draw(names).encode())
    head += varint(draw(st.sampled_from([2, 2, 2, 2, 1, 3]))) + struct.pack(">i", draw(numbers))
    batch = draw(st.sampled_from([True, True, True, False]))
    head += compact(bytes(draw(sizes)) if batch else None)
    return head + draw(st.sampled_from([bytes(3), bytes(3), bytes(2), bytes(4), b"\0\1\0\0\0"]))


def declared(frame: memoryview):
    """What the declaration reads, or None where it refuses."""
    try:
        reader = Reader(frame, 8)
        client_id = reader.string()
        reader.skip_tags()
        request = DECODE[int.from_bytes(frame[2:4], "big")](reader)
        reader.finish()
    except ProtocolViolation:
        return None
    return client_id, request


def agrees(data: bytes) -> bool:
    frame = memoryview(data)
    found = usual_produce.decode(frame)
    if found is not None:
        assert found == declared(frame)
    return found is not None


@given(frames())
@example(BY_LIBRDKAFKA + bytes(1023 + 3))
def test_what_is_read_is_what_the_declaration_reads(data):
    agrees(data)


@given(frames(), st.data())
def test_nor_does_a_frame_that_was_tampered_with_differ(data, draws):
    at = draws.draw(st.integers(8, len(data) - 1))
    byte = draws.draw(st.integers(0, 255))
    agrees(data[:at] + bytes([byte]) + data[at + 1 :])
    agrees(data[: max(at, 8)])
    agrees(data[:at] + bytes([byte]) + data[at:])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 126, 127, 16_382, 16_383, 1 << 20])
def test_the_usual_form_is_recognised_at_every_size_of_batch(version, size):
    frame = struct.pack(">hhih", 0, version, 7, 1) + b"c\0\0\xff\xff" + bytes(4)
    frame += b"\2" + compact(b"text") + b"\2" + bytes(4) + compact(bytes(size)) + bytes(3)
    assert agrees(frame)
    assert agrees(BY_LIBRDKAFKA + bytes(1023 + 3))
    assert codec.decode(memoryview(frame)).request == declared(memoryview(frame))[1]


def test_no_single_byte_of_a_small_frame_is_read_otherwise():
    """Every byte set to every value, taken out, and put in once more."""
    small = BY_LIBRDKAFKA[:-2] + compact(b"batch") + bytes(3)
    assert agrees(small)
    taken = 0
    for at in range(8, len(small)):
        for value in range(256):
            taken += agrees(small[:at] + bytes([value]) + small[at + 1 :])
        agrees(small[:at] + small[at + 1 :])
        agrees(small[:at])
        agrees(small[: at + 1] + small[at:])
    assert 0 < taken < 256 * len(small)


def test_a_long_name_is_not_taken_for_a_short_one():
    """The size's first byte alone would place all that follows one byte early, and it would fit."""
    frame = struct.pack(">hhih", 0, 10, 7, -1) + b"\0\0\xff\xff" + bytes(4) + b"\2"
    frame += compact(b"a" * 126 + b"\2") + b"\2" + struct.pack(">i", 7) + compact(b"batch")
    assert not agrees(frame + bytes(3))


@pytest.mark.parametrize("size", [0, 1, 8, 9, 12, 20, 36])
def test_a_frame_that_ends_early_is_left_to_the_declaration(size):
    assert usual_produce.decode(memoryview(BY_LIBRDKAFKA[:size])) is None


codes = st.sampled_from(ErrorCode)
offsets = st.integers(-1, 2**63 - 1)
parts = st.builds(
    ProducedPartition,
    index=numbers,
    error=codes,
    base_offset=offsets,
    log_append_time_ms=offsets,
    log_start_offset=offsets,
    message=st.sampled_from([None, None, None, "", "why"]),
    leader=st.sampled_from([None, None, None, CurrentLeader(1, 2)]),
)
few = st.sampled_from([1, 1, 1, 0, 2])
results = few.flatmap(
    lambda topics: st.builds(
        ProduceResult,
        topics=st.tuples(
            *[
                st.builds(
                    ProducedTopic,
                    name=names,
                    partitions=few.flatmap(lambda count: st.tuples(*[parts] * count)),
                )
            ]
            * topics
        ),
        throttle_time_ms=numbers,
        endpoints=st.sampled_from([(), (), (), (Broker(1, "h", 9, None),)]),
    )
)


@given(st.sampled_from(VERSIONS), numbers, results)
def test_what_is_written_is_what_the_declaration_writes(version, correlation_id, response):
    found = usual_produce.encode(correlation_id, response)
    if found is None:
        return
    output = Output(bytes(8) + b"\0")
    ENCODE[version](output, response)
    struct.pack_into(">ii", output, 0, len(output) - 4, correlation_id)
    assert found == bytes(output)


def test_the_usual_answer_is_written_at_once():
    part = ProducedPartition(3, ErrorCode.NONE, 12, -1, 0)
    response = ProduceResult((ProducedTopic("text", (part,)),))
    assert usual_produce.encode(7, response) is not None
