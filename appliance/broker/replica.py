"""The replica port: proposals in, commits out, over one sealed log.

The way of an entry: `propose` gives it index, term, offsets and leader time and stages it; one
flush task, running only while something is staged, makes it durable along with whatever else
arrived; the core then says what is committed; committed entries are applied in order, and each
one's callback runs right after its own apply.

Rules: nothing is applied or visible before it is committed. A log that cannot keep its promise ends
this replica's leadership for good: everyone who waits is told KAFKA_STORAGE_ERROR, whoever proposes
later too, and readers keep what was committed.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec
import trio

from appliance.broker.growth import Readers
from appliance.errors import ErrorCode, KeyProviderError, RequestError, StorageError, StorageFull
from appliance.invariant import invariant
from appliance.limits import FULL_DISK_RETRY_S, KIB, MAX_BATCH_BYTES, MAX_STAGED_BYTES, MIB
from appliance.ports import Clock, Entropy, NodeStorage, PartitionLog
from appliance.raft.core import Core
from appliance.raft.messages import Run
from appliance.raft.ready import Recovered, Role, single
from appliance.types import (
    Buffer,
    Entry,
    EntryHeader,
    EntryKind,
    Index,
    Offset,
    PartitionId,
    Position,
    Term,
    TimestampMs,
)

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

ENTRY_OVERHEAD_BYTES = KIB
"""Counted for each staged entry besides its payload, so that small ones are bounded too."""

STAGING_BYTES = MAX_STAGED_BYTES - MAX_BATCH_BYTES
"""Where backpressure begins: well before the log itself would refuse an entry."""

REPLAY_SLICE_BYTES = 4 * MIB
REPLAY_SLICE_ENTRIES = 256
"""Entries applied without letting others run (DESIGN section 8: 2 ms)."""


class Machine(Protocol[R_co]):
    """What committed entries are applied to, in order; deterministic."""

    def apply(self, entry: Entry) -> R_co:
        """Takes the next batch or command."""
        ...


OnCommitted = Callable[[ErrorCode, EntryHeader, R | None], None]
"""Told NONE and what the machine made of the entry, or the error that it failed with."""


class _Staged(msgspec.Struct, Generic[R], frozen=True, gc=False):
    entry: Entry
    on_committed: OnCommitted[R]


def _nobody(_: ErrorCode, __: EntryHeader, ___: object) -> None:
    """Whoever waited has been told already."""


class Replica(Generic[R]):
    """One node's replica of one group."""

    def __init__(
        self,
        partition: PartitionId,
        log: PartitionLog,
        machine: Machine[R],
        *,
        storage: NodeStorage,
        clock: Clock,
        entropy: Entropy,
        nursery: trio.Nursery,
    ) -> None:
        """Takes an open log; `start` makes it serve. Flushes run in `nursery`."""
        self.readers = Readers()
        self._partition = partition
        self._log = log
        self._machine = machine
        self._storage = storage
        self._clock = clock
        self._nursery = nursery
        self._core = Core(
            node=storage.node,
            recovered=Recovered(
                state=storage.hard_state(partition),
                last=log.last,
                base=log.last,
                configurations=single(storage.node),
            ),
            entropy=entropy,
        )
        self._staged: deque[_Staged[R]] = deque()
        self._staged_bytes = 0
        self._leader_time = TimestampMs(0)
        self._high_watermark = log.start_offset
        self._flushing = False
        self._drained = trio.Event()
        self._waiting_for_room = 0
        self._failed = False
        self._full = False
        self._closed = False

    @property
    def term(self) -> Term:
        """The current term: the leader epoch that clients see."""
        return self._core.term

    @property
    def log(self) -> PartitionLog:
        """The log, for reading below the high watermark."""
        return self._log

    @property
    def high_watermark(self) -> Offset:
        """The offset after the last committed batch; nothing at or above it is shown."""
        return self._high_watermark

    @property
    def failed(self) -> bool:
        """Whether the log broke: it leads no more."""
        return self._failed

    async def start(self) -> None:
        """Takes leadership of the next term and replays the log into the machine.

        The new term is durable before the no-op, and the no-op committed before anything is
        applied (Raft paper, section 5.4.2). Raises StorageError, KeyProviderError.
        """
        self._core.campaign()
        state = self._core.ready().hard_state
        invariant(state is not None, "a campaign changes the hard state")
        if state is not None:
            await self._storage.save_hard_state(self._partition, state)
            self._core.advance(saved=state)
        (no_op,) = self._core.ready().entries
        self._log.append((Entry(self._header(no_op, -1), b""),))
        await self._log.flush(self._learn_durable)
        invariant(self._core.commit == self._core.last.index, "the no-op is committed")
        await self._replay(self._core.commit)
        self._high_watermark = self._log.end_offset

    async def _replay(self, last: Index) -> None:
        index = self._log.first_index
        while index <= last:
            entries = await self._log.entries(index, last, REPLAY_SLICE_BYTES)
            invariant(bool(entries), "the log holds what it says it holds")
            for count, entry in enumerate(entries, 1):
                header = entry.header
                self._leader_time = max(self._leader_time, header.leader_time_ms)
                if header.kind in {EntryKind.BATCH, EntryKind.COMMAND}:
                    self._machine.apply(entry)
                if count % REPLAY_SLICE_ENTRIES == 0:
                    await trio.lowlevel.checkpoint()
            index = Index(entries[-1].header.index + 1)
            await trio.lowlevel.checkpoint()

    def check_leading(self) -> None:
        """Raises RequestError when this replica takes no proposals."""
        if self._failed:
            raise RequestError(ErrorCode.KAFKA_STORAGE_ERROR, "the partition's log has failed")
        if self._full:
            raise RequestError(ErrorCode.KAFKA_STORAGE_ERROR, "no space is left on the disk")
        if self._closed or self._core.role is not Role.LEADER:
            raise RequestError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "this node does not lead")

    def has_room(self, size_bytes: int) -> bool:
        """Whether a payload may be proposed now; an empty log takes any."""
        return not self._staged or self._staged_bytes + size_bytes <= STAGING_BYTES

    async def room(self, size_bytes: int) -> None:
        """Waits until a payload of this size may be proposed."""
        self._waiting_for_room += 1
        try:
            while not self.has_room(size_bytes):
                await self._drained.wait()
        finally:
            self._waiting_for_room -= 1

    def propose(
        self,
        kind: EntryKind,
        payload: Buffer,
        last_offset_delta: int,
        on_committed: OnCommitted[R],
    ) -> EntryHeader:
        """Gives an entry its place and has it made durable; returns at once.

        `on_committed` is called later, on the event loop, and must not raise. Raises RequestError
        without having taken the entry.
        """
        self.check_leading()
        self._core.propose(kind, len(payload))
        (persist,) = self._core.ready().entries
        entry = Entry(self._header(persist, last_offset_delta), payload)
        try:
            self._log.append((entry,))
        except StorageError:
            self._end_leadership()
            raise RequestError(
                ErrorCode.KAFKA_STORAGE_ERROR, "the partition's log takes nothing more"
            ) from None
        self._staged.append(_Staged(entry, on_committed))
        self._staged_bytes += len(payload) + ENTRY_OVERHEAD_BYTES
        if not self._flushing:
            self._flushing = True
            self._nursery.start_soon(self._flush)
        return entry.header

    def _header(self, persist: Run, last_offset_delta: int) -> EntryHeader:
        # Leader time never goes back, whatever the clock does: what expires by it stays expired.
        self._leader_time = max(self._leader_time, self._clock.now_ms())
        return EntryHeader(
            persist.kind,
            persist.position.index,
            persist.position.term,
            self._leader_time,
            self._log.end_offset,
            last_offset_delta,
            persist.payload_bytes,
        )

    async def _flush(self) -> None:
        try:
            while self._staged and not self._failed:
                try:
                    await self._log.flush(self._on_durable)
                    self._full = False
                except StorageFull:
                    self._refuse_waiting()
                    if self._closed:
                        raise
                    await trio.sleep(FULL_DISK_RETRY_S)
        except (StorageError, KeyProviderError):
            self._end_leadership()
        finally:
            self._flushing = False
            self._wake_drained()

    def _refuse_waiting(self) -> None:
        """There is no space: who waits is told so, and what they gave may yet become durable.

        That is as after a lost reply; a producer that is idempotent finds out by trying again.
        """
        self._full = True
        for place, staged in enumerate(self._staged):
            self._staged[place] = _Staged(staged.entry, _nobody)
            staged.on_committed(ErrorCode.KAFKA_STORAGE_ERROR, staged.entry.header, None)

    def _learn_durable(self, index: Index) -> None:
        term = self._core.term_at(index)
        if term is not None:
            self._core.advance(persisted=Position(term, index))

    def _on_durable(self, index: Index) -> None:
        self._learn_durable(index)
        commit = self._core.ready().commit
        grown_bytes = 0
        while self._staged and self._staged[0].entry.header.index <= commit:
            grown_bytes += self._commit(self._staged.popleft())
        if grown_bytes:
            self.readers.grown(grown_bytes)
        self._wake_drained()

    def _commit(self, staged: _Staged[R]) -> int:
        """Applies one entry and tells its proposer; returns how many bytes readers got."""
        header = staged.entry.header
        self._staged_bytes -= header.payload_bytes + ENTRY_OVERHEAD_BYTES
        result = self._machine.apply(staged.entry)
        self._high_watermark = header.next_offset
        staged.on_committed(ErrorCode.NONE, header, result)
        return header.payload_bytes if header.kind is EntryKind.BATCH else 0

    def _end_leadership(self) -> None:
        self._failed = True
        self._core.resign()
        waiting, self._staged = self._staged, deque()
        self._staged_bytes = 0
        for staged in waiting:
            staged.on_committed(ErrorCode.KAFKA_STORAGE_ERROR, staged.entry.header, None)
        self.readers.end()
        self._wake_drained()

    def _wake_drained(self) -> None:
        if self._waiting_for_room:
            self._drained.set()
            self._drained = trio.Event()

    async def close(self) -> None:
        """Takes no more proposals, lets those under way become durable, and closes the log.

        Raises StorageError when the log could not be closed cleanly.
        """
        self._closed = True
        self.readers.end()
        self._waiting_for_room += 1
        while self._flushing:
            await self._drained.wait()
        self._waiting_for_room -= 1
        if not self._failed:
            await self._log.close()
