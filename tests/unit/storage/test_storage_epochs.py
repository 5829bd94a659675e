"""Keys of a directory: newer ones begin at a roll, older ones open their files, wraps are replaced.

Data is never touched by re-wrapping, and a crash at any step leaves a wrap that opens.
"""

from uuid import UUID

import msgspec
import pytest
import trio

from appliance.errors import KeyWiped, StorageError, WrongKey
from appliance.storage import log as log_module
from appliance.types import Index, Offset, PartitionId, Position, Term

from .conftest import DOMAIN, PARTITION, batch_after
from .test_storage_log import appended, payloads


def files_of(node):
    return node._open[PARTITION][1]


def contents(home):
    """Every file but manifests, identity and the node's journal."""
    folder = home.path / str(PARTITION)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest"}


def test_a_newer_epoch_begins_with_the_next_file_and_no_earlier(home, monkeypatch):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"one")
        home.keys.version = 5
        await node.keys.advance_all([PARTITION])
        await appended(log, b"two")
        assert [entry.key_epoch for entry in files_of(node).manifest.files] == [1]
        monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 1)
        calls = home.keys.calls
        await appended(log, b"three")
        assert home.keys.calls == calls
        assert [entry.key_epoch for entry in files_of(node).manifest.files] == [1, 5]
        assert [key.epoch for key in files_of(node).manifest.keys] == [1, 5]
        home.abandon(node)
        node = await home.open()
        log = await node.open_log(PARTITION)
        assert await payloads(log) == [b"one", b"two", b"three"]
        await appended(log, b"four")
        assert [entry.key_epoch for entry in files_of(node).manifest.files] == [1, 5, 5]
        assert len(files_of(node).manifest.keys) == 2

    trio.run(main)


def test_an_epoch_that_is_not_newer_asks_for_no_key(home):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"one")
        home.keys.version = 2
        await node.keys.advance_all([PARTITION])
        calls = home.keys.calls
        await node.keys.advance_all([PARTITION])
        home.keys.version = 1
        await node.keys.advance_all([PARTITION])
        assert home.keys.calls == calls

    trio.run(main)


def test_a_newer_epoch_is_known_while_the_manifest_that_names_it_is_written(home, monkeypatch):
    """Or a file under an older key would pass for one under the newest, and a second key be had."""

    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"one")
        home.keys.version = 2
        await node.keys.advance_all([PARTITION])
        monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 1)
        files, seen, token = files_of(node), [], trio.lowlevel.current_trio_token()
        replace = files._store.replace

        def replaced(partition, manifest):
            seen.append((files.newest_epoch, log.outdated_bytes > 0))
            trio.from_thread.run(node.keys.advance_all, [PARTITION], trio_token=token)
            replace(partition, manifest)

        monkeypatch.setattr(files._store, "replace", replaced)
        calls = home.keys.calls
        await appended(log, b"two")
        assert seen
        assert set(seen) == {(2, True)}
        assert home.keys.calls == calls
        assert [key.epoch for key in files.manifest.keys] == [1, 2]

    trio.run(main)


@pytest.mark.parametrize("is_open", [True, False])
def test_every_wrap_is_replaced_and_data_is_not_touched(home, is_open):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"one")
        if not is_open:
            await log.close()
            await node.close()
            node = await home.open()
        home.keys.version = 2
        counts = {(each.version, each.count) for each in await node.keys.count_wraps()}
        assert counts == {(1, 2)}
        data = contents(home)
        done = await node.keys.rewrap(None, 200)
        assert (done.examined, done.rewrapped, done.failed, done.after) == (2, 2, (), None)
        assert contents(home) == data
        again = await node.keys.rewrap(None, 200)
        assert again.rewrapped == 0
        home.abandon(node)
        node = await home.open()
        assert {each.version for each in await node.keys.count_wraps()} == {2}
        log = await node.open_log(PARTITION)
        assert await payloads(log) == [b"one"]

    trio.run(main)


def test_a_key_that_waits_for_its_file_is_wrapped_anew_with_the_others(home, monkeypatch):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"one")
        home.keys.version = 2
        await node.keys.advance_all([PARTITION])
        home.keys.version = 3
        done = await node.keys.rewrap(None, 200)
        assert (done.rewrapped, done.failed) == (3, ())
        monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 1)
        await appended(log, b"two")
        assert [key.epoch for key in files_of(node).manifest.keys] == [1, 2]
        assert {each.version for each in await node.keys.count_wraps()} == {3}
        home.abandon(node)
        log = await (await home.open()).open_log(PARTITION)
        assert await payloads(log) == [b"one", b"two"]

    trio.run(main)


