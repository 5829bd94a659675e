"""A sealed journal keeps what it acknowledged, names damage and cuts only torn tails."""

import os
from uuid import UUID

import msgspec
import pytest
import trio
import trio.testing

from appliance.crypto.sealed import Place, Purpose
from appliance.errors import DamageDetected, StorageError, StorageFull
from appliance.ports import SecretKey
from appliance.storage.blockfile import PosixDisk
from appliance.storage.journal import open_journal

from .conftest import PARTITION

PLACE = Place(Purpose.JOURNAL, UUID(int=1), UUID(int=2), UUID(int=3))
KEY = SecretKey(bytes(range(32)))


class SystemEntropy:
    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


def opened(root, place=PLACE, key=KEY):
    return open_journal(PosixDisk(root), "journal", place=place, key=key, entropy=SystemEntropy())


async def written(root, *records, close=True):
    journal = opened(root)
    for record in records:
        await journal.append([record])
    if close:
        await journal.close()
    return journal


async def read(root):
    journal = opened(root)
    try:
        return await journal.read_all()
    finally:
        journal._file.close()


def test_records_come_back_in_order_after_clean_stops_and_after_none(tmp_path):
    async def main():
        await written(tmp_path, b"one", b"two")
        await written(tmp_path, b"three", close=False)
        await written(tmp_path, b"", b"four" * 1000)
        assert await read(tmp_path) == [b"one", b"two", b"three", b"", b"four" * 1000]

    trio.run(main)


def test_appends_that_arrive_during_a_sync_share_the_next(tmp_path):
    class Counted:
        def __init__(self, file):
            self.file, self.syncs = file, 0

        def __getattr__(self, name):
            return getattr(self.file, name)

        def sync(self):
            self.syncs += 1
            self.file.sync()

    async def main():
        journal = opened(tmp_path)
        journal._file = counted = Counted(journal._file)
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(journal.append, [b"record %d" % number])
        assert counted.syncs <= 2
        assert len(await journal.read_all()) == 50
        await journal.close()

    trio.run(main)


def test_every_flipped_byte_below_a_later_flush_is_damage(tmp_path):
    async def main():
        await written(tmp_path, b"one", b"two", b"three")

    trio.run(main)
    path = tmp_path / "journal"
    whole = path.read_bytes()
    length = len(whole.rstrip(b"\x00"))
    stop_bytes = 4 + 12 + 16 + 16
    for at in range(length - stop_bytes):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DamageDetected):
            opened(tmp_path)


def test_a_torn_last_flush_is_cut_and_kept_aside_and_nothing_else_is_lost(tmp_path):
    async def main():
        await written(tmp_path, b"one", b"two", close=False)
        path = tmp_path / "journal"
        whole = path.read_bytes().rstrip(b"\x00")
        for cut in range(1, 30):
            path.write_bytes(whole[:-cut])
            assert await read(tmp_path) == [b"one"]
        assert (tmp_path / "journal.torn").exists()

    trio.run(main)


@pytest.mark.parametrize("field", ["cluster", "partition", "file"])
def test_a_journal_of_another_place_is_not_read(tmp_path, field):
    async def main():
        await written(tmp_path, b"one", b"two")

    trio.run(main)
    elsewhere = msgspec.structs.replace(PLACE, **{field: UUID(int=9)})
    before = (tmp_path / "journal").read_bytes()
    with pytest.raises(DamageDetected):
        opened(tmp_path, place=elsewhere)
    assert (tmp_path / "journal").read_bytes() == before


def test_a_journal_whose_sync_failed_takes_nothing_more(tmp_path):
    class Failing:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def sync(self):
            raise StorageError("cannot sync: Input/output error")

    async def main():
        journal = opened(tmp_path)
        await journal.append([b"kept"])
        journal._file = Failing(journal._file)
        for _ in range(2):
            with pytest.raises(StorageError):
                await journal.append([b"not acknowledged"])

    trio.run(main)


def test_no_record_is_readable_on_disk(tmp_path):
    async def main():
        await written(tmp_path, b"a record in the clear")

    trio.run(main)
    assert all(b"in the clear" not in path.read_bytes() for path in tmp_path.iterdir())


@pytest.mark.parametrize("kind", [StorageError, StorageFull])
def test_a_node_ends_when_a_journal_breaks_and_not_for_want_of_space(home, kind):
    class Failing:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def reserve(self, _end):
            raise kind("no")

    async def main():
        node = await home.create()
        journal = await node.open_journal(PARTITION)
        journal._file = Failing(journal._file)
        with trio.move_on_after(1) as patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.run)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(kind):
                    await journal.append([b"a login"])
                await trio.sleep_forever()
        assert patience.cancelled_caught
        home.abandon(node)

    if kind is StorageFull:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    else:
        with pytest.RaisesGroup(StorageError, flatten_subgroups=True):
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
