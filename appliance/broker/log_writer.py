"""What one replica has its log and journal do, in the order in which consensus asked for it.

Rules (`raft.ready`): a term and a vote are durable before the entries that came with them; what is
taken back is taken back before anything is appended in its place. Where nothing is to be waited
for, entries are staged at once and touch no queue. One task works while there is work, and none
otherwise; each of its rounds begins with the replica's turn, which stages all that was proposed
since the last one. What fails ends the log for good: its replica leads no more and acknowledges no
more.
"""

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import trio

from appliance.broker.snapshots import Offered
from appliance.errors import KeyProviderError, StorageError, StorageFull
from appliance.limits import FULL_DISK_RETRY_S
from appliance.ports import HardState, NodeStorage, PartitionLog
from appliance.types import Entry, Index, PartitionId, Position


class _Truncate(msgspec.Struct, frozen=True, gc=False):
    last_kept: Index


class _Reset(msgspec.Struct, frozen=True, gc=False):
    position: Position
    offered: Offered


class _Append(msgspec.Struct, frozen=True, gc=False):
    entries: Sequence[Entry]


class Reports(msgspec.Struct, frozen=True):
    """Whom to tell that it is the replica's turn, what has become durable, and what will not."""

    turn: Callable[[], None]
    saved: Callable[[HardState], None]
    durable: Callable[[Index], None]
    reset: Callable[[Position, Offered], None]
    full: Callable[[], None]
    failed: Callable[[], None]
    idle: Callable[[], None]


class LogWriter:
    """One replica's writes."""

    def __init__(
        self,
        partition: PartitionId,
        log: PartitionLog,
        storage: NodeStorage,
        nursery: trio.Nursery,
        reports: Reports,
    ) -> None:
        """Works in `nursery`; reports on the event loop."""
        self._partition = partition
        self._log = log
        self._storage = storage
        self._nursery = nursery
        self._reports = reports
        self._queue: deque[HardState | _Truncate | _Reset | _Append] = deque()
        self._unflushed = False
        self._turn_asked = False
        self.busy = False
        self.failed = False
        self.full = False
        """There is no space: what is staged waits for it, and nothing more is to be."""
        self.closing = False
        """What finds no space now is given up."""

    def ask_for_turn(self) -> None:
        """Has `Reports.turn` called when those who are about to propose something have done so.

        That is when the event loop comes round, also while a flush is under way: followers are sent
        what is proposed meanwhile, and the log seals ahead what is large.
        """
        if self._turn_asked or self.failed:
            return
        self._turn_asked = True
        if not self.busy:
            self._work()
        else:
            self._nursery.start_soon(self._give_turn)

    def take_turn(self) -> None:
        """Calls `Reports.turn` now if it was asked for."""
        if self._turn_asked:
            self._turn_asked = False
            self._reports.turn()

    async def _give_turn(self) -> None:
        self.take_turn()

    def save(self, state: HardState) -> None:
        """Has a term and a vote made durable before what comes after it."""
        self._queue.append(state)
        self._work()

    def truncate(self, last_kept: Index) -> None:
        """Has all entries after an index taken back."""
        self._queue.append(_Truncate(last_kept))
        self._work()

    def reset(self, position: Position, offered: Offered) -> None:
        """Has the log begun anew behind a position, with the state that goes with it."""
        self._queue.append(_Reset(position, offered))
        self._work()

    def append(self, entries: Sequence[Entry]) -> None:
        """Has entries written; raises StorageError if the log takes nothing more."""
        if self.failed:
            raise StorageError("the log has failed")
        if self._queue:
            self._queue.append(_Append(entries))
            return
        self._log.append(entries)
        self._unflushed = True
        self._work()

    def _work(self) -> None:
        if not self.busy and not self.failed:
            self.busy = True
            self._nursery.start_soon(self._run)

    async def _run(self) -> None:
        try:
            while (self._turn_asked or self._queue or self._unflushed) and not self.failed:
                try:
                    self.take_turn()
                    await self._step()
                    self.full = False
                except StorageFull:
                    self.full = True
                    self._reports.full()
                    if self.closing:
                        raise
                    await trio.sleep(FULL_DISK_RETRY_S)
        except (StorageError, KeyProviderError):
            self.end()
            self._reports.failed()
        finally:
            self.busy = False
            self._reports.idle()

    async def _step(self) -> None:
        if self._unflushed and not self.failed:
            self._unflushed = False
            try:
                await self._log.flush(self._reports.durable)
            except StorageFull:
                self._unflushed = True
                raise
            return
        if not self._queue:
            return
        match self._queue[0]:
            case HardState() as state:
                await self._storage.save_hard_state(self._partition, state)
                if self._carried_out():
                    self._reports.saved(state)
            case _Truncate(last_kept):
                await self._log.truncate(last_kept)
                self._carried_out()
            case _Reset(position, offered):
                await self._log.reset(position, offered.offset, offered.kept())
                if self._carried_out():
                    self._reports.reset(position, offered)
            case _Append(entries):
                self._log.append(entries)
                self._carried_out()
                self._unflushed = True

    def _carried_out(self) -> bool:
        """Takes the first of the queue off; False if the log was ended meanwhile."""
        if self.failed:
            return False
        self._queue.popleft()
        return True

    def end(self) -> None:
        """Takes nothing more; what waits is not written."""
        self.failed = True
        self._turn_asked = False
        self._queue.clear()
