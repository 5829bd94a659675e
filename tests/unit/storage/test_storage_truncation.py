"""Entries that were taken back are gone, for readers and after any restart; kept ones are not."""

import pytest
import trio

from appliance.errors import DamageDetected, ErrorCode, RequestError
from appliance.storage import log as log_module
from appliance.types import Index, Offset, Position, Term

from .conftest import DOMAIN, PARTITION, batch_after


def append(log, *bodies, term=1, records=1):
    for body in bodies:
        log.append([batch_after(log, body, term=term, records=records)])


async def flushed(log):
    seen = []
    await log.flush(seen.append)
    return seen


async def written(log, *bodies, term=1, records=1):
    append(log, *bodies, term=term, records=records)
    return await flushed(log)


async def held(log):
    """(term, offset, body) of every entry."""
    if log.last.index < log.first_index:
        return []
    entries = await log.entries(log.first_index, log.last.index, 1 << 40)
    assert [e.header.index for e in entries] == list(range(log.first_index, log.last.index + 1))
    for entry in entries:
        assert int.from_bytes(entry.payload[:8], "big") == entry.header.base_offset
    return [(e.header.term, e.header.base_offset, bytes(e.payload[8:])) for e in entries]


async def fetched(log):
    """Bodies of all batches, by offset, from the cache and from the files."""
    bodies = []
    for _ in range(2):
        at, found = log.start_offset, []
        while at < log.end_offset:
            part = await log.read(at, log.end_offset, 1)
            (batch,) = part.batches
            found.append(bytes(batch[8:]))
            at = part.next_offset
        bodies.append(found)
        log._cache.forget(log._tail)
    assert bodies[0] == bodies[1]
    return bodies[0]


class Life:
    """One log, killed or stopped and opened again as often as a test likes."""

    def __init__(self, home):
        self.home = home

    async def begin(self):
        self.node = await self.home.create()
        self.log = await self.node.create_log(PARTITION, DOMAIN)
        return self.log

    async def again(self, *, clean):
        if clean:
            await self.log.close()
            await self.node.close()
        else:
            self.home.abandon(self.node)
        self.node = await self.home.open()
        self.log = await self.node.open_log(PARTITION)
        return self.log

    def files(self):
        names = {p.name for p in (self.home.path / str(PARTITION)).iterdir()}
        return {name for name in names - {"manifest"} if not name.endswith(".index")}


@pytest.fixture
def life(home):
    return Life(home)


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("last_kept", range(6))
def test_kept_entries_stay_and_taken_back_ones_never_return(life, last_kept, clean):
    async def main():
        log = await life.begin()
        await written(log, b"a", b"b", b"c")
        await written(log, b"d", b"e")
        await log.truncate(Index(last_kept))
        expected = [(1, n, bytes([97 + n])) for n in range(last_kept)]
        assert (log.last.index, log.durable, log.end_offset) == (last_kept,) * 3
        assert await held(log) == expected
        await written(log, b"X", b"Y", term=2)
        expected += [(2, last_kept, b"X"), (2, last_kept + 1, b"Y")]
        for _ in range(2):
            assert await held(log) == expected
            assert await fetched(log) == [body for _, _, body in expected]
            assert log.last == Position(Term(2), Index(last_kept + 2))
            log = await life.again(clean=clean)

    trio.run(main)


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("last_kept", range(9))
def test_truncation_reaches_across_rolls(life, monkeypatch, last_kept, clean):
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 100_000)

    async def main():
        log = await life.begin()
        for number in range(8):
            await written(log, b"%d" % number * 40_000)
        before = life.files()
        assert len(before) > 3
        await log.truncate(Index(last_kept))
        named = {str(file.entry.file) for file in log._files}
        assert life.files() == named
        await written(log, b"X" * 40_000, b"Y" * 40_000, b"Z" * 40_000, term=3)
        expected = [*(b"%d" % n for n in range(last_kept)), b"X", b"Y", b"Z"]
        for _ in range(2):
            assert [body[:1] for _, _, body in await held(log)] == expected
            assert [body[:1] for body in await fetched(log)] == expected
            log = await life.again(clean=clean)

    trio.run(main)


def test_truncation_after_truncation_within_one_file_and_a_roll_after_it(life, monkeypatch):
    async def main():
        log = await life.begin()
        await written(log, b"a", b"b", b"c", b"d")
        await log.truncate(Index(3))
        await written(log, b"e", b"f", term=2)
        await log.truncate(Index(1))
        await written(log, b"g", b"h", term=3)
        await log.truncate(Index(2))
        await written(log, b"i", term=4)
        monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 1)
        await written(log, b"j", term=4)
        expected = [(1, 0, b"a"), (3, 1, b"g"), (4, 2, b"i"), (4, 3, b"j")]
        for _ in range(2):
            assert await held(log) == expected
            assert await fetched(log) == [b"a", b"g", b"i", b"j"]
            assert log.epochs() == ((1, 0), (3, 1), (4, 2))
            assert [log.term_at(Index(n)) for n in range(6)] == [0, 1, 3, 4, 4, None]
            log = await life.again(clean=False)

    trio.run(main)


def test_staged_entries_go_without_being_written(life):
    async def main():
        log = await life.begin()
        await written(log, b"a", records=10)
        end = log._files.active.writer.position
        append(log, b"b", b"c", records=5)
        await log.truncate(Index(2))
        assert (log.last.index, log.end_offset, log.durable) == (2, 15, 1)
        assert log._files.active.writer.position == end
        assert await flushed(log) == [2]
        await log.truncate(Index(1))
        assert log.end_offset == 10
        assert await held(log) == [(1, 0, b"a")]

    trio.run(main)


