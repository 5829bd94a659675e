"""What two threads read of a log is what one would have read."""

import random

import pytest
import trio

from appliance.errors import DamageDetected
from appliance.limits import KIB
from appliance.storage import halves
from appliance.storage.blockfile import PosixFile
from appliance.storage.halves import read_piece
from appliance.storage.reading import Collected, read_batches
from appliance.types import Index, Offset

from .conftest import DOMAIN, PARTITION, batch_after

BATCHES = 60


@pytest.fixture(autouse=True)
def small_halves(monkeypatch):
    monkeypatch.setattr(halves, "READ_IN_HALVES_BYTES", 256 * KIB)


@pytest.fixture
def in_two(monkeypatch):
    """How often a read was divided."""
    seen = []
    real = Collected.go_on_with

    def go_on_with(first, second, end):
        seen.append(end)
        real(first, second, end)

    monkeypatch.setattr(Collected, "go_on_with", go_on_with)
    return seen


async def filled(home, source):
    """A log of batches of many sizes, some of which were taken back and written again."""
    node = await home.create()
    log = await node.create_log(PARTITION, DOMAIN)
    for number in range(BATCHES):
        size = source.choice((100, 5_000, 70_000, 120_000, 400_000))
        log.append([batch_after(log, bytes([number]) * size, records=source.randint(1, 4))])
        if number % 3 == 0:
            await log.flush(lambda _: None)
        if number == BATCHES // 2:
            await log.truncate(Index(number - 7))
    await log.flush(lambda _: None)
    return node, log


def by_one(files, start, end, max_bytes):
    collected = Collected(start, end, max_bytes)
    read_batches(files, collected, start)
    return collected.slice()


def test_both_halves_together_are_a_beginning_of_what_one_thread_reads(home, in_two):
    source = random.Random(7)

    async def main():
        node, log = await filled(home, source)
        files = log._files
        for _ in range(150):
            start = Offset(source.randrange(log.end_offset))
            end = Offset(source.randint(start + 1, log.end_offset))
            max_bytes = source.choice((1, 300_000, 600_000, 2_000_000, 100_000_000))
            found = read_piece(files, start, end, max_bytes).slice()
            whole = by_one(files, start, end, max_bytes)
            assert found.base_offset == whole.base_offset
            assert b"".join(whole.batches).startswith(b"".join(found.batches))
            assert found.size_bytes <= max_bytes or found == by_one(files, start, end, 1)
            assert bool(found.batches) == bool(whole.batches), "one batch at least, if there is one"
            if max_bytes == 100_000_000:
                assert found.next_offset == whole.next_offset
        assert len(in_two) > 20
        await log.close()
        await node.close()

    trio.run(main)


def test_a_read_that_ends_early_in_its_file_is_divided_where_its_own_middle_is(home, in_two):
    async def main():
        node, log = await filled(home, random.Random(9))
        end = Offset(log.end_offset // 4)
        found = read_piece(log._files, Offset(0), end, 100_000_000).slice()
        assert in_two == [end]
        assert found == by_one(log._files, Offset(0), end, 100_000_000)
        await log.close()
        await node.close()

    trio.run(main)


def test_damage_in_the_second_half_alone_is_named(home, in_two, monkeypatch):
    async def main():
        node, log = await filled(home, random.Random(8))
        files = log._files
        far = 9 * files.active.end // 10
        read_into = PosixFile.read_into

        def flipped(file, position, into):
            count = read_into(file, position, into)
            if position <= far < position + count:
                into[far - position] ^= 1
            return count

        with monkeypatch.context() as damaged:
            damaged.setattr(PosixFile, "read_into", flipped)
            with pytest.raises(DamageDetected):
                read_piece(files, Offset(0), log.end_offset, 100_000_000)
        assert in_two == []
        await log.close()
        await node.close()

    trio.run(main)
