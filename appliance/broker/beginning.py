"""Where one replica's log begins, and its state: what is kept of it, and what a member is offered.

Rules: files go once they are applied, behind a snapshot that the same manifest names. A leader
keeps, up to a bound, what one of its members has not got yet; a follower lets go of what it has
applied, whoever may lead by its log next. What is offered is the state of now (`snapshots`).
Without any file going, the state is kept each time that enough was applied, and at the end: a node
that starts goes on from there, however long its logs are.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from appliance.broker.applying import Applying
from appliance.broker.snapshots import GroupSnapshot, Offered, bytes_below, kept, members_at
from appliance.errors import StorageError
from appliance.limits import (
    KEEP_AT_END_PART,
    KEEP_STATE_AFTER_BYTES,
    KEEP_STATE_AFTER_SIZES,
    MAX_KEPT_FOR_LAGGING_BYTES,
)
from appliance.ports import PartitionLog, Snapshot
from appliance.raft.core import Core
from appliance.raft.ready import Role
from appliance.types import Index, Offset, PartitionId, Position

log = structlog.get_logger()


class Beginning:
    """See the module."""

    def __init__(
        self,
        partition: PartitionId,
        log: PartitionLog,
        core: Core,
        applying: Applying[object],
        start_soon: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        """Of a replica's log, its consensus, and what it has applied."""
        self._partition = partition
        self._log = log
        self._core = core
        self._applying = applying
        self._start_soon = start_soon
        self._keeps = self._keeping = False
        self._kept_at_bytes = 0
        """Of `applying.taken_bytes`, as the state was kept last."""
        self._keep_after_bytes = KEEP_STATE_AFTER_BYTES

    def keep_state(self) -> None:
        """From now on the state is kept as it grows."""
        self._keeps = True

    def grown(self) -> None:
        """Has the state kept, if enough was applied since it was."""
        if self._keeps and not self._keeping and self._is_due(1):
            self._keeping = True
            self._start_soon(self._keep_now)

    def _is_due(self, part: int) -> bool:
        """Whether a part of what there is to be between two times of keeping was applied."""
        since_bytes = self._applying.taken_bytes - self._kept_at_bytes
        return since_bytes * part >= self._keep_after_bytes

    async def _keep_now(self) -> None:
        try:
            await self._keep()
        finally:
            self._keeping = False

    async def keep_last(self) -> None:
        """Keeps the state before the log is closed, if that spares whoever opens it much."""
        if self._keeps and self._is_due(KEEP_AT_END_PART):
            await self._keep()

    async def _keep(self) -> None:
        self._kept_at_bytes = self._applying.taken_bytes
        with suppress(StorageError):  # what was kept before stands; there is just more to apply
            await self._log.keep_snapshot(self._to_keep)

    async def free(self, below: Offset) -> None:
        """Removes files that lie below an offset whole and are applied. Raises StorageError."""
        may_go = self._applying.applied
        if bytes_below(self._log.segments(), below) <= MAX_KEPT_FOR_LAGGING_BYTES:
            may_go = min(may_go, self._held_by_all())
        await self._log.raise_start(below, applied=may_go, snapshot=self._to_keep)
        self._forget_removed()

    def _held_by_all(self) -> Index:
        """Up to where every member holds the log, as far as this one is to care."""
        if self._core.role is not Role.LEADER:
            return self._applying.applied
        members = self._core.configuration.members
        return min(self._core.matched(node) or Index(0) for node in members)

    def _to_keep(self, base: Index) -> Snapshot | None:
        """What this log is to keep when its entries up to `base` go."""
        snapshot = kept(self._snapshot(base))
        if snapshot is None:
            log.warning("a log keeps its entries: what they amount to is larger than may be",
                        partition=str(self._partition))  # fmt: skip
            return None
        self._kept_at_bytes = self._applying.taken_bytes
        self._keep_after_bytes = max(
            KEEP_STATE_AFTER_BYTES, KEEP_STATE_AFTER_SIZES * len(snapshot.state)
        )
        return snapshot

    def _snapshot(self, base: Index) -> GroupSnapshot:
        placed = members_at(self._core.configurations, base)
        later = tuple(each for each in self._core.configurations if each.index > base)
        return self._applying.snapshot(placed, later)

    def _forget_removed(self) -> None:
        """Tells consensus that the entries before the log's first one are gone."""
        base = Index(self._log.first_index - 1)
        term = self._log.term_at(base)
        if term is not None and self._core.term_at(base) is not None:
            self._core.compact(base=base, snapshot=Position(term, base))

    def state(self) -> GroupSnapshot:
        """What this replica has made of its log so far."""
        return self._snapshot(Index(self._log.first_index - 1))

    def offered(self, position: Position) -> Offered | None:
        """What goes with the offer of a snapshot; None if the log begins elsewhere by now."""
        segment = self._log.segments()[0]
        if segment.first_index != position.index + 1:
            return None
        return Offered.of(segment.first_offset, self._snapshot(position.index))
