"""Closed files are found by a sealed index, which is believed only if it fits, and cost little."""

import gc
import tracemalloc

import pytest
import trio

from appliance.errors import DamageDetected
from appliance.storage import contents as contents_module
from appliance.storage import index as index_module
from appliance.storage import log as log_module
from appliance.storage.blockfile import PosixDisk
from appliance.types import Index, Offset

from .conftest import DOMAIN, PARTITION, batch_after

BODY = 30_000


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 200_000)
    monkeypatch.setattr(index_module, "INDEX_STRIDE_BYTES", 40_000)


def timed(log, time_ms):
    """A batch whose largest time, at byte 35, is this."""
    body = bytes(27) + time_ms.to_bytes(8, "big") + bytes(BODY)
    return batch_after(log, body)


async def filled(home, count=30):
    node = await home.create()
    log = await node.create_log(PARTITION, DOMAIN)
    for number in range(count):
        log.append([timed(log, 1000 * number)])
        await log.flush(lambda _: None)
    await log.close()
    await node.close()


async def opened(home):
    node = await home.open()
    return node, await node.open_log(PARTITION)


async def first_times(log):
    """What a search by time finds, for times between, at and beyond those there are."""
    found = []
    for time_ms in range(500, 31_000, 1000):
        batch = await log.first_batch_at_time(time_ms, log.end_offset)
        found.append(None if batch is None else int.from_bytes(batch[35:43], "big"))
    return found


async def all_read(log):
    for offset in range(log.end_offset):
        part = await log.read(Offset(offset), log.end_offset, 1)
        assert part.base_offset == offset
        (entry,) = await log.entries(Index(offset + 1), Index(offset + 1), 1)
        assert entry.header.index == offset + 1


def indexes(home):
    return sorted((home.path / str(PARTITION)).glob("*.index"))


def test_every_offset_index_and_time_is_found_from_the_middle_of_closed_files(home):
    async def main():
        await filled(home)
        node, log = await opened(home)
        assert len(list(log._files)) > 4
        await all_read(log)
        expected = [1000 * n for n in range(1, 30)] + [None, None]
        assert await first_times(log) == expected
        await log.close()
        await node.close()

    trio.run(main)


def test_a_read_in_a_closed_file_opens_few_of_its_frames(home):
    async def main():
        await filled(home)
        node, log = await opened(home)
        first = log._files.first
        last = Offset(first.entry.first_offset + 5)
        frames = list(first.frames_before_offset(last))
        assert 1 <= len(frames) <= 3
        await log.close()
        await node.close()

    trio.run(main)


@pytest.mark.parametrize("harm", ["gone", "flipped", "empty", "of another file", "not sealed"])
def test_an_index_that_cannot_be_believed_is_made_anew(home, harm):
    trio.run(filled, home)
    first, second = indexes(home)[:2]
    whole = first.read_bytes()
    if harm == "gone":
        first.unlink()
    else:
        flipped = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
        first.write_bytes({"flipped": flipped, "empty": b"", "of another file":
                           second.read_bytes(), "not sealed": bytes(5000)}[harm])  # fmt: skip

    async def main():
        node, log = await opened(home)
        await all_read(log)
        await log.close()
        await node.close()

    trio.run(main)
    assert len(first.read_bytes()) == len(whole)


def test_making_an_index_anew_finds_damage_in_its_file(home):
    trio.run(filled, home)
    for path in indexes(home):
        path.unlink()
        data = path.with_suffix("")
        whole = data.read_bytes()
        data.write_bytes(whole[:50_000] + bytes([whole[50_000] ^ 1]) + whole[50_001:])

    async def main():
        node, log = await opened(home)
        with pytest.raises(DamageDetected, match="extent 0, frame 1 cannot be read"):
            await log.read(Offset(4), Offset(5), 1)
        await log.close()
        await node.close()

    trio.run(main)


def test_opening_a_log_reads_no_closed_file_but_its_end(home, monkeypatch):
    trio.run(filled, home)

    def refuse(*_):
        raise AssertionError("an index is read when it is needed, and not before")

    monkeypatch.setattr(contents_module.FileHome, "_load", refuse)

    async def main():
        node, log = await opened(home)
        assert log.end_offset == 30
        home.abandon(node)

    trio.run(main)


def test_what_a_crash_left_unnamed_is_removed(home):
    trio.run(filled, home)
    directory = home.path / str(PARTITION)
    left = directory / "00000000-0000-4000-8000-000000000000"
    left.write_bytes(b"garbage")
    left.with_suffix(".index").write_bytes(b"garbage")

    async def main():
        node, log = await opened(home)
        await all_read(log)
        home.abandon(node)

    trio.run(main)
    assert not left.exists()
    assert not left.with_suffix(".index").exists()


def test_a_closed_file_takes_less_than_two_kibibytes_of_memory(home, monkeypatch):
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 1)

    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        for _ in range(200):
            log.append([batch_after(log, b"x")])
            await log.flush(lambda _: None)
        await log.close()
        await node.close()
        gc.collect()
        tracemalloc.start()
        node, log = await opened(home)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(list(log._files)) == 200
        assert held / 200 < 2048
        home.abandon(node)

    trio.run(main)


def test_descriptors_are_few_and_files_open_again_when_they_are_used(tmp_path):
    disk = PosixDisk(tmp_path, max_open=3)
    files = [disk.create(f"{number}") for number in range(10)]
    for _ in range(2):
        for number, file in enumerate(files):
            file.write(0, [b"%d" % number])
            file.sync()
            assert len(disk._descriptors) <= 3
    for number, file in enumerate(files):
        into = bytearray(1)
        assert file.read_into(0, memoryview(into)) == 1
        assert into == b"%d" % number


def test_what_was_not_synced_keeps_its_descriptor(tmp_path):
    disk = PosixDisk(tmp_path, max_open=2)
    files = [disk.create(f"{number}") for number in range(5)]
    for file in files:
        file.write(0, [b"not synced"])
    assert len(disk._descriptors) == 5
    for file in files:
        file.sync()
    disk.create("another")
    assert len(disk._descriptors) <= 2
