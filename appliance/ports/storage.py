"""What a broker asks of its node's sealed storage (DESIGN sections 5 and 7)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec

from appliance.ports.keys import DomainStatus, WrapAt
from appliance.types import (
    ClusterId,
    Entry,
    Index,
    KeyDomainId,
    NodeId,
    Offset,
    PartitionId,
    Position,
    Term,
    TimestampMs,
)

BEGINNING_OF_LOGS: Final = Position(Term(0), Index(0))
"""Before the first entry of a log that takes no other's place."""


class HardState(msgspec.Struct, frozen=True):
    """What a Raft voter must remember of itself: its term and its vote in that term."""

    term: Term = Term(0)
    vote: NodeId | None = None


class Slice(msgspec.Struct, frozen=True, gc=False):
    """Whole batches, contiguous in offset order; `next_offset` follows the last of them."""

    batches: tuple[memoryview, ...]
    base_offset: Offset
    next_offset: Offset
    size_bytes: int


class SegmentInfo(msgspec.Struct, frozen=True, gc=False):
    """One file of a log, for whoever plans retention and compaction; the last one is written.

    `max_time_ms` is the largest time of its batches, -1 if there are none.
    """

    first_index: Index
    first_offset: Offset
    next_offset: Offset
    size_bytes: int
    max_time_ms: TimestampMs


class Snapshot(msgspec.Struct, frozen=True):
    """What the entries of a group up to `index` amount to; what `state` means is its broker's."""

    index: Index
    state: bytes


