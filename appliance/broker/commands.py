"""Commands through the replica port: encoded here, applied by the machines of `coordination`.

Rules: an encoding is msgpack with a tag that names command and version; bytes that are no command
of this release are damage or a newer feature level, and end the replay rather than be skipped. A
log is cut behind a snapshot of its machine each time that it has grown by a bound, or by several
times what the snapshot takes.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import msgspec
import structlog
import trio

from appliance.broker.foundation import Foundation
from appliance.broker.replica import Replica
from appliance.broker.snapshots import GroupSnapshot
from appliance.errors import (
    DamageDetected,
    ErrorCode,
    KeyProviderError,
    RequestError,
    StorageError,
)
from appliance.invariant import invariant
from appliance.limits import NEVER_MS, SNAPSHOT_AFTER_BYTES, SNAPSHOT_AFTER_SIZES
from appliance.raft.configuration import Configuration
from appliance.types import ENTRY_HEADER_BYTES, Entry, EntryHeader, EntryKind, Offset, PartitionId

log = structlog.get_logger()

REOPEN_S = 1.0
"""Before a log that does not open after it was cut is tried again."""

C = TypeVar("C", bound=msgspec.Struct)
O = TypeVar("O")  # noqa: E741 - the outcome of a command


class Keeping(msgspec.Struct, frozen=True):
    """How a machine is kept in a snapshot, and taken up; `restore` raises DamageDetected."""

    snapshot: Callable[[], bytes]
    restore: Callable[[bytes], None]
    may_cut: Callable[[], bool] = lambda: True
    """Whether every member knows what takes the place of entries."""


class _Machine(Generic[C, O]):
    """Decodes entries and applies them; tells when the log has grown by a bound."""

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[C],
        apply: Callable[[C], O],
        keeping: Keeping,
    ) -> None:
        self._decoder = decoder
        self._apply = apply
        self.keeping = keeping
        self._grown_bytes = 0
        self.on_grown: Callable[[], None] = _nothing
        self.bound_bytes = SNAPSHOT_AFTER_BYTES

    def snapshot(self) -> bytes:
        state = self.keeping.snapshot()
        self.bound_bytes = max(SNAPSHOT_AFTER_BYTES, SNAPSHOT_AFTER_SIZES * len(state))
        return state

    def restore(self, state: bytes) -> None:
        self.keeping.restore(state)

    def apply(self, entry: Entry) -> O:
        try:
            command = self._decoder.decode(entry.payload)
        except msgspec.MsgspecError:
            raise DamageDetected("an entry holds no command that is known here") from None
        outcome = self._apply(command)
        self._grown_bytes += ENTRY_HEADER_BYTES + entry.header.payload_bytes
        if self._grown_bytes >= self.bound_bytes:
            self._grown_bytes = 0
            self.on_grown()
        return outcome


class CommandLog(Generic[C, O]):
    """An internal log whose entries are commands."""

    def __init__(
        self, foundation: Foundation, partition: PartitionId, machine: _Machine[C, O]
    ) -> None:
        """Use `open`."""
        self._foundation = foundation
        self._partition = partition
        self._machine = machine
        self._replica: Replica[O]
        self._changing = trio.Lock()
        """Held while the log is opened or closed."""
        self._closing = False
        self._encoder = msgspec.msgpack.Encoder()

    @staticmethod
    async def open(
        foundation: Foundation,
        partition: PartitionId,
        *,
        decoder: msgspec.msgpack.Decoder[C],
        apply: Callable[[C], O],
        genesis: Configuration,
        keeping: Keeping,
    ) -> "CommandLog[C, O]":
        """Opens, or makes, the log; its decided commands are applied through `apply`."""
        opened = CommandLog(foundation, partition, _Machine(decoder, apply, keeping))
        await opened._open(genesis, None)
        return opened

    async def _open(self, genesis: Configuration, taken: GroupSnapshot | None) -> None:
        self._machine.on_grown = _nothing
        self._replica = replica = await self._foundation.open(
            self._partition, self._machine, genesis, scan=True, taken=taken
        )
        replica.log.limit_segments(max_bytes=SNAPSHOT_AFTER_BYTES // 2, max_ms=NEVER_MS)
        self._machine.on_grown = lambda: replica.start_soon(self.cut)
        await self.cut()

    async def repair(self, *, distrusted: bool) -> bool:
        """Closes a damaged log, cuts it before its damage, and opens it again to be filled.

        What was applied is not applied again: the machine stays as it is. True if something was
        cut. Raises StorageError, KeyProviderError.
        """
        async with self._changing:
            replica, foundation = self._replica, self._foundation
            taken, members = replica.beginning.state(), replica.configuration
            foundation.consensus.remove(self._partition)
            await _closed(replica)
            try:
                return await foundation.storage.quarantine(self._partition, distrusted=distrusted)
            finally:
                await self._reopen(members, taken)

    async def _reopen(self, members: Configuration, taken: GroupSnapshot) -> None:
        """Tries until it succeeds: without its internal logs a node is of no use."""
        said = ""
        while not self._closing:
            try:
                await self._open(members, taken)
            except (StorageError, KeyProviderError) as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("an internal log does not open", partition=str(self._partition),
                                reason=said)  # fmt: skip
                await trio.sleep(REOPEN_S)
            else:
                return

    @property
    def replica(self) -> Replica[O]:
        """The replica of the log on this node."""
        return self._replica

    @property
    def failed(self) -> bool:
        """Whether the log broke: no command can be executed any more."""
        return self._replica.failed

    async def cut(self) -> None:
        """Lets entries go that a snapshot can stand for, if there are enough of them."""
        replica = self._replica
        size = sum(segment.size_bytes for segment in replica.log.segments())
        if size < SNAPSHOT_AFTER_BYTES or replica.closed or replica.failed:
            return
        if not self._machine.keeping.may_cut():
            return
        with suppress(StorageError):  # the entries stay; the next bound tries again
            await replica.beginning.free(Offset(0))

    def progress(self) -> tuple[int, int]:
        """The term, and the index of the last durable command."""
        return self._replica.term, self._replica.log.durable

    @property
    def serving(self) -> bool:
        """Whether commands are executed here: this node leads and knows all that was decided."""
        return self._replica.serving

    def submit(self, command: C, on_done: Callable[[ErrorCode, O | None], None]) -> None:
        """Proposes a command and returns at once; raises RequestError if it is not taken."""

        def committed(error: ErrorCode, _: EntryHeader, outcome: O | None) -> None:
            on_done(error, outcome)

        self._replica.propose(EntryKind.COMMAND, self._encoder.encode(command), -1, committed)

    async def execute(self, command: C) -> O:
        """Returns what the command came to, once it is committed and applied.

        A command whose wait is cancelled may still take effect. Raises RequestError.
        """
        await self._replica.room.wait(0)
        done = trio.Event()
        results: list[tuple[ErrorCode, O | None]] = []

        def committed(error: ErrorCode, outcome: O | None) -> None:
            results.append((error, outcome))
            done.set()

        self.submit(command, committed)
        await done.wait()
        ((error, outcome),) = results
        if error is not ErrorCode.NONE:
            raise RequestError(error, "the command could not be made durable")
        invariant(outcome is not None, "a committed command has an outcome")
        return outcome  # type: ignore[return-value] # the invariant above rules None out

    async def close(self) -> None:
        """Lets what is under way become durable, and closes the log."""
        self._closing = True
        async with self._changing:
            if not self._replica.closed:
                await self._replica.close()


async def _closed(replica: Replica[O]) -> None:
    """Closes a replica and its log, whatever became of it."""
    with suppress(StorageError):
        await replica.close()
    if replica.failed:
        with suppress(StorageError):
            await replica.log.close()


def _nothing() -> None:
    pass
