"""The simulated disk answers as the operating system does, so that what is proven on it counts.

The same random calls are made of both: each result is the same, and so is what lies there in the
end. How far space is reserved ahead is each disk's own business, so zeros at the end are left out.
"""

import random

import pytest

from appliance.errors import DirectoryInUse, StorageError
from appliance.storage.blockfile import PosixDisk
from tests.simulation.disk import SimulatedDisk

DIRECTORIES = ("", "one/", "two/")
NAMES = tuple(f"{directory}{name}" for directory in DIRECTORIES for name in "abc")
SPAN = 20_000


class Pair:
    """Both disks, and the files that are open on both."""

    def __init__(self, root, seed):
        self.source = random.Random(seed)
        self.disks = (PosixDisk(root), SimulatedDisk())
        self.open = {}

    def both(self, call, pair):
        """The result that both give, or the refusal that both do."""
        results = []
        for each in pair:
            try:
                results.append((call(each), None))
            except StorageError as refusal:
                results.append((None, type(refusal)))
        assert results[0] == results[1], "the operating system's, and the simulated one"

    def step(self):
        name = self.source.choice(NAMES)
        act = self.source.choice(
            ("create", "open", "make", "replace", "read", "names", "remove", *["file"] * 8)
        )
        if act == "file":
            self.use(self.source.choice([*self.open, None]))
        else:
            getattr(self, f"_{act}")(name)

    # --- the disk ---

    def opened(self, method, name):
        files = []
        refusals = []
        for disk in self.disks:
            try:
                files.append(getattr(disk, method)(name))
            except StorageError as refusal:
                refusals.append(type(refusal))
        assert len(files) in (0, 2), f"{method} {name}: {refusals}"
        if files:
            for file in self.open.pop(name, ()):
                file.close()
            self.open[name] = tuple(files)

    def _create(self, name):
        self.opened("create", name)

    def _open(self, name):
        if name not in self.open:
            self.opened("open", name)

    def _make(self, name):
        directory = name.rpartition("/")[0] or "one"
        self.both(lambda disk: disk.make_directory(directory), self.disks)

    def _replace(self, name):
        content = self.source.randbytes(self.source.choice((0, 1, 700, 5_000)))
        self.forget(name)
        self.both(lambda disk: disk.replace(name, content), self.disks)

    def _read(self, name):
        if name not in self.open:
            self.both(lambda disk: unpadded(disk.read(name, 1 << 30)), self.disks)

    def _names(self, name):
        directory = name.rpartition("/")[0] or "."
        self.both(lambda disk: disk.names(directory), self.disks)

    def _remove(self, name):
        gone = self.source.choice((name, name.rpartition("/")[0] or name))
        self.forget(gone)
        self.both(lambda disk: disk.remove(gone), self.disks)

    def forget(self, gone):
        for name in [name for name in self.open if name == gone or name.startswith(f"{gone}/")]:
            for file in self.open.pop(name):
                file.close()

    # --- a file ---

    def use(self, name):
        if name is None:
            return
        files, source = self.open[name], self.source
        position = source.randrange(SPAN)
        match source.choice(("reserve", "write", "write", "sync", "read", "after", "cut", "close")):
            case "reserve":
                self.both(lambda file: file.reserve(position), files)
            case "write":
                parts = [source.randbytes(source.choice((1, 300, 4_096))) for _ in range(2)]
                self.both(lambda file: file.reserve(position + sum(map(len, parts))), files)
                self.both(lambda file: file.write(position, parts), files)
            case "sync":
                self.both(lambda file: file.sync(), files)
            case "read":
                self.both(lambda file: self.read_at(file, position), files)
            case "after":
                at_most, at_least = (file.written_end(position) for file in files)
                assert at_most >= at_least, "a file system's blocks are coarser"
            case "cut":
                self.both(lambda file: file.cut(position), files)
            case "close":
                for file in self.open.pop(name):
                    file.close()

    @staticmethod
    def read_at(file, position):
        into = bytearray(3_000)
        count = file.read_into(position, memoryview(into))
        return bytes(into[:count]).rstrip(b"\0")


def unpadded(content):
    return content if content is None else content.rstrip(b"\0")


@pytest.mark.parametrize("seed", range(12))
def test_the_same_calls_have_the_same_results(tmp_path, seed):
    pair = Pair(tmp_path / "disk", seed)
    for _ in range(250):
        pair.step()
    for name in list(pair.open):
        pair.forget(name)
    pair.both(lambda disk: disk.settle(), pair.disks)
    for name in NAMES:
        pair.both(lambda disk, name=name: unpadded(disk.read(name, 1 << 30)), pair.disks)
    for directory in (".", "one", "two"):
        pair.both(lambda disk, directory=directory: disk.names(directory), pair.disks)


def test_both_refuse_a_document_that_is_too_large(tmp_path):
    for disk in (PosixDisk(tmp_path), SimulatedDisk()):
        disk.replace("document", b"x" * 100)
        assert disk.read("document", 100) == b"x" * 100
        with pytest.raises(StorageError, match="larger than 99 bytes"):
            disk.read("document", 99)


def test_both_have_one_owner_at_a_time(tmp_path):
    for disk, other in ((PosixDisk(tmp_path), PosixDisk(tmp_path)), (SimulatedDisk(),) * 2):
        disk.lock()
        with pytest.raises(DirectoryInUse):
            other.lock()
        disk.unlock()
        other.lock()
        other.unlock()
