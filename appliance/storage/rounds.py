"""Writes and syncs of many files, in few threads: rounds (DESIGN section 8, group commit).

Rules:

- What is handed in at one wake-up of the loop, or while every thread is busy, goes together. From
  SYNC_ALL_FROM files on, one round writes them all and one call syncs the file system; otherwise
  each file is synced by itself, in up to MAX_SYNCS_AT_ONCE threads.
- Syncing a whole file system waits for everybody who writes to it. So after one that took longer
  than its files would have by themselves, these are synced by themselves for a while.
- A write or sync that fails concerns its own file. If the file system's fails, nobody knows what
  is durable: `FileSystemFailed` goes past everyone who handles a failed file, and ends the process.
"""

from collections.abc import Sequence
from functools import partial

import trio

from appliance.errors import FileSystemFailed, StorageError
from appliance.limits import (
    MAX_SYNCS_AT_ONCE,
    SLOW_SYNC_ALL_S,
    SYNC_ALL_FROM,
    SYNC_ALL_PAUSE_S,
    SYNC_EACH_S,
)
from appliance.storage.disk import BlockFile, Disk
from appliance.storage.segment import Flush
from appliance.storage.worker import Call, in_thread, never_aborted


class _Write:
    """A flush on its way into its file."""

    __slots__ = ("failure", "file", "flush")

    def __init__(self, file: BlockFile, flush: Flush) -> None:
        self.file = file
        self.flush = flush
        self.failure: StorageError | FileSystemFailed | None = None


class _Round:
    """Flushes that go together; whoever handed one in waits, and cannot be cancelled."""

    __slots__ = ("_waiting", "writes")

    def __init__(self) -> None:
        self.writes: list[_Write] = []
        self._waiting: list[trio.lowlevel.Task] = []

    async def wait(self) -> None:
        self._waiting.append(trio.lowlevel.current_task())
        await trio.lowlevel.wait_task_rescheduled(never_aborted)

    def end(self) -> None:
        for task in self._waiting:
            trio.lowlevel.reschedule(task)


class WriteRounds:
    """What all logs of a node hand their small flushes to."""

    def __init__(self, disk: Disk) -> None:
        """For files of this disk."""
        self._disk = disk
        self._gathering = _Round()
        self._rounds: trio.CapacityLimiter | None = None
        self._sync_all_from_s = 0.0

    async def put(self, file: BlockFile, flush: Flush) -> None:
        """Returns when the flush is durable; raises StorageError, StorageFull, FileSystemFailed.

        Whoever hands in the first flush of a round runs it. Cannot be cancelled.
        """
        write, gathering = _Write(file, flush), self._gathering
        gathering.writes.append(write)
        if len(gathering.writes) > 1:
            await gathering.wait()
        else:
            await self._lead(gathering)
        if write.failure is not None:
            raise write.failure

    async def _lead(self, gathering: _Round) -> None:
        if self._rounds is None:
            self._rounds = trio.CapacityLimiter(MAX_SYNCS_AT_ONCE)
        rounds = self._rounds
        await trio.lowlevel.cancel_shielded_checkpoint()  # who else was woken now hands in too
        try:
            rounds.acquire_on_behalf_of_nowait(gathering)
        except trio.WouldBlock:
            with trio.CancelScope(shield=True):
                await rounds.acquire_on_behalf_of(gathering)
        self._gathering = _Round()
        try:
            await self._run(gathering.writes)
        finally:
            rounds.release_on_behalf_of(gathering)
            gathering.end()

    async def _run(self, writes: Sequence[_Write]) -> None:
        if len(writes) >= SYNC_ALL_FROM and trio.current_time() >= self._sync_all_from_s:
            took_s = await in_thread(partial(_write_and_sync_all, self._disk, writes))
            if took_s > max(SLOW_SYNC_ALL_S, len(writes) * SYNC_EACH_S):
                self._sync_all_from_s = trio.current_time() + SYNC_ALL_PAUSE_S
            return
        size = -(-len(writes) // MAX_SYNCS_AT_ONCE)
        calls = []
        for at in range(0, len(writes), size):
            call = Call[None]()
            await call.begin(partial(_write_and_sync_each, writes[at : at + size]))
            calls.append(call)
        for call in calls:
            await call.result()


def _write(write: _Write) -> bool:
    flush = write.flush
    try:
        write.file.reserve(flush.end)
        write.file.write(flush.position, flush.buffers)
    except StorageError as failure:
        write.failure = failure
        return False
    return True


def _write_and_sync_each(writes: Sequence[_Write]) -> None:
    _sync_each([write for write in writes if _write(write)])


def _sync_each(written: Sequence[_Write]) -> None:
    for write in written:
        try:
            write.file.sync()
        except StorageError as failure:
            write.failure = failure


def _write_and_sync_all(disk: Disk, writes: Sequence[_Write]) -> float:
    """How long the sync took, in seconds."""
    written = [write for write in writes if _write(write)]
    try:
        took_s = disk.sync_all([write.file for write in written])
    except FileSystemFailed as failure:
        for write in writes:
            write.failure = failure
        return 0.0
    if took_s is None:
        _sync_each(written)
    return took_s or 0.0
