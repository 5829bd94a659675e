"""A full disk refuses writes and nothing else: reads go on, nothing is lost, space heals it."""

import errno
import os
from pathlib import Path

import pytest
import trio

from appliance.errors import StorageError, StorageFull
from appliance.ports import HardState
from appliance.storage import blockfile as blockfile_module
from appliance.storage import log as log_module
from appliance.storage.blockfile import PosixDisk
from appliance.types import Index, NodeId, Offset, Term

from .conftest import DOMAIN, PARTITION, batch_after

LARGE = b"x" * 700_000


class Space:
    """Injects ENOSPC where space is reserved, and where a document is written."""

    def __init__(self, monkeypatch):
        self.full = False
        self.documents_left = 0
        self._fallocate, self._write = os.posix_fallocate, os.write
        monkeypatch.setattr(blockfile_module.os, "posix_fallocate", self.fallocate)
        monkeypatch.setattr(blockfile_module.os, "write", self.write)

    def fallocate(self, *given):
        if self.full:
            raise OSError(errno.ENOSPC, "no space")
        self._fallocate(*given)

    def write(self, descriptor, data):
        if self.full and self.documents_left == 0:
            self.documents_left = 1  # what the reserve gives back is enough for the next
            raise OSError(errno.ENOSPC, "no space")
        return self._write(descriptor, data)


@pytest.fixture
def space(monkeypatch):
    return Space(monkeypatch)


async def flushed(log):
    await log.flush(lambda _: None)


async def bodies(log):
    entries = await log.entries(log.first_index, log.last.index, 1 << 40)
    return [bytes(entry.payload[8:9]) for entry in entries]


async def begun(home):
    node = await home.create()
    log = await node.create_log(PARTITION, DOMAIN)
    log.append([batch_after(log, b"a" + LARGE)])
    await flushed(log)
    return node, log


@pytest.mark.parametrize("size", [100, 700_000])
def test_what_waits_for_space_is_written_when_there_is_some(home, space, size):
    async def main():
        node, log = await begun(home)
        log.append([batch_after(log, b"b" + b"x" * 300_000)])
        await flushed(log)
        space.full = True
        for _ in range(20):
            log.append([batch_after(log, b"c" + b"x" * size)])
            if size == 100:
                log.append([batch_after(log, b"c" + LARGE)])
        for _ in range(3):
            with pytest.raises(StorageFull):
                await flushed(log)
        assert log.durable == 2
        assert (await log.read(Offset(0), Offset(2), 1 << 30)).next_offset == 2
        space.full = False
        await flushed(log)
        assert log.durable == log.last.index
        count = log.last.index - 2
        home.abandon(node)
        node = await home.open()
        log = await node.open_log(PARTITION)
        assert await bodies(log) == [b"a", b"b", *[b"c"] * count]

    trio.run(main)


def test_a_roll_without_space_leaves_the_log_as_it_was(home, space, monkeypatch):
    async def main():
        node, log = await begun(home)
        monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 1)
        space.full, space.documents_left = True, 0
        monkeypatch.setattr(PosixDisk, "_give_reserve", lambda _: False)
        log.append([batch_after(log, b"b")])
        for _ in range(2):
            space.documents_left = 0
            with pytest.raises(StorageFull):
                await flushed(log)
        assert await bodies_until(log, 1) == [b"a"]
        space.full = False
        await flushed(log)
        log.append([batch_after(log, b"c")])
        await flushed(log)
        home.abandon(node)
        node = await home.open()
        log = await node.open_log(PARTITION)
        assert await bodies(log) == [b"a", b"b", b"c"]

    async def bodies_until(log, last):
        entries = await log.entries(Index(1), Index(last), 1 << 40)
        return [bytes(entry.payload[8:9]) for entry in entries]

    trio.run(main)


def test_files_can_be_removed_on_a_full_disk_from_the_space_that_was_kept(home, space, monkeypatch):
    async def main():
        node, log = await begun(home)
        monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 1)
        for body in (b"b", b"c"):
            log.append([batch_after(log, body)])
            await flushed(log)
        space.full, space.documents_left = True, 0
        await log.raise_start(Offset(2))
        assert log.first_index == 3
        space.documents_left = 0
        with pytest.raises(StorageFull):
            await log.raise_start(Offset(3))
        assert log.start_offset == 2
        space.full = False
        await log.raise_start(Offset(3))
        home.abandon(node)
        node = await home.open()
        log = await node.open_log(PARTITION)
        assert (log.start_offset, log.end_offset) == (3, 3)

    trio.run(main)


def test_votes_are_refused_without_space_and_taken_with_it(home, space):
    async def main():
        node = await home.create()
        space.full = True
        node._journal._journal._file._reserved = node._journal._journal.end
        async with trio.open_nursery() as nursery:
            for term in range(1, 5):
                nursery.start_soon(refused, node, term)
        space.full = False
        sequence = node._journal.sequence
        await node.save_hard_state(PARTITION, HardState(Term(9), NodeId(1)))
        assert node._journal.sequence == sequence + 1
        home.abandon(node)
        node = await home.open()
        assert node.hard_state(PARTITION) == HardState(Term(9), NodeId(1))
        await node.close()

    async def refused(node, term):
        with pytest.raises(StorageFull):
            await node.save_hard_state(PARTITION, HardState(Term(term), NodeId(1)))

    trio.run(main)


def test_a_write_that_finds_no_space_after_all_closes_its_file(tmp_path, monkeypatch):
    file = PosixDisk(tmp_path).create("file")

    def pwritev(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(blockfile_module.os, "pwritev", pwritev)
    with pytest.raises(StorageError) as failure:
        file.write(0, [b"data"])
    assert not isinstance(failure.value, StorageFull)
    with pytest.raises(StorageError, match="closed"):
        file.sync()


def test_a_roll_whose_manifest_may_be_there_takes_no_file_back(home, monkeypatch):
    """The rename is done and its directory cannot be synced: neither manifest is certain."""

    async def main():
        node, log = await begun(home)
        monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 1)
        log.append([batch_after(log, b"b")])
        with monkeypatch.context() as full:
            full.setattr(Path, "replace", replaced_for_the_last_time(full))
            with pytest.raises(StorageError) as failure:
                await flushed(log)
        assert not isinstance(failure.value, StorageFull)
        home.abandon(node)
        node = await home.open()
        log = await node.open_log(PARTITION)
        assert await bodies(log) == [b"a"]

    def replaced_for_the_last_time(full):
        replace = Path.replace

        def no_space(_directory):
            raise OSError(errno.ENOSPC, "no space")

        def replaced(path, target):
            replace(path, target)
            full.setattr(blockfile_module, "_sync_directory", no_space)

        return replaced

    trio.run(main)