def test_what_is_being_flushed_as_it_is_taken_back_is_never_called_durable(life):
    async def main():
        log = await life.begin()
        await written(log, b"a")
        append(log, b"b", b"c", b"d")
        seen = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.flush, seen.append)
            await trio.lowlevel.checkpoint()
            await log.truncate(Index(2))
        await written(log, b"X", term=2)
        assert seen == [2]
        assert [body for _, _, body in await held(log)] == [b"a", b"b", b"X"]
        log = await life.again(clean=False)
        assert [body for _, _, body in await held(log)] == [b"a", b"b", b"X"]

    trio.run(main)


@pytest.mark.parametrize("clean", [False, True])
def test_a_log_that_was_reset_goes_on_from_the_snapshot(life, clean):
    async def main():
        log = await life.begin()
        await written(log, b"a", b"b", b"c")
        append(log, b"staged")
        await log.reset(Position(Term(7), Index(41)), Offset(1000))
        assert len(life.files()) == 1
        for _ in range(2):
            assert log.last == Position(Term(7), Index(41))
            assert (log.first_index, log.durable) == (42, 41)
            assert (log.start_offset, log.end_offset) == (1000, 1000)
            assert [log.term_at(Index(n)) for n in (40, 41, 42)] == [None, 7, None]
            with pytest.raises(RequestError):
                await log.read(Offset(0), Offset(1000), 1)
            log = await life.again(clean=clean)
        await written(log, b"d", term=8)
        log = await life.again(clean=clean)
        assert await held(log) == [(8, 1000, b"d")]
        assert log.epochs() == ((7, 1000), (8, 1000))

    trio.run(main)


@pytest.mark.parametrize("clean", [False, True])
def test_a_raised_start_removes_whole_files_and_refuses_reads_below(life, monkeypatch, clean):
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 100_000)

    async def main():
        log = await life.begin()
        for number in range(8):
            await written(log, b"%d" % number * 40_000, term=number + 1)
        files = list(log._files)
        await log.raise_start(Offset(5))
        await log.raise_start(Offset(3))
        for _ in range(2):
            assert log.start_offset == 5
            assert log.first_index == files[2].entry.first_index == 5
            assert log.term_at(Index(4)) == 4
            assert log.term_at(Index(3)) is None
            assert len(life.files()) == 2
            with pytest.raises(RequestError) as refused:
                await log.read(Offset(4), log.end_offset, 1)
            assert refused.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
            assert [body[:1] for body in await fetched(log)] == [b"5", b"6", b"7"]
            log = await life.again(clean=clean)
        await log.raise_start(log.end_offset)
        assert await fetched(log) == []
        await written(log, b"next", term=9)
        log = await life.again(clean=clean)
        assert await fetched(log) == [b"next"]

    trio.run(main)


def test_a_void_that_was_durable_cannot_be_taken_away(life):
    async def main():
        log = await life.begin()
        await written(log, b"a", b"b")
        end = log._files.active.writer.position
        await log.truncate(Index(1))
        await log.close()
        await life.node.close()
        return end

    end = trio.run(main)
    (name,) = life.files()
    path = life.home.path / str(PARTITION) / name
    whole = path.read_bytes()
    path.write_bytes(whole[:end] + bytes(len(whole) - end))

    async def reopened():
        node = await life.home.open()
        with pytest.raises(DamageDetected):
            await node.open_log(PARTITION)
        life.home.abandon(node)

    trio.run(reopened)


def test_a_start_raised_to_the_end_frees_the_active_file_too(life):
    async def main():
        log = await life.begin()
        await written(log, b"a" * 50_000, b"b", b"c")
        old = life.files()
        await log.raise_start(log.end_offset, applied=Index(2))
        assert life.files() == old
        await log.raise_start(log.end_offset, applied=Index(3))
        assert not life.files() & old
        assert (log.first_index, log.start_offset, log.end_offset) == (4, 3, 3)
        await written(log, b"d")
        log = await life.again(clean=False)
        assert await fetched(log) == [b"d"]
        assert log.term_at(Index(3)) == 1

    trio.run(main)


def test_files_end_by_size_and_by_age(life):
    async def main():
        log = await life.begin()
        log.limit_segments(max_bytes=50_000, max_ms=10**9)
        for _ in range(4):
            await written(log, b"x" * 20_000)
        sizes = [segment.size_bytes for segment in log.segments()]
        assert len(sizes) == 2
        assert max(sizes) <= 50_000 + 100
        log.limit_segments(max_bytes=10**9, max_ms=0)
        await written(log, b"y")
        segments = log.segments()
        assert [(s.first_index, s.first_offset, s.next_offset) for s in segments] == [
            (1, 0, 2), (3, 2, 4), (5, 4, 5),
        ]  # fmt: skip

    trio.run(main)


def test_a_start_never_reads_more_frames_than_one_file_may_have(life, monkeypatch):
    async def main():
        monkeypatch.setattr(log_module, "MAX_ACTIVE_FRAMES", 3)
        log = await life.begin()
        for body in (b"a", b"b", b"c", b"d", b"e"):
            await written(log, body)
        log = await life.again(clean=False)
        assert [segment.first_offset for segment in log.segments()] == [0, 3]
        await written(log, b"f")
        await written(log, b"g")
        assert [segment.first_offset for segment in log.segments()] == [0, 3, 6]
        assert await fetched(log) == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]

    trio.run(main)
