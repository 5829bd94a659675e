"""Sealing overlaps the sync of the flush before, and writing never does (DESIGN sections 5, 8)."""

import threading

import pytest
import trio
import trio.testing

from appliance.crypto.aead import OpeningKey
from appliance.errors import StorageError, StorageFull
from appliance.limits import (
    FLUSH_BUFFER_STEP_BYTES,
    INLINE_SEAL_BYTES,
    MAX_FLUSH_BYTES,
    MIB,
    SEAL_AHEAD_BYTES,
)
from appliance.storage.blockfile import PosixFile
from appliance.storage.buffers import FlushBuffers
from appliance.types import Index, Offset
from tests.simulation.recorder import SealRecorder

from .conftest import DOMAIN, PARTITION, batch_after

FRAME = MIB - 200
"""A batch that fills a frame by itself."""


class Gate:
    """Stands before the syncs of every file: notes writes, holds syncs back, and fails them."""

    def __init__(self, monkeypatch):
        self.writes = 0
        self.at_sync = threading.Event()
        self.opened = threading.Event()
        self.opened.set()
        self.failure = None
        self.full = False
        write, sync, reserve = PosixFile.write, PosixFile.sync, PosixFile.reserve

        def watched_write(file, position, data):
            self.writes += 1
            write(file, position, data)

        def watched_sync(file):
            self.at_sync.set()
            assert self.opened.wait(20)
            if self.failure is not None:
                file._fail()
                raise self.failure
            sync(file)

        def watched_reserve(file, end):
            if self.full:
                self.at_sync.set()
                assert self.opened.wait(20)
                raise StorageFull("no space to reserve space")
            reserve(file, end)

        monkeypatch.setattr(PosixFile, "write", watched_write)
        monkeypatch.setattr(PosixFile, "sync", watched_sync)
        monkeypatch.setattr(PosixFile, "reserve", watched_reserve)

    def hold(self):
        self.at_sync.clear()
        self.opened.clear()

    async def held(self):
        """Once a sync waits here."""
        assert await trio.to_thread.run_sync(self.at_sync.wait, 20)


@pytest.fixture
def gate(monkeypatch):
    return Gate(monkeypatch)


def stage(log, *payloads):
    for payload in payloads:
        log.append([batch_after(log, payload)])