def test_slices_end_where_the_next_begins(home):
    partitions = [PartitionId(UUID(int=100 + number)) for number in range(5)]

    async def main():
        node = await home.create()
        for partition in partitions:
            await node.create_log(partition, DOMAIN)
        home.keys.version = 2
        after, rewrapped, slices = None, 0, 0
        while slices == 0 or after is not None:
            done = await node.keys.rewrap(after, 2)
            after, rewrapped, slices = done.after, rewrapped + done.rewrapped, slices + 1
        assert (rewrapped, slices) == (6, 3)

    trio.run(main)


def test_a_new_wrap_that_opens_to_another_key_replaces_nothing(home, monkeypatch):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"one")
        before = files_of(node).manifest.keys
        home.keys.version = 2

        async def swapped(wraps):
            return [home.keys.wrap(wrap.place, bytes(32)) for wrap in wraps]

        monkeypatch.setattr(home.keys, "rewrap_all", swapped)
        done = await node.keys.rewrap(None, 200)
        assert done.rewrapped == 0
        assert len(done.failed) == 2
        assert "another key" in done.failed[0]
        assert files_of(node).manifest.keys == before
        home.abandon(node)
        log = await (await home.open()).open_log(PARTITION)
        assert await payloads(log) == [b"one"]

    trio.run(main)


def test_a_wrap_that_does_not_open_is_named_and_the_others_are_replaced(home, monkeypatch):
    other = PartitionId(UUID(int=99))

    async def main():
        node = await home.create()
        await node.create_log(PARTITION, DOMAIN)
        await node.create_log(other, DOMAIN)
        home.keys.version = 2
        rewrap_all = home.keys.rewrap_all

        async def half(wraps):
            outcomes = await rewrap_all(wraps)
            return [WrongKey("not this one"), *outcomes[1:]]

        monkeypatch.setattr(home.keys, "rewrap_all", half)
        done = await node.keys.rewrap(None, 200)
        assert (done.rewrapped, done.failed) == (2, ("not this one",))

    trio.run(main)


def test_a_log_that_takes_anothers_place_begins_where_that_ended(home):
    async def main():
        node = await home.create()
        ended = Position(Term(4), Index(17))
        log = await node.create_log(PARTITION, DOMAIN, ended, Offset(30))
        assert (log.last, log.first_index) == (ended, Index(18))
        assert (log.start_offset, log.end_offset) == (30, 30)
        assert log.term_at(ended.index) == ended.term
        log.append([batch_after(log, b"next", term=5)])
        await log.flush(lambda _: None)
        home.abandon(node)
        log = await (await home.open()).open_log(PARTITION)
        assert await payloads(log, start=17) == [b"next"]
        assert log.last == Position(Term(5), Index(18))
        assert log.term_at(ended.index) == ended.term
        assert log.start_offset == Offset(30)

    trio.run(main)


def test_closing_a_log_wipes_every_key_that_it_held(home, monkeypatch):
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 1)

    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        for body in (b"one", b"two", b"three"):
            await appended(log, body)
        await log.entries(log.first_index, log.last.index, 1 << 20)
        home.keys.version = 2
        await node.keys.advance_all([PARTITION])
        files = files_of(node)
        derived = [file.contents().key for file in files]
        held = [*files._data_keys.values(), files._next_key[1]]
        assert len(derived) == 3
        await log.close()
        for secret in (*derived, *held):
            assert bytes(secret._material) == bytes(32)
            with pytest.raises(KeyWiped):
                secret.reveal()
        with pytest.raises(StorageError):
            await log.read(Offset(0), Offset(1), 1000)

    trio.run(main)


def test_a_log_whose_key_went_opens_nothing(home):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await log.close()
        node._open.clear()
        assert await node.keys.any_opens([PARTITION], DOMAIN)
        home.keys._cipher = type(home.keys)()._cipher
        assert not await node.keys.any_opens([PARTITION], DOMAIN)
        assert not await node.keys.any_opens([PartitionId(UUID(int=7))], DOMAIN)
        assert msgspec.structs.asdict(node._kept_identity())

    trio.run(main)
