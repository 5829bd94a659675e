"""Batches that are looked into cost a bounded amount of memory, whatever they would become."""

import threading
import time
import tracemalloc

import pytest
import trio

from appliance.broker.opening import with_records_of
from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_BATCH_BYTES, MAX_BATCHES_OPENED_AT_ONCE, MIB
from appliance.wire.kafka.compression import Codec
from appliance.wire.kafka.records import Record, encode_batch

COMPRESSED = (Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD)


def batch_of(value: bytes, codec: Codec) -> memoryview:
    return memoryview(encode_batch([Record(b"k", value, (), 0, 0)], codec=codec))


@pytest.mark.parametrize("codec", COMPRESSED, ids=lambda codec: codec.name)
def test_a_producers_bomb_in_any_codec_is_refused_within_the_largest_batch(codec):
    """What would become 60 MiB, from the 5 KB of zstd to the 3 MB of snappy."""
    bomb = batch_of(bytes(60 * MIB), codec)
    bound = max(MAX_BATCH_BYTES, 8 * len(bomb))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as refused:
            trio.run(lambda: with_records_of(bomb, len, stored=False))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.code is ErrorCode.INVALID_RECORD
    assert peak_bytes < bound + 2 * MIB


@pytest.mark.parametrize("codec", COMPRESSED, ids=lambda codec: codec.name)
def test_what_a_client_batches_before_it_compresses_is_taken(codec):
    taken = batch_of(bytes(MAX_BATCH_BYTES - 1024), codec)
    assert trio.run(lambda: with_records_of(taken, len, stored=False)) == 1


def test_what_is_stored_already_may_become_more():
    stored = batch_of(bytes(20 * MIB), Codec.ZSTD)
    assert trio.run(lambda: with_records_of(stored, len, stored=True)) == 1


def test_few_batches_are_open_at_a_time():
    batch, lock = batch_of(b"v", Codec.NONE), threading.Lock()
    open_now, most = 0, 0

    def look(_: list[Record]) -> None:
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
        time.sleep(0.002)  # Long enough for others to be open too, if they could be.
        with lock:
            open_now -= 1

    async def one() -> None:
        await with_records_of(batch, look, stored=False)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)

    trio.run(main)
    assert most == MAX_BATCHES_OPENED_AT_ONCE
