"""Key epochs of a log: a newer key begins at a roll, and every older one still opens its files."""

import trio

from appliance.storage import log as log_module

from .conftest import DOMAIN, PARTITION
from .test_storage_log import appended, payloads


def files_of(node):
    return node._open[PARTITION][1]


def test_a_newer_epoch_begins_with_the_next_file_and_no_earlier(home, monkeypatch):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"one")
        await node.advance_key(PARTITION, 5)
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
        await node.advance_key(PARTITION, 2)
        calls = home.keys.calls
        await node.advance_key(PARTITION, 2)
        await node.advance_key(PARTITION, 1)
        assert home.keys.calls == calls

    trio.run(main)


def test_a_wrap_is_replaced_on_disk_and_data_is_not_touched(home):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        await appended(log, b"one")
        files = files_of(node)
        key = files.manifest.newest
        place = node._place_of(PARTITION, DOMAIN, key.epoch)
        secret = await home.keys.unwrap(place, key.wrapped)
        new = home.keys.wrap(place, bytes(secret.reveal()))
        data = (home.path / str(PARTITION) / str(files.active.entry.file)).read_bytes()
        files.replace_wrap(key.epoch, new, new)
        assert files.manifest.newest.wrapped == key.wrapped
        files.replace_wrap(key.epoch, key.wrapped, new)
        home.abandon(node)
        after = (home.path / str(PARTITION) / str(files.active.entry.file)).read_bytes()
        assert after == data
        node = await home.open()
        log = await node.open_log(PARTITION)
        assert files_of(node).manifest.newest.wrapped == new
        assert await payloads(log) == [b"one"]

    trio.run(main)