class PartitionLog(Protocol):
    """One Raft group's sealed log.

    The partition's data is its Raft log (DESIGN sections 5 and 7).
    """

    @property
    def last(self) -> Position:
        """Term and index of the last staged entry; (0, 0) when there is none."""
        ...

    @property
    def durable(self) -> Index:
        """Index of the last entry that has been synced."""
        ...

    @property
    def first_index(self) -> Index:
        """Index of the first entry that is still held."""
        ...

    @property
    def start_offset(self) -> Offset:
        """Offset of the first batch that is still held."""
        ...

    @property
    def end_offset(self) -> Offset:
        """The offset that the next batch will take, staged entries included."""
        ...

    def term_at(self, index: Index) -> Term | None:
        """The term of an entry, staged ones included, or None outside the log.

        The position just before `first_index` has a term too: the one that a snapshot left, or 0.
        """
        ...

    def epochs(self) -> tuple[tuple[Term, Offset], ...]:
        """The epoch table: per term, oldest first, the next offset as its first entry came."""
        ...

    def append(self, entries: Sequence[Entry]) -> None:
        """Stages entries, in index order, for the next flush; returns at once, touches no file.

        Raises StorageFull or StorageError if the log cannot take them.
        """
        ...

    async def flush(self, on_durable: Callable[[Index], None]) -> None:
        """Seals, writes and syncs what is staged, until nothing is left.

        After each sync calls `on_durable` on the event loop with the last durable index. Sealing
        the next group overlaps the sync of the one before. At most one call at a time. Raises
        StorageError when a write or sync failed: the file is closed for good and nothing more
        becomes durable.
        """
        ...

    async def truncate(self, last_kept: Index) -> None:
        """Takes back every entry after `last_kept`, durably when this returns.

        Offsets go back with their entries. A flush under way ends first, and calls none of what is
        taken back durable. Nothing is appended until this has returned; the next entry is
        `last_kept + 1` then. Raises StorageError.
        """
        ...

    async def reset(
        self, position: Position, offset: Offset, snapshot: "Snapshot | None" = None
    ) -> None:
        """Begins anew behind `position`, empty, durably when this returns.

        `offset` is the next offset there; `snapshot`, if it is given, takes the place of the log's,
        in the same step. Nothing is appended until this has returned. Raises StorageError.
        """
        ...

    async def raise_start(
        self,
        offset: Offset,
        *,
        applied: Index | None = None,
        snapshot: "Callable[[Index], Snapshot | None] | None" = None,
    ) -> None:
        """Moves `start_offset` up to `offset`, never down, durably when this returns.

        Files that lie below it whole are removed, and `first_index` follows; reads below raise
        RequestError(OFFSET_OUT_OF_RANGE) from then on. Entries after `applied` stay, if it is
        given. With nothing left at or above `offset` the active file is ended first, so that it
        goes too. Where files go, `snapshot` is called on the event loop with the last index that
        goes, and what it gives takes the place of the log's snapshot in the same step; if it gives
        None no file goes. Raises StorageError.
        """
        ...

    async def keep_snapshot(self, snapshot: "Callable[[Index], Snapshot | None]") -> None:
        """Takes a snapshot in place of the log's, durably when this returns; no entry goes.

        `snapshot` is called on the event loop with the last index that is gone already; if it gives
        None nothing changes. Raises StorageError.
        """
        ...

    async def read_snapshot(self) -> "Snapshot | None":
        """What stands for the entries that are gone, or spares applying those that are held.

        Raises DamageDetected for one that stands for entries and cannot be read.
        """
        ...

    @property
    def compacted(self) -> Offset:
        """Where the last pass of compaction ended; 0 if there was none."""
        ...

    async def rewrite(self, first_index: Index, change: Callable[[Entry, bool], Entry]) -> None:
        """Puts what `change` gives in place of each entry of the closed file that begins there.

        `change` is told whether an entry is the last of its file, runs in a thread, and keeps
        index, term and offsets. Any crash leaves the old file or the new one. A file that has gone
        meanwhile is left gone. Raises DamageDetected, StorageError.
        """
        ...

    @property
    def outdated_bytes(self) -> int:
        """Of files that are sealed under an older data key than the next one will be."""
        ...

    async def rekey(self, rest: Callable[[int], Awaitable[None]]) -> bool:
        """Has one more file sealed under the log's newest data key; False if all were.

        The active file is ended; a closed one is written anew and replaced, in steps that any crash
        may interrupt. `rest` is awaited after so many bytes. Raises DamageDetected, StorageError.
        """
        ...

    async def end_compaction(self, end: Offset) -> None:
        """Remembers durably where a pass of compaction ended."""
        ...

    def segments(self) -> tuple[SegmentInfo, ...]:
        """The files of the log, oldest first, as far as they are durable."""
        ...

    def limit_segments(self, *, max_bytes: int, max_ms: int) -> None:
        """Has the next flush begin a new file when the active one would be larger, or is older.

        Age is the leader's time since the file's first entry.
        """
        ...

    async def read(self, start: Offset, end: Offset, max_bytes: int) -> Slice:
        """Whole batches from the one that holds `start` up to, not including, `end`.

        At least one batch if there is one below `end`, even if it alone exceeds
        `max_bytes`. `start == end` gives an
        empty slice. Raises RequestError(OFFSET_OUT_OF_RANGE) below `start_offset`, DamageDetected.
        """
        ...

    async def entries(self, first: Index, last: Index, max_bytes: int) -> list[Entry]:
        """Entries of every kind, in order, at least one.

        For replay at start and for catching up.
        """
        ...

    async def first_batch_at_time(
        self, timestamp_ms: TimestampMs, end: Offset
    ) -> memoryview | None:
        """The first batch below `end` whose max timestamp is at or after the time."""
        ...

    async def close(self) -> None:
        """Flushes, seals a stop frame, and lets go of the files."""
        ...


class SealedJournal(Protocol):
    """An append-only sealed, chained file of small records: the audit log rests on it."""

    async def append(self, records: Sequence[bytes]) -> None:
        """Returns when the records are durable; concurrent calls share one sync."""
        ...

    async def read_all(self) -> list[bytes]:
        """Every record from the first, verified; raises DamageDetected."""
        ...

    async def close(self) -> None:
        """Seals a stop frame and lets go of the file."""
        ...


class WrapCount(msgspec.Struct, frozen=True):
    """How many wraps of a domain are of a version of its key."""

    domain: KeyDomainId
    version: int
    count: int


class Rewrapped(msgspec.Struct, frozen=True):
    """A slice of re-wrapping: what it came to, and after which log the next one begins.

    `failed` are reasons, each of a wrap that stays as it was; `after` is None at the end.
    """

    examined: int
    rewrapped: int
    failed: tuple[str, ...]
    after: PartitionId | None


