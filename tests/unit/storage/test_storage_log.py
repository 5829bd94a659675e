"""A sealed log acknowledges what is durable, gives back what it acknowledged, and names damage."""

from uuid import UUID

import pytest
import trio

from appliance.errors import (
    ConfigurationError,
    DamageDetected,
    DirectoryInUse,
    KeysRefused,
    RequestError,
    StorageError,
)
from appliance.ports import HardState
from appliance.storage import log as log_module
from appliance.storage.blockfile import PosixFile
from appliance.types import Index, NodeId, Offset, PartitionId, Term

from .conftest import DOMAIN, PARTITION, batch_after

BLOCK = 4096
"""Of the file system: what is written is known in units of it."""


async def appended(log, *payloads):
    """Appends one batch each, all in one flush."""
    for payload in payloads:
        log.append([batch_after(log, payload)])
    seen = []
    await log.flush(seen.append)
    assert seen[-1] == log.last.index == log.durable


async def payloads(log, start=0, max_bytes=1 << 30):
    """What a scan of the whole log gives, batch by batch, with the offsets stamped into it."""
    found = []
    entries = await log.entries(Index(start + 1), log.last.index, 1 << 40)
    for entry in entries:
        assert int.from_bytes(entry.payload[:8], "big") == entry.header.base_offset
        found.append(bytes(entry.payload[8:]))
    return found


async def fetched(log, start, max_bytes=1 << 30):
    part = await log.read(Offset(start), log.end_offset, max_bytes)
    return part, b"".join(bytes(batch) for batch in part.batches)


def test_what_was_acknowledged_is_there_after_a_kill_and_after_a_clean_stop(home):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"one", b"two")
        await appended(log, b"three" * 40_000)
        home.abandon(node)
        node = await home.open()
        log = await node.open_log(PARTITION)
        assert await payloads(log) == [b"one", b"two", b"three" * 40_000]
        await appended(log, b"four")
        await log.close()
        await node.close()
        node = await home.open()
        log = await node.open_log(PARTITION)
        assert (await payloads(log))[-1] == b"four"
        assert (log.end_offset, log.last.index) == (4, 4)
        await log.close()
        await node.close()

    trio.run(main)


def test_reads_are_the_same_from_the_cache_and_from_the_files(home):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        for size in (1, 70_000, 500, 1_500_000, 3):
            await appended(log, b"x" * size, b"y" * size)
        asked = [(start, limit) for start in range(10) for limit in (1, 200_000)]
        from_cache = [await fetched(log, *question) for question in asked]
        log._cache.forget(log._tail)
        from_files = [await fetched(log, *question) for question in asked]
        for (one, one_bytes), (other, other_bytes) in zip(from_cache, from_files, strict=True):
            assert one_bytes == other_bytes
            assert (one.base_offset, one.next_offset) == (other.base_offset, other.next_offset)
            assert one.next_offset > one.base_offset
        await log.close()
        await node.close()

    trio.run(main)


def test_a_read_outside_the_log_is_refused_and_one_at_its_end_is_empty(home):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"one")
        assert (await log.read(Offset(1), Offset(1), 10)).batches == ()
        with pytest.raises(RequestError):
            await log.read(Offset(2), Offset(1), 10)
        await log.close()
        await node.close()

    trio.run(main)


def test_appends_during_a_sync_share_the_next_flush(home):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        durable = []
        log.append([batch_after(log, b"first")])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.flush, durable.append)
            await trio.lowlevel.checkpoint()
            for number in range(100):
                log.append([batch_after(log, b"%d" % number)])
        assert durable in ([1, 101], [101])
        await log.close()
        await node.close()

    trio.run(main)


def test_a_roll_asks_no_key_provider_and_reads_go_across_it(home, monkeypatch):
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 100_000)

    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        calls = home.keys.calls
        for number in range(8):
            await appended(log, b"%d" % number * 40_000)
        assert home.keys.calls == calls
        assert len(list(log._files)) > 2
        home.abandon(node)
        node = await home.open()
        log = await node.open_log(PARTITION)
        assert [body[:1] for body in await payloads(log)] == [b"%d" % n for n in range(8)]
        part, _ = await fetched(log, 0)
        assert part.next_offset == 8
        await log.close()
        await node.close()

    trio.run(main)


def _data_file(home):
    [path] = [p for p in (home.path / str(PARTITION)).iterdir() if p.name != "manifest"]
    return path


async def _three_flushes(home, *, clean):
    node = await home.create()
    log = await node.create_log(PARTITION, DOMAIN)
    for payload in (b"one", b"two", b"three"):
        await appended(log, payload)
    if clean:
        await log.close()
        await node.close()
    else:
        home.abandon(node)


async def _try_open(home):
    node = await home.open()
    try:
        log = await node.open_log(PARTITION)
        found = await payloads(log)
        log._files.close()
        return found
    finally:
        home.abandon(node)