async def until(condition):
    """Threads make it true, and tell the loop nothing."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.001)


class Story:
    """A log with a flush of one frame under way, held at its sync, and `count` frames sealed since.

    With `full` the disk has no space for the first of them, and it is held at finding that out.
    """

    def __init__(self, home, gate, recorder):
        self.home, self.gate, self.recorder = home, gate, recorder
        self.durable = []
        self.failure = None

    async def begin(self, nursery, count, *, full):
        self.node = await self.home.create()
        self.log = await self.node.create_log(PARTITION, DOMAIN)
        stage(self.log, b"first")
        await self.log.flush(self.durable.append)
        self.gate.hold()
        self.gate.full = full
        self.writes = self.gate.writes
        stage(self.log, bytes(FRAME))
        nursery.start_soon(self._flush)
        await self.gate.held()
        self.sealed = self.recorder.seals
        stage(self.log, *(bytes([n]) * FRAME for n in range(count)))
        await until(lambda: self.recorder.seals == self.sealed + count)

    async def _flush(self):
        try:
            await self.log.flush(self.durable.append)
        except StorageError as failure:
            self.failure = failure


def told(home, gate, count, body, *, full=False):
    """Runs `body` with the story at its height; no pair of key and nonce may have repeated."""
    recorder = SealRecorder()

    async def main():
        story = Story(home, gate, recorder)
        async with trio.open_nursery() as nursery:
            await story.begin(nursery, count, full=full)
            await body(story)

    with recorder.watching():
        trio.run(main)
    assert recorder.repeated == 0


def test_frames_are_sealed_while_a_sync_runs_and_written_after_it(home, gate):
    async def body(story):
        assert story.gate.writes - story.writes <= 1
        assert story.durable == [1]
        story.gate.opened.set()
        await until(lambda: story.durable[-1] == 5)
        assert story.gate.writes == story.writes + 2, "all that was sealed is one write"
        assert story.durable == [1, 2, 5]
        found = await story.log.entries(Index(1), Index(5), 100 * MIB)
        assert [bytes(entry.payload[8:9]) for entry in found[2:]] == [b"\0", b"\1", b"\2"]
        await story.log.close()
        await story.node.close()

    told(home, gate, 3, body)


def test_what_was_sealed_behind_a_failed_sync_is_never_written(home, gate):
    async def body(story):
        story.gate.failure = StorageError("cannot sync: Input/output error")
        story.gate.opened.set()
        await until(lambda: story.failure is not None)
        assert story.gate.writes <= story.writes + 1
        assert story.durable == [1]
        with pytest.raises(StorageError):
            stage(story.log, b"more")

    told(home, gate, 2, body)


def test_what_was_sealed_behind_a_full_disk_waits_in_order_and_is_sealed_anew(home, gate):
    async def body(story):
        story.gate.opened.set()
        await until(lambda: isinstance(story.failure, StorageFull))
        assert (story.durable, story.gate.writes) == ([1], story.writes)
        story.gate.full = False
        await story.log.flush(story.durable.append)
        assert story.durable[-1] == 4
        await story.log.close()
        await story.node.close()
        node = await story.home.open()
        log = await node.open_log(PARTITION)
        found = await log.entries(Index(1), Index(4), 100 * MIB)
        assert [bytes(entry.payload[8:9]) for entry in found[2:]] == [b"\0", b"\1"]
        await log.close()
        await node.close()

    told(home, gate, 2, body, full=True)


def test_taking_back_what_is_sealed_ahead_voids_it_and_calls_it_durable_never(home, gate):
    async def body(story):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(story.log.truncate, Index(2))
            await until(lambda: story.log._changes_waiting)
            story.gate.opened.set()
        assert max(story.durable) == 2
        assert story.log.last.index == 2
        stage(story.log, b"in its place")
        await story.log.flush(story.durable.append)
        found = await story.log.entries(Index(1), Index(3), 100 * MIB)
        assert [bytes(entry.payload[8:]) for entry in found][::2] == [b"first", b"in its place"]
        await story.log.close()
        await story.node.close()
        node = await story.home.open()
        log = await node.open_log(PARTITION)
        assert log.last.index == 3
        await log.close()
        await node.close()

    told(home, gate, 3, body)


def test_a_waiting_change_ends_the_sealing_ahead(home, gate):
    async def body(story):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(story.log.truncate, Index(2))
            await until(lambda: story.log._changes_waiting)
            sealed = story.recorder.seals
            story.log._flusher._call.wake()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert story.recorder.seals == sealed
            story.gate.opened.set()
        await story.log.close()
        await story.node.close()

    told(home, gate, 1, body)


def test_a_batch_within_a_large_flush_is_read_without_the_frames_before_it(home, monkeypatch):
    opened = []
    real = OpeningKey.open_into

    def counted(key, nonce, sealed, aad, out):
        opened.append(len(out))
        real(key, nonce, sealed, aad, out)

    async def main():
        node = await home.create()
        log = await node.create_log(PARTITION, DOMAIN)
        stage(log, *(bytes([n]) * FRAME for n in range(8)))
        await log.flush(lambda _: None)
        log._cache.forget(log._tail)
        monkeypatch.setattr(OpeningKey, "open_into", counted)
        held = await log.read(Offset(6), Offset(8), 1)
        assert bytes(held.batches[0][8:9]) == b"\6"
        assert len(opened) == 1
        await log.close()
        await node.close()

    trio.run(main)


def test_flush_buffers_are_used_again_within_their_bound():
    buffers = FlushBuffers(4 * FLUSH_BUFFER_STEP_BYTES)
    first = buffers.take(FLUSH_BUFFER_STEP_BYTES + 1)
    memory = first.obj
    assert len(first) == FLUSH_BUFFER_STEP_BYTES + 1
    buffers.give(first)
    again = buffers.take(2 * FLUSH_BUFFER_STEP_BYTES)
    assert again.obj is memory
    other = buffers.take(2 * FLUSH_BUFFER_STEP_BYTES)
    assert other.obj is not memory
    third = buffers.take(2 * FLUSH_BUFFER_STEP_BYTES)
    for view in (again, other, third):
        buffers.give(view)
    assert buffers.held_bytes == 4 * FLUSH_BUFFER_STEP_BYTES
    small = buffers.take(10)
    buffers.give(small)
    assert buffers.held_bytes == 4 * FLUSH_BUFFER_STEP_BYTES


def test_the_bounds_of_sealing_ahead_fit_one_another():
    assert INLINE_SEAL_BYTES < SEAL_AHEAD_BYTES < MAX_FLUSH_BYTES
