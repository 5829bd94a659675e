"""A damaged log is cut before its damage; nothing is deleted, and what it held is remembered."""

import pytest
import trio

from appliance.errors import DamageDetected, ErrorCode, RequestError
from appliance.ports import Snapshot
from appliance.storage import log as log_module
from appliance.types import Position

from .conftest import DOMAIN, PARTITION, batch_after

ENTRIES = 12
FILES = 4
LAST = Position(1, ENTRIES)


async def filled(home, monkeypatch):
    """Four files of three entries each; the last one is active."""
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 100_000)
    node = await home.create()
    log = await node.create_log(PARTITION, DOMAIN)
    for number in range(ENTRIES):
        log.append([batch_after(log, bytes([number]) * 30_000)])
        await log.flush(lambda _: None)
    assert len(log.segments()) == FILES
    return node, log


async def stopped(node, log):
    await log.close()
    await node.close()


def paths_of(home, log):
    return [home.path / str(PARTITION) / str(file.entry.file) for file in log._files]


def flip(path, at=50_000):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def shorten(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content.rstrip(b"\0")) // 2])


def run(home, monkeypatch, harm, body):
    """Fills a log, stops the node, does harm to its files, and opens the node again."""

    async def main():
        node, log = await filled(home, monkeypatch)
        paths = paths_of(home, log)
        await stopped(node, log)
        harm(paths)
        node = await home.open()
        await body(node, paths)
        await node.close()

    trio.run(main)


@pytest.mark.parametrize("harm", [flip, shorten])
@pytest.mark.parametrize("place", range(FILES))
def test_a_log_is_cut_before_the_file_that_is_damaged(home, monkeypatch, harm, place):
    async def body(node, paths):
        assert await node.quarantine(PARTITION)
        assert node.known_last(PARTITION) == LAST
        log = await node.open_log(PARTITION)
        assert log.last == Position(1 if place else 0, 3 * place)
        assert log.end_offset == 3 * place
        found = [] if not place else await log.entries(1, log.last.index, 1 << 20)
        assert [entry.header.index for entry in found] == list(range(1, 3 * place + 1))
        await log.close()

    run(home, monkeypatch, lambda paths: harm(paths[place]), body)


def test_nothing_is_deleted_then_or_later(home, monkeypatch):
    async def body(node, paths):
        await node.quarantine(PARTITION)
        log = await node.open_log(PARTITION)
        log.append([batch_after(log)])
        await log.flush(lambda _: None)
        await log.reset(Position(2, 20), 20)
        await log.close()
        await (await node.open_log(PARTITION)).close()
        assert all(path.exists() for path in paths[1:])

    run(home, monkeypatch, lambda paths: flip(paths[1]), body)


def test_a_file_that_is_gone_is_damage_as_well(home, monkeypatch):
    async def body(node, paths):
        with pytest.raises(DamageDetected):
            await node.open_log(PARTITION)
        assert await node.quarantine(PARTITION)
        log = await node.open_log(PARTITION)
        assert log.last.index == 6
        await log.close()

    run(home, monkeypatch, lambda paths: paths[2].unlink(), body)


def test_a_whole_log_stays_as_it_is(home, monkeypatch):
    async def body(node, paths):
        assert not await node.quarantine(PARTITION)
        assert node.known_last(PARTITION) is None
        log = await node.open_log(PARTITION)
        assert log.last == LAST
        await log.close()

    run(home, monkeypatch, lambda paths: None, body)


def test_after_a_failed_sync_the_last_file_goes_whole_or_not(home, monkeypatch):
    async def body(node, paths):
        assert await node.quarantine(PARTITION, distrusted=True)
        assert node.known_last(PARTITION) == LAST
        log = await node.open_log(PARTITION)
        assert log.last.index == 9
        await log.close()

    run(home, monkeypatch, lambda paths: None, body)


def test_what_a_log_held_is_remembered_until_it_holds_it_again(home, monkeypatch):
    async def body(node, paths):
        await node.quarantine(PARTITION)
        await node.close()
        node = await home.open()
        assert node.known_last(PARTITION) == LAST
        await node.save_known_last(PARTITION, None)
        await node.close()
        node = await home.open()
        assert node.known_last(PARTITION) is None
        await node.close()

    async def main():
        node, log = await filled(home, monkeypatch)
        paths = paths_of(home, log)
        await stopped(node, log)
        flip(paths[0])
        await body(await home.open(), paths)

    trio.run(main)


def test_later_frames_tell_what_was_held_where_no_mark_does(home, monkeypatch):
    """After a kill the mark may be old; frames behind the damage still verify."""

    async def main():
        node, log = await filled(home, monkeypatch)
        paths = paths_of(home, log)

        async def marks_nothing(**_):
            await trio.lowlevel.checkpoint()

        monkeypatch.setattr(node, "_mark", marks_nothing)
        await stopped(node, log)
        flip(paths[-1], 10_000)
        node = await home.open()
        assert node._journal.mark(PARTITION) is None
        await node.quarantine(PARTITION)
        assert node.known_last(PARTITION) == LAST
        await node.close()

    trio.run(main)


def test_entries_that_are_gone_come_again_where_they_were(home, monkeypatch):
    async def body(node, paths):
        await node.quarantine(PARTITION)
        log = await node.open_log(PARTITION)
        with pytest.raises(RequestError) as refused:
            log._check_held(1, 0)
        assert refused.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
        for number in range(3, ENTRIES):
            log.append([batch_after(log, bytes([number]) * 30_000)])
            await log.flush(lambda _: None)
        assert log.last == LAST
        found = await log.read(0, ENTRIES, 1 << 20)
        assert found.next_offset == ENTRIES
        await log.close()

    run(home, monkeypatch, lambda paths: flip(paths[1]), body)


def test_a_log_whose_snapshot_is_damaged_begins_anew_and_remembers_what_it_held(home, monkeypatch):
    """What the entries that are left stand on is gone: only peers can say what it was."""

    async def main():
        node, log = await filled(home, monkeypatch)
        await log.raise_start(4, applied=6, snapshot=lambda _: Snapshot(6, b"of six"))
        await stopped(node, log)
        (snapshot,) = (home.path / str(PARTITION)).glob("*.snapshot")
        flip(snapshot, 100)
        node = await home.open()
        log = await node.open_log(PARTITION)
        with pytest.raises(DamageDetected):
            await log.read_snapshot()
        await log.close()
        assert await node.quarantine(PARTITION)
        assert node.known_last(PARTITION) == LAST
        log = await node.open_log(PARTITION)
        assert (log.last.index, log.first_index, log.end_offset) == (0, 1, 0)
        assert await log.read_snapshot() is None
        await log.close()
        await node.close()

    trio.run(main)
