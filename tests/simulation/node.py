"""One node on a simulated machine: driven, photographed, crashed, opened and held to account.

Every step of the disk can be photographed together with the ledger of that moment. What a machine
that starts from the photograph holds must be one of the things that the ledger allows.
"""

import contextlib
import itertools
import random
from dataclasses import replace
from uuid import UUID

import msgspec
import pytest

from appliance.errors import KeyGone, StorageError
from appliance.ports import HardState, Snapshot
from appliance.storage import flushing, staging
from appliance.storage import log as log_module
from appliance.storage.node import NodeDirectory
from appliance.storage.rewriting import no_rest
from appliance.types import (
    ClusterId,
    Entry,
    EntryHeader,
    EntryKind,
    Index,
    KeyDomainId,
    NodeId,
    Offset,
    PartitionId,
    Position,
    Term,
    TimestampMs,
)

from .disk import Image, SimulatedDisk
from .keys import SeededEntropy, SeededKeys
from .ledger import Fact, Ledger, View

CLUSTER = ClusterId(UUID(int=11))
DOMAIN = KeyDomainId(UUID(int=12))
PARTITION = PartitionId(UUID(int=13))
AUDIT = PartitionId(UUID(int=14))
OTHER = PartitionId(UUID(int=15))
OTHER_DOMAIN = KeyDomainId(UUID(int=16))
SEGMENT_BYTES = 4000


def stamp(payload, header):
    """As a batch's base offset is written: its first 8 bytes."""
    payload[:8] = header.base_offset.to_bytes(8, "big")