def test_every_flipped_byte_below_the_mark_is_named_as_damage(home):
    trio.run(lambda: _three_flushes(home, clean=True))
    path = _data_file(home)
    whole = path.read_bytes()
    for at in range(0, len(whole.rstrip(b"\x00")), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(DamageDetected):
            trio.run(_try_open, home)


def test_a_torn_last_flush_is_cut_and_the_flushes_before_it_stay(home):
    trio.run(lambda: _three_flushes(home, clean=False))
    path = _data_file(home)
    whole = path.read_bytes().rstrip(b"\x00")
    for cut in (1, 5, 17, 40, 60):
        path.write_bytes(whole[:-cut])
        assert trio.run(_try_open, home) == [b"one", b"two"]
        path.with_name(path.name + ".torn").unlink(missing_ok=True)


def test_a_start_reads_what_was_written_and_nothing_that_is_only_reserved(home, monkeypatch):
    async def written():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, bytes(300_000))
        await appended(log, bytes(900_000))
        home.abandon(node)

    trio.run(written)
    end = 1_201_000
    assert _data_file(home).stat().st_size > 1.5 * end
    asked = []
    read_into = PosixFile.read_into

    def noted(file, position, into):
        asked.append(position + len(into))
        return read_into(file, position, into)

    monkeypatch.setattr(PosixFile, "read_into", noted)
    trio.run(_try_open, home)
    assert max(asked) <= end + BLOCK


def test_a_hole_in_a_flush_is_damage_if_a_later_one_lies_behind_it(home):
    async def written():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        for _ in range(3):
            await appended(log, bytes(100_000))
        home.abandon(node)

    trio.run(written)
    path = _data_file(home)
    whole = path.read_bytes()
    with path.open("wb") as file:
        file.write(whole[: 30 * BLOCK])
        file.seek(40 * BLOCK)
        file.write(whole[40 * BLOCK :])
    with pytest.raises(DamageDetected, match="later frame proves"):
        trio.run(_try_open, home)


def test_a_file_shorter_than_its_mark_is_damage(home):
    trio.run(lambda: _three_flushes(home, clean=True))
    path = _data_file(home)
    whole = path.read_bytes().rstrip(b"\x00")
    path.write_bytes(whole[:-1])
    with pytest.raises(DamageDetected):
        trio.run(_try_open, home)


def test_files_of_another_partition_are_not_taken(home):
    async def main():
        node = await home.create()
        other = PartitionId(UUID(int=99))
        for partition in (PARTITION, other):
            log = await node.create_log(partition, DOMAIN)
            await appended(log, b"mine", b"more")
            await log.close()
        await node.close()

    trio.run(main)
    path = _data_file(home)
    [alien] = [p for p in (home.path / str(UUID(int=99))).iterdir() if p.name != "manifest"]
    path.write_bytes(alien.read_bytes())
    with pytest.raises(DamageDetected):
        trio.run(_try_open, home)


def test_a_missing_file_and_a_missing_manifest_are_damage(home):
    trio.run(lambda: _three_flushes(home, clean=True))
    path = _data_file(home)
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(DamageDetected):
        trio.run(_try_open, home)
    path.write_bytes(whole)
    manifest = path.with_name("manifest")
    sealed = manifest.read_bytes()
    manifest.write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(DamageDetected):
        trio.run(_try_open, home)


def test_a_failed_sync_ends_the_log_and_nothing_after_it_is_acknowledged(home):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"kept")
        log._files.active.file._fail()
        log.append([batch_after(log, b"lost")])
        seen = []
        with pytest.raises(StorageError):
            await log.flush(seen.append)
        assert seen == []
        assert log.durable == 1
        with pytest.raises(StorageError):
            log.append([batch_after(log, b"refused")])
        await log.close()
        await node.close()

    trio.run(main)


def test_votes_are_remembered(home):
    async def main():
        node = await home.create()
        state = HardState(Term(7), NodeId(1))
        await node.save_hard_state(PARTITION, state)
        home.abandon(node)
        node = await home.open()
        assert node.hard_state(PARTITION) == state
        await node.close()

    trio.run(main)


def test_a_directory_has_one_owner_and_an_empty_one_is_no_node(home, tmp_path):
    async def main():
        node = await home.create()
        with pytest.raises(DirectoryInUse):
            await home.open()
        await node.close()
        (tmp_path / "empty").mkdir()
        home.path = tmp_path / "empty"
        with pytest.raises(ConfigurationError):
            await home.open()

    trio.run(main)


def test_another_key_provider_cannot_open_what_this_one_sealed(home):
    async def main():
        node = await home.create()
        await node.close()
        home.keys = type(home.keys)()
        with pytest.raises(KeysRefused):
            await home.open()

    trio.run(main)


def test_nothing_that_was_stored_is_readable_on_disk(home):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"a secret that nobody may read" * 10)
        await log.close()
        await node.close()

    trio.run(main)
    for path in home.path.rglob("*"):
        assert path.is_dir() or b"nobody may read" not in path.read_bytes()
