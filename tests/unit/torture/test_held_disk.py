"""A held disk: what a power cut takes is what was not synced, and nothing else."""

import random

import pytest

from appliance.storage.blockfile import PosixDisk
from tests.torture.cluster import held_disk
from tests.torture.cluster.held_disk import FORGET, HeldDisk


@pytest.fixture(name="disk")
def disk_fixture(tmp_path, monkeypatch):
    monkeypatch.setattr(held_disk, "EARLY", 0.0)
    return HeldDisk(tmp_path / "data")


def content(disk, name="file"):
    """As the next process finds it."""
    return PosixDisk(disk._directory).read(name, 1 << 20)


def read(file, position, size):
    into = bytearray(size)
    return bytes(into[: file.read_into(position, memoryview(into))])


def test_what_was_not_synced_is_gone_and_what_was_is_there(disk):
    file = disk.create("file")
    file.write(0, [b"synced"])
    file.sync()
    file.write(6, [b", not synced"])
    assert content(disk) == b"synced"
    assert file.written_end(6) == len("synced, not synced")
    assert file.written_end(18) == 18


def test_what_is_held_is_read_as_if_it_were_written_whoever_opens_the_file(disk):
    file = disk.create("file")
    file.write(0, [b"one ", b"two"])
    file.sync()
    file.write(4, [b"three"])
    file.write(12, [b"!"])
    assert read(disk.open("file"), 0, 64) == b"one three\0\0\0!"
    assert read(file, 4, 5) == b"three"


def test_one_sync_of_everything_is_a_sync_of_each_file(disk):
    for name in ("file", "other"):
        disk.create(name).write(0, [b"content"])
    disk.sync_all([])
    assert content(disk) == content(disk, "other") == b"content"


def test_writes_that_come_early_leave_a_torn_file_that_a_sync_makes_whole(disk, monkeypatch):
    monkeypatch.setattr(held_disk, "EARLY", 1.0)
    monkeypatch.setattr(held_disk, "random", random.Random(1))
    whole = random.Random(2).randbytes(64 * held_disk.SECTOR)
    file = disk.create("file")
    file.write(0, [whole])
    assert content(disk) not in (b"", whole)
    assert read(file, 0, len(whole)) == whole
    file.sync()
    assert content(disk) == whole


def test_a_disk_that_lies_forgets_what_it_was_told_to_sync(disk):
    file = disk.create("file")
    (disk._directory.parent / FORGET).touch()
    file.write(0, [b"acknowledged"])
    file.sync()
    assert read(file, 0, 64) == b"acknowledged"
    assert content(disk) == b""
