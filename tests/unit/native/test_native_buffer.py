"""Frames come out of a byte stream whole, in order, and never cost more than has arrived."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ProtocolViolation
from appliance.limits import FRAME_GROWTH_FACTOR, MIB, MIN_FRAME_ROOM_BYTES
from appliance.wire.buffer import FrameBuffer


def framed(*payloads: bytes) -> bytes:
    return b"".join(len(payload).to_bytes(4) + payload for payload in payloads)


def deliver(buffer: FrameBuffer, stream: bytes, cuts: list[int]) -> list[bytes]:
    """Plays the reading loop: `cuts` are the sizes in which bytes arrive."""
    frames: list[bytes] = []
    at = 0
    for cut in [*cuts, len(stream)]:
        end = min(len(stream), at + cut)
        while at < end:
            if not buffer.under_way:
                frames += map(bytes, buffer.feed(stream[at:end]))
                at = end
                continue
            room = buffer.writable()
            count = min(len(room), end - at)
            room[:count] = stream[at : at + count]
            room.release()
            at += count
            frame = buffer.wrote(count)
            if frame is not None:
                frames.append(bytes(frame))
    return frames


PAYLOADS = st.lists(
    st.one_of(st.binary(max_size=40), st.integers(0, 70_000).map(lambda n: b"x" * n)), max_size=5
)


@given(PAYLOADS, st.lists(st.integers(1, 60_000), max_size=20))
def test_frames_come_out_however_the_bytes_are_cut(payloads: list[bytes], cuts: list[int]) -> None:
    buffer = FrameBuffer(MIB)
    assert deliver(buffer, framed(*payloads), cuts) == payloads
    assert buffer.at_boundary


def test_frames_come_out_byte_by_byte() -> None:
    payloads = [b"", b"a", b"bc" * 300]
    stream = framed(*payloads)
    assert deliver(FrameBuffer(MIB), stream, [1] * len(stream)) == payloads


def test_frames_within_a_chunk_are_views_into_it() -> None:
    chunk = framed(b"one", b"two")
    assert all(frame.obj is chunk for frame in FrameBuffer(MIB).feed(chunk))


def test_a_size_over_the_limit_is_refused_before_its_bytes() -> None:
    with pytest.raises(ProtocolViolation):
        list(FrameBuffer(99).feed((100).to_bytes(4)))
    with pytest.raises(ProtocolViolation):
        list(FrameBuffer(99).feed(b"\xff\xff\xff\xff"))


def test_room_grows_with_what_has_arrived() -> None:
    size = 100 * MIB
    buffer = FrameBuffer(size)
    assert list(buffer.feed(size.to_bytes(4) + b"x")) == []
    received, held = 1, 1
    while True:
        held += buffer.growth
        assert held <= max(MIN_FRAME_ROOM_BYTES, FRAME_GROWTH_FACTOR * received)
        room = buffer.writable()
        received += len(room)
        assert received == held
        frame = buffer.wrote(len(room))
        room.release()
        if frame is not None:
            break
    assert len(frame) == held == size


def test_an_unfinished_frame_is_no_boundary() -> None:
    buffer = FrameBuffer(MIB)
    assert buffer.at_boundary
    list(buffer.feed(b"\x00"))
    assert not buffer.at_boundary
    list(buffer.feed(b"\x00\x00\x05a"))
    assert not buffer.at_boundary