class KeyMaintenance(Protocol):
    """The wrapped keys of one node, and the domains that they belong to."""

    async def create_domain(self, domain: KeyDomainId) -> None:
        """See `KeyProvider.create_domain`."""
        ...

    async def status(self, domain: KeyDomainId) -> DomainStatus:
        """See `KeyProvider.status`."""
        ...

    def epoch(self, domain: KeyDomainId) -> int:
        """See `KeyProvider.epoch`."""
        ...

    def lease_left_s(self, domain: KeyDomainId) -> float | None:
        """See `KeyProvider.lease_left_s`."""
        ...

    def forget(self, domain: KeyDomainId) -> None:
        """See `KeyProvider.forget`; logs of the domain are closed before."""
        ...

    async def any_opens(
        self, partitions: Sequence[PartitionId], domain: KeyDomainId, trials: Sequence[WrapAt] = ()
    ) -> bool:
        """Whether any wrap of a domain opens, asked of the provider itself.

        Those in these closed logs are tried, and `trials`, which other nodes gave.
        """
        ...

    async def trial(self, partitions: Sequence[PartitionId], domain: KeyDomainId) -> WrapAt | None:
        """One of the wraps of a domain in these closed logs. Raises StorageError."""
        ...

    @property
    def lease_s(self) -> float:
        """See `KeyProvider.lease_s`."""
        ...

    async def count_wraps(self) -> list[WrapCount]:
        """Every wrap of this node, by domain and version. Raises StorageError."""
        ...

    async def advance(self, partition: PartitionId) -> None:
        """Has an open log's next file begin under its domain's newest key, as last heard.

        Raises KeysUnavailable, KeysRefused.
        """
        ...

    async def rewrap(self, after: PartitionId | None, limit: int) -> Rewrapped:
        """Wraps about `limit` keys under their domains' newest versions; rewrites no data.

        `after` None begins, with the node's own key. Raises KeysUnavailable, KeysRefused.
        """
        ...


class NodeStorage(Protocol):
    """One node's data directory: its lock, its journal, its logs."""

    @property
    def cluster(self) -> ClusterId:
        """The cluster that this directory belongs to."""
        ...

    @property
    def node(self) -> NodeId:
        """The node that owns this directory."""
        ...

    @property
    def keys(self) -> KeyMaintenance:
        """The wrapped keys of this directory."""
        ...

    def partitions(self) -> frozenset[PartitionId]:
        """The logs that exist here."""
        ...

    async def domain_of(self, partition: PartitionId) -> KeyDomainId:
        """The key domain that a log is sealed in. Raises DamageDetected."""
        ...

    async def create_log(
        self,
        partition: PartitionId,
        domain: KeyDomainId,
        position: Position = BEGINNING_OF_LOGS,
        offset: Offset = Offset(0),  # noqa: B008 - a number
    ) -> PartitionLog:
        """Makes an empty log under a new data key; its files are durable when this returns.

        It begins behind `position`, with `offset` as the next one there.
        """
        ...

    async def open_log(self, partition: PartitionId) -> PartitionLog:
        """Opens and recovers a log. Raises DamageDetected, KeysUnavailable, WrongKey."""
        ...

    def tell_damage(self, to: Callable[[PartitionId], None]) -> None:
        """Has `to` called, on the event loop, for a log in which the scrubber has found damage."""
        ...

    def known_last(self, partition: PartitionId) -> Position | None:
        """What a damaged log once held, and does not again yet; None for one that is whole."""
        ...

    async def begin_life(self, at_least: int) -> int:
        """A number of this life of the node, durable: at least that, and larger than any before.

        Larger by NUMBERS_PER_LIFE where the clock that it was taken from has been set back.
        """
        ...

    async def save_known_last(self, partition: PartitionId, known_last: Position | None) -> None:
        """Remembers that, durably; None once the log holds it again."""
        ...

    async def quarantine(self, partition: PartitionId, *, distrusted: bool = False) -> bool:
        """Cuts a closed log before its first damaged file, and says whether there was one.

        That file and all after it are kept, named as quarantined, and not read again. What they
        held is in `known_last` before the log is cut. With `distrusted` the last file goes too,
        whole or not: after a sync that failed, what is read back proves nothing. Reads the whole
        log. Raises DamageDetected when the manifest itself cannot be read, StorageError,
        KeyProviderError.
        """
        ...

    async def delete_log(self, partition: PartitionId) -> None:
        """Removes a log, closed before, and its files."""
        ...

    async def open_journal(self, name: PartitionId) -> SealedJournal:
        """Opens, or makes, a sealed journal of its own, such as the audit log."""
        ...

    def hard_state(self, partition: PartitionId) -> HardState:
        """Term and vote as last saved."""
        ...

    async def save_hard_state(self, partition: PartitionId, state: HardState) -> None:
        """Durable in the node journal when this returns."""
        ...

    async def close(self) -> None:
        """Clean stop: marks and a stop frame in the journal, then the lock is released."""
        ...
