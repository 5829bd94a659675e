"""Many files are synced together, few by themselves, and a failure is told to its own."""

import pytest
import trio
import trio.testing

from appliance.crypto.sealed import NO_FRAME
from appliance.errors import FileSystemFailed, StorageError
from appliance.limits import SYNC_ALL_FROM, SYNC_ALL_PAUSE_S
from appliance.storage.blockfile import PosixDisk
from appliance.storage.rounds import WriteRounds
from appliance.storage.segment import Flush

from .conftest import DOMAIN, PARTITION, batch_after


class Watched:
    """A real file that notes what is done to it, and can break."""

    def __init__(self, disk, name, journal):
        self.file = disk.create(name)
        self.name = name
        self.journal = journal
        self.broken = None

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, position, data):
        if self.broken == "write":
            raise StorageError("cannot write")
        self.file.write(position, data)

    def sync(self):
        self.journal.append(self.name)
        if self.broken == "sync":
            raise StorageError("cannot sync")
        self.file.sync()


class SyncedTogether:
    """A real disk whose one call for all files is noted, takes as long as told, and can break."""

    def __init__(self, disk, journal):
        self.disk = disk
        self.journal = journal
        self.takes_s = 0.001
        self.broken = False

    def sync_all(self, files):
        self.journal.append(len(files))
        if self.broken:
            raise FileSystemFailed("cannot sync the file system")
        if self.takes_s is not None:
            assert self.disk.sync_all([each.file for each in files]) is not None
        return self.takes_s


class Bed:
    def __init__(self, path):
        real = PosixDisk(path)
        self.journal = []
        self.disk = SyncedTogether(real, self.journal)
        self.files = [Watched(real, f"{n}", self.journal) for n in range(20)]
        self.rounds = WriteRounds(self.disk)
        self.failed = {}

    async def put(self, count):
        """One flush to each of the first files, all at one wake-up."""
        self.journal.clear()
        self.failed.clear()

        async def one(file):
            try:
                await self.rounds.put(file, Flush(0, (memoryview(b"sealed"),), (), NO_FRAME, 6))
            except (StorageError, FileSystemFailed) as error:
                self.failed[file.name] = error

        async with trio.open_nursery() as nursery:
            for file in self.files[:count]:
                nursery.start_soon(one, file)
        return list(self.journal)


@pytest.fixture
def bed(tmp_path):
    return Bed(tmp_path)


def test_from_a_number_of_files_on_one_call_syncs_them_all(bed):
    async def main():
        assert await bed.put(1) == ["0"]
        few = await bed.put(SYNC_ALL_FROM - 1)
        assert sorted(few) == [f"{n}" for n in range(SYNC_ALL_FROM - 1)]
        assert await bed.put(SYNC_ALL_FROM) == [SYNC_ALL_FROM]
        assert await bed.put(20) == [20]
        assert not bed.failed

    trio.run(main)


def test_after_a_slow_call_files_are_synced_by_themselves_for_a_while(bed):
    async def main():
        bed.disk.takes_s = 0.5
        assert await bed.put(20) == [20]
        assert len(await bed.put(20)) == 20
        clock.jump(SYNC_ALL_PAUSE_S + 1)
        assert await bed.put(20) == [20]

    clock = trio.testing.MockClock(rate=1)
    trio.run(main, clock=clock)


def test_a_disk_without_such_a_call_syncs_each_file(bed):
    async def main():
        bed.disk.takes_s = None
        assert (await bed.put(20))[0] == 20
        assert len(bed.journal) == 21

    trio.run(main)


@pytest.mark.parametrize("count", [5, 20])
def test_a_write_that_fails_concerns_its_own_file(bed, count):
    async def main():
        bed.files[3].broken = "write"
        await bed.put(count)
        assert list(bed.failed) == ["3"]

    trio.run(main)


def test_a_sync_that_fails_concerns_its_own_file(bed):
    async def main():
        bed.files[3].broken = "sync"
        await bed.put(5)
        assert list(bed.failed) == ["3"]

    trio.run(main)


def test_a_file_system_that_cannot_be_synced_is_nobodys_own_failure(bed):
    async def main():
        bed.disk.broken = True
        await bed.put(20)
        assert len(bed.failed) == 20
        assert all(type(error) is FileSystemFailed for error in bed.failed.values())
        assert not issubclass(FileSystemFailed, StorageError)

    trio.run(main)


def test_a_log_lets_the_failure_of_a_file_system_through(home):
    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)

        async def put(*_):
            raise FileSystemFailed("cannot sync the file system")

        node._rounds.put = put
        log.append([batch_after(log, b"not acknowledged")])
        with pytest.raises(FileSystemFailed):
            await log.flush(lambda _: None)
        assert log.durable == 0
        home.abandon(node)

    trio.run(main)