class SimulatedNode:
    """A node's directory with one log and one journal, and the ledger of what it promised."""

    def __init__(self, seed: object) -> None:
        """Everything follows from `seed`, entropy and keys included."""
        self.source = random.Random(repr(seed))
        self.keys = SeededKeys(self.source)
        self.ledger = Ledger()
        self.disk = SimulatedDisk()
        self.failed = False

    # --- life ----------------------------------------------------------------------------------

    async def create(self) -> None:
        self.node = await NodeDirectory.create(
            self.disk,
            cluster=CLUSTER,
            node=NodeId(1),
            domain=DOMAIN,
            keys=self.keys,
            entropy=SeededEntropy(self.source),
            stamp=stamp,
        )
        self.log = await self.node.create_log(PARTITION, DOMAIN)
        self.journal = await self.node.open_journal(AUDIT)

    async def open(self, disk: SimulatedDisk) -> None:
        """Goes on as a new process on `disk`, and settles what the ledger left open."""
        disk.on_step = self.disk.on_step
        self.disk = disk
        self.failed = False
        self.node = await NodeDirectory.open(
            disk, keys=self.keys, entropy=SeededEntropy(self.source), stamp=stamp
        )
        self.log = await self.node.open_log(PARTITION)
        self.journal = await self.node.open_journal(AUDIT)
        await self._settle()

    async def stop(self) -> None:
        """As SIGTERM would end it."""
        await self.log.close()
        await self.journal.close()
        await self.node.close()

    async def _settle(self) -> None:
        """Holds what was found against the ledger; from here on it is certain."""
        found = await self.seen()
        possible = self.ledger.possible()
        assert any(view.explains(found) for view in possible), (
            f"the log holds {found}, and may hold only {possible}"
        )
        vote = self.node.hard_state(PARTITION)
        assert vote in (self.ledger.votes or (HardState(),)), "a vote was lost or made up"
        records = tuple(await self.journal.read_all())
        kept, sent = self.ledger.records, self.ledger.sent
        assert records in [kept + sent[:count] for count in range(len(sent) + 1)], (
            "a record of the journal was lost or made up"
        )
        other = await self._settle_other()
        self.ledger = Ledger(base=found, votes=(vote,), records=records, others=(other,))

    async def _settle_other(self) -> tuple[bytes, ...] | None:
        """What the second log holds, which no copy of it does once its key is destroyed."""
        if self.ledger.deleting and OTHER in self.node.partitions():
            await self.node.delete_log(OTHER)
        if OTHER not in self.node.partitions():
            found = None
        elif OTHER_DOMAIN in self.keys.destroyed:
            with pytest.raises(KeyGone):
                await self.node.open_log(OTHER)
            return self.ledger.others[-1]
        else:
            self.other = await self.node.open_log(OTHER)
            entries = await self.other.entries(Index(1), self.other.last.index, 1 << 40)
            found = tuple(bytes(entry.payload[8:]) for entry in entries)
        allowed = (None, *self.ledger.others) if self.ledger.deleting else self.ledger.others
        assert found in allowed, f"a second log holds {found}, and may hold only {allowed}"
        return found

    async def seen(self) -> View:
        """The log, read from its files."""
        log = self.log
        before = Index(log.first_index - 1)
        facts = []
        if log.last.index >= log.first_index:
            entries = await log.entries(log.first_index, log.last.index, 1 << 40)
            facts = [_fact(entry) for entry in entries]
            assert [fact.index for fact in facts] == list(
                range(log.first_index, log.last.index + 1)
            )
        assert log.durable == log.last.index
        offset = facts[0].base_offset if facts else log.end_offset
        position = Position(log.term_at(before), before)
        kept = await log.read_snapshot()
        snapshot = None if kept is None else (kept.index, kept.state)
        return View(position, offset, log.start_offset, tuple(facts), snapshot)

    # --- what it is asked ----------------------------------------------------------------------

    def stage(self, *bodies: bytes, term: int, records: int = 1) -> None:
        """Appends one batch for each body."""
        for body in bodies:
            payload = bytes(8) + body
            header = _next_header(self.log, term, records, len(payload))
            self.log.append([Entry(header, payload)])
            fact = Fact(
                header.index,
                term,
                header.base_offset,
                header.next_offset,
                header.base_offset.to_bytes(8, "big") + body,
            )
            self.ledger = replace(self.ledger, staged=(*self.ledger.staged, fact))

    async def append(self, *bodies: bytes, term: int, records: int = 1) -> None:
        """Appends batches and waits until they are durable."""
        self.stage(*bodies, term=term, records=records)
        await self.log.flush(self._on_durable)

    def _on_durable(self, index: Index) -> None:
        assert not self.failed, "something was called durable after a failure"
        self.ledger = self.ledger.durable_up_to(index)

    async def truncate(self, last_kept: int) -> None:
        await self._change(self.ledger.base.up_to(last_kept), self.log.truncate(Index(last_kept)))

    async def reset(self, term: int, index: int, offset: int, state: bytes = b"") -> None:
        position = Position(Term(term), Index(index))
        target = View(position, offset, offset, snapshot=self._snapshot(index, state))
        snapshot = Snapshot(Index(index), state) if state else None
        await self._change(target, self.log.reset(position, Offset(offset), snapshot))

    def _snapshot(self, index: int, state: bytes) -> tuple[int, bytes] | None:
        return (index, state) if state else self.ledger.base.snapshot

    async def raise_start(
        self, offset: int, applied: int | None = None, state: bytes = b""
    ) -> None:
        base = self.ledger.base
        target = replace(base, start_offset=max(offset, base.start_offset))
        may_go = None if applied is None else Index(applied)
        if not state:
            await self._change(target, self.log.raise_start(Offset(offset), applied=may_go))
            return

        def snapshot(_base: Index) -> Snapshot:
            return self._taken(self.log.durable if may_go is None else may_go, state)

        await self._change(
            target, self.log.raise_start(Offset(offset), applied=may_go, snapshot=snapshot)
        )

    def _taken(self, index: Index, state: bytes) -> Snapshot:
        """A snapshot that is the log's once the change under way is."""
        taken = replace(self.ledger.instead, snapshot=(index, state))
        self.ledger = replace(self.ledger, instead=taken)
        return Snapshot(index, state)

    async def keep(self, state: bytes) -> None:
        """Keeps what all durable entries amount to; none goes."""

        def snapshot(_base: Index) -> Snapshot:
            return self._taken(self.log.durable, state)

        await self._change(self.ledger.base, self.log.keep_snapshot(snapshot))

    async def compact(self, kept) -> None:
        """Leaves a gap in each entry's place in closed files, but where `kept(index)`."""
        files = self.log.segments()

        def change(entry: Entry, _is_last: bool) -> Entry:
            if kept(entry.header.index):
                return entry
            return Entry(
                msgspec.structs.replace(entry.header, kind=EntryKind.GAP, payload_bytes=0), b""
            )

        for file, following in itertools.pairwise(files):
            emptied = tuple(
                replace(fact, body=b"")
                if file.first_index <= fact.index < following.first_index and not kept(fact.index)
                else fact
                for fact in self.ledger.base.entries
            )
            target = replace(self.ledger.base, entries=emptied)
            await self._change(target, self.log.rewrite(file.first_index, change))
        await self.log.end_compaction(files[-1].first_offset)

    # --- a second log ----------------------------------------------------------------------------

    async def create_other(self) -> None:
        """Makes a log with a key domain of its own."""
        self.ledger = replace(self.ledger, others=(None, ()), deleting=False)
        self.other = await self.node.create_log(OTHER, OTHER_DOMAIN)
        self.ledger = replace(self.ledger, others=((),))

    async def append_other(self, *bodies: bytes) -> None:
        (held,) = self.ledger.others
        parts = [bodies[:count] for count in range(len(bodies) + 1)]
        self.ledger = replace(self.ledger, others=tuple((*held, *part) for part in parts))
        for body in bodies:
            payload = bytes(8) + body
            self.other.append([Entry(_next_header(self.other, 1, 1, len(payload)), payload)])
        await self.other.flush(lambda _: None)
        self.ledger = replace(self.ledger, others=((*held, *bodies),))

    async def delete_other(self) -> None:
        """Closes and deletes the log, as a topic's deletion does."""
        await self.other.close()
        await self._delete_closed()

    async def shred_other(self) -> None:
        """Closes the log, forgets its keys, has them destroyed, and deletes what is left."""
        await self.other.close()
        self.node.keys.forget(OTHER_DOMAIN)
        self.keys.destroyed.add(OTHER_DOMAIN)
        await self._delete_closed()

    async def _delete_closed(self) -> None:
        self.ledger = replace(self.ledger, deleting=True)
        await self.node.delete_log(OTHER)
        self.ledger = replace(self.ledger, others=(None,))

    async def _change(self, target: View, change) -> None:
        self.ledger = replace(self.ledger, instead=target)
        await change
        self.ledger = replace(self.ledger, base=self.ledger.instead or target, instead=None)

    async def vote(self, term: int) -> None:
        state = HardState(Term(term), NodeId(1))
        old = self.ledger.votes or (HardState(),)
        self.ledger = replace(self.ledger, votes=(*old, state))
        await self.node.save_hard_state(PARTITION, state)
        self.ledger = replace(self.ledger, votes=(state,))

    async def record(self, *records: bytes) -> None:
        self.ledger = replace(self.ledger, sent=records)
        await self.journal.append(records)
        kept = self.ledger.records + records
        self.ledger = replace(self.ledger, records=kept, sent=())

    async def mark(self) -> None:
        """Journals how far the log is durable, as the node does when it goes idle."""
        await self.node._mark()

    async def rotate(self) -> None:
        """Has the next file sealed under a newer key."""
        self.keys.version += 1
        await self.node.keys.advance_all([PARTITION])

    async def rekey(self) -> None:
        """Seals everything that the log holds anew, under a newer key."""
        await self.rotate()
        while await self.log.rekey(no_rest):
            pass
        assert not self.log.outdated_bytes

    async def rewrap(self) -> None:
        """Wraps every key of the directory anew."""
        rewrapped = await self.node.keys.rewrap(None, 100)
        if rewrapped.failed:
            raise StorageError(rewrapped.failed[0])


