"""Bytes through TLS: whole, in order, ended on purpose, and sent without copies that matter."""

import os
import socket

import pytest
import trio
import trio.testing
from OpenSSL import SSL

from appliance.limits import MAX_SILENT_RECORDS, MIB
from appliance.server.records import RecordMeter, sealed_bytes


def test_bytes_cross_in_both_directions(authority, join) -> None:
    async def body(pair) -> None:
        await pair.client.send_all(b"question")
        assert await pair.server.receive_some() == b"question"
        await pair.server.send_all(b"answer")
        assert await pair.client.receive_some() == b"answer"

    join(authority, body)


def test_large_sends_arrive_whole_while_the_other_direction_is_full_too(authority, join) -> None:
    payload = os.urandom(5 * MIB + 12_345)

    async def receive(stream) -> None:
        room = memoryview(bytearray(len(payload)))
        got = 0
        while got < len(payload):
            got += await stream.receive_into(room[got:])
        assert room == payload

    async def body(pair) -> None:
        cut = [payload[:100], payload[100:9000], memoryview(payload)[9000:], b""]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.client.send_many, cut)
            nursery.start_soon(pair.server.send_many, cut)
            nursery.start_soon(receive, pair.server)
            nursery.start_soon(receive, pair.client)

    join(authority, body)


def test_a_small_room_takes_a_record_in_parts(authority, join) -> None:
    async def body(pair) -> None:
        await pair.client.send_all(b"0123456789")
        await pair.client.send_all(b"abc")
        parts = [await pair.server.receive_some(4) for _ in range(4)]
        assert b"".join(parts) == b"0123456789abc"
        assert not pair.server.has_data

    join(authority, body)


def test_records_that_have_arrived_together_are_taken_together(authority, join) -> None:
    async def body(pair) -> None:
        for number in range(5):
            assert pair.client.send_now(b"%d" % number)
        taken = []
        while sum(map(len, taken)) < 5:
            assert await pair.server.wait_data()
            while pair.server.has_data:
                taken.append(pair.server.take())
        assert b"".join(taken) == b"01234"
        assert len(taken) < 5

    join(authority, body)


def test_what_the_socket_does_not_take_waits_for_flush(authority, join) -> None:
    payload = os.urandom(32 * MIB)

    async def receive(stream) -> None:
        got = bytearray()
        while len(got) < len(payload):
            got += await stream.receive_some()
        assert got == payload

    async def body(pair) -> None:
        assert not pair.server.send_now(payload)
        assert pair.server.send_stalled_since is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, pair.client)
            await pair.server.flush()
        assert pair.server.send_stalled_since is None

    join(authority, body)


def test_an_end_on_purpose_is_an_end_of_file(authority, join) -> None:
    async def body(pair) -> None:
        await pair.client.send_all(b"last")

        async def serve() -> None:
            assert await pair.server.receive_some() == b"last"
            assert await pair.server.receive_some() == b""
            assert not await pair.server.wait_data()
            await pair.server.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await pair.client.aclose()

    join(authority, body)


def test_a_cut_is_not_an_end_of_file(authority, join) -> None:
    async def body(pair) -> None:
        pair.client.abandon()
        with pytest.raises(trio.BrokenResourceError):
            await pair.server.receive_some()

    join(authority, body)


def test_damaged_ciphertext_is_refused(authority, join) -> None:
    async def body(pair) -> None:
        raw = socket.socket(fileno=os.dup(pair.client._socket.fileno()))
        with raw:
            raw.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(trio.BrokenResourceError):
            await pair.server.receive_some()

    join(authority, body)


def test_records_without_bytes_for_us_are_bounded(authority, join) -> None:
    async def body(pair) -> None:
        # Key updates cannot be provoked from Python: what each leads to is called directly.
        for _ in range(MAX_SILENT_RECORDS):
            pair.server._not_data(SSL.WantReadError())
        with pytest.raises(trio.BrokenResourceError):
            pair.server._not_data(SSL.WantReadError())

    join(authority, body)


def test_closing_wakes_the_task_that_receives(authority, join) -> None:
    async def body(pair) -> None:
        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pair.server.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            pair.server.abandon()

    join(authority, body)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6, 7, 11, 100, 1000])
def test_the_meter_counts_records_however_they_are_cut(step: int) -> None:
    sizes = [0, 1, 5, 100, 0, 300, 16_401]
    stream = b"".join(b"\x17\x03\x03" + size.to_bytes(2) + b"x" * size for size in sizes)
    meter = RecordMeter()
    counts = [meter.feed(memoryview(stream)[at : at + step]) for at in range(0, len(stream), step)]
    assert sum(counts) == len(sizes)
    ends, total = [], 0
    for size in sizes:
        total += 5 + size
        ends.append(total)
    seen = 0
    for number, count in enumerate(counts, 1):
        seen += count
        assert seen == sum(end <= number * step for end in ends)


def test_sealed_bytes_counts_overhead_by_record() -> None:
    assert [sealed_bytes(n) for n in (0, 1, 16_384, 16_385)] == [0, 23, 16_406, 16_429]
