"""Decided entries become state, in order, each once; their proposers are told right after.

Rules: an entry is applied when it is decided and durable here. What lies in memory is applied at
once; after a restart the log is replayed by one task, in slices that let others run. What a
snapshot has taken in is not applied again, nor read to be, once all of it is decided. Proposers who
wait when their leader loses its term are told so: what they proposed may still be decided, and a
retry is theirs to make.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec
import trio

from appliance.broker.growth import Readers
from appliance.broker.pending import together
from appliance.broker.placing import Placing
from appliance.broker.snapshots import GroupSnapshot, Offered
from appliance.broker.tail import ENTRY_OVERHEAD_BYTES, EntryTail
from appliance.errors import ErrorCode, KeyProviderError, StorageError
from appliance.limits import KIB, MIB
from appliance.ports import PartitionLog
from appliance.raft.configuration import Placed
from appliance.types import Entry, EntryHeader, EntryKind, Index

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

REPLAY_SLICE_BYTES = 4 * MIB
REPLAY_SLICE_ENTRIES = 256
"""Entries applied without letting others run (DESIGN section 8: 2 ms)."""

REPLAYED_ENTRY_BYTES = 32 * KIB
"""What applying an entry after a restart costs besides its bytes, as so many bytes."""

OnCommitted = Callable[[ErrorCode, EntryHeader, R | None], None]
"""Told NONE and what the machine made of the entry, or the error that it failed with."""

_APPLIED_KINDS = frozenset({EntryKind.BATCH, EntryKind.COMMAND})


class Machine(Protocol[R_co]):
    """What committed entries are applied to, in order; deterministic."""

    def apply(self, entry: Entry) -> R_co:
        """Takes the next batch or command."""
        ...

    def snapshot(self) -> bytes:
        """What the entries so far amount to."""
        ...

    def restore(self, state: bytes) -> None:
        """Becomes what a snapshot holds, whatever it was; raises DamageDetected if it is none."""
        ...


class _Waiting(msgspec.Struct, Generic[R], frozen=True, gc=False):
    header: EntryHeader
    on_committed: OnCommitted[R]


class Applying(Generic[R]):
    """The applied state of one replica."""

    def __init__(
        self,
        log: PartitionLog,
        tail: EntryTail,
        machine: Machine[R],
        placing: Placing,
        nursery: trio.Nursery,
        *,
        on_applied: Callable[[Index], None],
        snapshot: GroupSnapshot | None = None,
    ) -> None:
        """Begins before the first entry of the log, which `snapshot` may reach beyond.

        Raises DamageDetected.
        """
        self._covered: GroupSnapshot | None = None
        """What the machine has in it, as long as it is further than what is applied."""
        self.readers = Readers()
        self.applied = Index(log.first_index - 1)
        self.high_watermark = log.start_offset
        self.waiting_bytes = 0
        """Of entries whose proposers wait; 0 when nobody does."""
        self.taken_bytes = 0
        """Of entries that were applied here, with what each costs besides its payload."""
        self.failure: StorageError | KeyProviderError | None = None
        self._log = log
        self._tail = tail
        self._machine = machine
        self._placing = placing
        self._nursery = nursery
        self._on_applied = on_applied
        self._waiting: deque[_Waiting[R]] = deque()
        self._decided = Index(0)
        self._busy = False
        """Entries are being applied, or read to be."""
        if snapshot is not None:
            self._restore(snapshot)

    def _restore(self, snapshot: GroupSnapshot) -> None:
        self._machine.restore(snapshot.state)
        self._covered = snapshot if snapshot.index > self.applied else None
        self._placing.leader_time = max(self._placing.leader_time, snapshot.leader_time_ms)

    @property
    def included(self) -> Index:
        """The last entry that the machine has in it."""
        return self.applied if self._covered is None else self._covered.index

    def snapshot(self, placed: Placed, later: tuple[Placed, ...]) -> GroupSnapshot:
        """What the entries that the machine has in it amount to.

        `later` has the members that this log names after `placed`, in order.
        """
        covered = self._covered
        return GroupSnapshot(
            self.included,
            self.high_watermark if covered is None else covered.offset,
            self._placing.leader_time,
            placed,
            self._machine.snapshot(),
            tuple(each for each in later if each.index <= self.applied),
            self.applied,
        )

    def expect(self, header: EntryHeader, on_committed: OnCommitted[R]) -> None:
        """Remembers whom to tell of an entry that was proposed."""
        self._waiting.append(_Waiting(header, on_committed))
        self.waiting_bytes += header.payload_bytes + ENTRY_OVERHEAD_BYTES

    def decide(self, limit: Index) -> None:
        """Applies what is decided and durable: everything up to `limit`."""
        if limit <= self._decided or self.failure is not None:
            return
        self._decided = limit
        if not self._busy:
            self._apply_at_hand()

    def _apply_at_hand(self) -> None:
        grown_bytes = 0
        self._busy = True
        try:
            with together():
                while self.applied < self._decided and self.failure is None:
                    entry = self._tail.get(Index(self.applied + 1))
                    if entry is None:
                        if self._pass_over():
                            continue
                        self._nursery.start_soon(self._replay)
                        break
                    # What is told of an entry may decide the next: it is taken up by this loop.
                    grown_bytes += self._apply(entry)
                else:
                    self._busy = False
        except StorageError as failure:  # an entry that this release does not know
            self.failure = failure
        if grown_bytes:
            self.readers.grown(grown_bytes)
        self._on_applied(self.applied)

    def _pass_over(self) -> bool:
        """Counts as applied what the snapshot has taken in, if all of it is decided."""
        covered = self._covered
        if covered is None or covered.index > self._decided:
            return False
        self.applied, self.high_watermark = covered.index, covered.offset
        self._covered = None
        return True

    def _apply(self, entry: Entry) -> int:
        """Applies one entry and tells its proposer; returns how many bytes readers got."""
        header = entry.header
        result: R | None = None
        if self._covered is not None:
            if header.index >= self._covered.index:
                self._covered = None
        elif header.kind in _APPLIED_KINDS:
            result = self._machine.apply(entry)
            self.taken_bytes += header.payload_bytes + REPLAYED_ENTRY_BYTES
        self.applied = header.index
        self.high_watermark = header.next_offset
        self._placing.leader_time = max(self._placing.leader_time, header.leader_time_ms)
        waiting = self._waiting
        while waiting and waiting[0].header.index <= header.index:
            told = waiting.popleft()
            self.waiting_bytes -= told.header.payload_bytes + ENTRY_OVERHEAD_BYTES
            if told.header is header:
                told.on_committed(ErrorCode.NONE, header, result)
            else:
                told.on_committed(ErrorCode.NOT_LEADER_OR_FOLLOWER, told.header, None)
        return header.payload_bytes if header.kind is EntryKind.BATCH else 0

    async def _replay(self) -> None:
        """Reads from the log what is not in memory, until the rest is."""
        try:
            while self.applied < self._decided and self._tail.get(Index(self.applied + 1)) is None:
                entries = await self._log.entries(
                    Index(self.applied + 1), self._decided, REPLAY_SLICE_BYTES
                )
                for count, entry in enumerate(entries, 1):
                    self._apply(entry)
                    if count % REPLAY_SLICE_ENTRIES == 0:
                        await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
        except (StorageError, KeyProviderError) as failure:
            self.failure = failure
        self._apply_at_hand()

    def restart(self, applied: Index, offered: Offered) -> None:
        """Begins anew behind a position, with a state that may have come further.

        Raises DamageDetected.
        """
        self.dismiss(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self.applied = self._decided = applied
        self.high_watermark = offered.offset
        self._restore(offered.snapshot)

    def renounce(self, error: ErrorCode) -> None:
        """Tells all who wait that this replica will not say what becomes of their entries."""
        self.dismiss(error)
        self.readers.end()

    def dismiss(self, error: ErrorCode) -> None:
        """Tells all who wait for their entries; readers go on."""
        waiting, self._waiting = self._waiting, deque()
        self.waiting_bytes = 0
        for told in waiting:
            told.on_committed(error, told.header, None)