def _next_header(log, term: int, records: int, size: int) -> EntryHeader:
    return EntryHeader(
        EntryKind.BATCH,
        Index(log.last.index + 1),
        Term(term),
        TimestampMs(1_000),
        Offset(log.end_offset),
        records - 1,
        size,
    )


def _fact(entry: Entry) -> Fact:
    header = entry.header
    return Fact(
        header.index, header.term, header.base_offset, header.next_offset, bytes(entry.payload)
    )


class Photographer:
    """Takes a photograph before a step of a disk, with the ledger of that moment."""

    def __init__(self, node: SimulatedNode, wanted) -> None:
        """`wanted` says of a step's number whether it is photographed."""
        self._node = node
        self._wanted = wanted
        self.photographs: list[tuple[Image, Ledger]] = []
        node.disk.on_step = self._look

    def _look(self, action, name):
        if self._wanted(self._node.disk.steps):
            self.take()

    def take(self) -> None:
        self.photographs.append((self._node.disk.image(), self._node.ledger))


@contextlib.contextmanager
def small_flushes():
    """While this lasts, a few entries are a large flush, and more is sealed ahead of its sync."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flushing, "INLINE_SEAL_BYTES", 64)
        patch.setattr(flushing, "SEAL_AHEAD_BYTES", 1)
        for module in (flushing, log_module):
            patch.setattr(module, "MAX_FLUSH_BYTES", 900)
        for module in (flushing, staging):
            patch.setattr(module, "MAX_FRAME_PAYLOAD_BYTES", 400)
        yield


@contextlib.contextmanager
def small_segments():
    """While this lasts, files are so small that a short story rolls often."""
    real = log_module.MAX_SEGMENT_BYTES
    log_module.MAX_SEGMENT_BYTES = SEGMENT_BYTES
    try:
        yield
    finally:
        log_module.MAX_SEGMENT_BYTES = real
