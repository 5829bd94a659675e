"""A member: the shell around one core, on a simulated disk and network.

Rules: it does what `raft.ready` asks of a shell, in that order, and nothing more: persists are
acknowledged one by one as their syncs return, several under way; committed entries are applied once
they are durable here. A crash loses what was not synced, or keeps a prefix of it.
"""

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from checkers import is_quorum
from cores.disk import Disk, Record, Snapshot, Write
from cores.world import Dice

from appliance.limits import RAFT_TICK_MS
from appliance.raft.configuration import Placed
from appliance.raft.core import Core
from appliance.raft.messages import Append, AppendReply, Message, Run, SnapshotOffer, VoteReply
from appliance.raft.ready import Ready, Refused, Role, SendEntries
from appliance.raft.trace import Trace
from appliance.types import EntryKind, Index, Position, Term

if TYPE_CHECKING:
    from cores.group import Group

Parcel = tuple[Message, tuple[Record, ...]]


class Member:
    """One node's part in the group."""

    def __init__(self, group: "Group", node: int, disk: Disk) -> None:
        self.group = group
        self.world = group.world
        self.node = node
        self.disk = disk
        self.life = 0
        self.up = False
        self.paused = False
        self.rot = False
        """The disk will have lost the end of the log by the next start."""
        self.drift = 1.0
        self.sync_ms = group.world.random.choice((0.5, 2.0, 10.0, 150.0, 600.0))
        self.inbox: deque[Parcel] = deque()
        self.digest = 0
        self.applied = 0
        self.proposals: dict[int, tuple[int, int]] = {}
        self.reads: dict[int, int] = {}
        self._parcels: tuple[Record, ...] = ()
        self._parcel_first = 0

    # --- life and death -------------------------------------------------------------------------

    def start(self) -> None:
        """The process starts on what its disk holds."""
        if self.rot:
            self.disk.damage(self.world.random.randint(0, 12))
            self.group.checkers.damaged(self.node)
            self.world.faults["damaged logs"] += 1
            self.rot = False
        self.life += 1
        self.up, self.paused = True, False
        self.inbox.clear()
        snapshot = self.disk.snapshot
        self.digest, self.applied = snapshot.digest, snapshot.position.index
        self.log: list[Record] = list(self.disk.records)
        self.base = self.disk.base
        self.writes: deque[tuple[Write, Position | None]] = deque()
        self.committed = self.applied
        self.led = 0
        """The last term that this life has led."""
        self.proposals.clear()
        self.reads.clear()
        trace = Trace(self.world.say) if self.world.lines is not None else None
        recovered = self.disk.recovered()
        self.core = Core(
            node=self.node,
            recovered=recovered,
            entropy=Dice(self.world.random.getrandbits(32)),
            incarnation=self.life,
            trace=trace,
        )
        self._wake(self.life)

    def crash(self) -> None:
        """The power goes: of what was not synced, a prefix may be there."""
        self.world.say(f"{self.node} CRASHES")
        dice = self.world.random
        self.up = False
        kept = dice.randint(0, len(self.writes))
        for _ in range(kept):
            self.disk.write(self.writes.popleft()[0])
        if self.writes and dice.random() < 0.3:
            write = self.writes[0][0]
            self.disk.write(write, dice.randint(0, len(write.records)))
        if self.writes:
            self.world.faults["lost unsynced writes"] += 1
        self.writes.clear()
        self.group.checkers.saved(self.node, self.disk.hard.term, self.disk.hard.vote)

    def resume(self) -> None:
        """The process goes on after a pause; what came meanwhile is worked off first."""
        if not self.up or not self.paused:
            return
        self.paused = False
        self.core.restart_timer()
        while self.inbox:
            self._step(*self.inbox.popleft())

    def _wake(self, life: int) -> None:
        if life != self.life or not self.up:
            return
        self.world.after(RAFT_TICK_MS * self.drift, partial(self._wake, life))
        if self.paused:
            return
        if self.group.quiet and self.core.idle:
            self.group.vouch(self)
        else:
            self.core.tick()
            self.drain()

    # --- inputs ---------------------------------------------------------------------------------

    def receive(self, parcel: Parcel) -> None:
        """Something arrived."""
        if self.paused:
            self.inbox.append(parcel)
        elif self.up:
            self._step(*parcel)

    def _step(self, message: Message, records: tuple[Record, ...]) -> None:
        if isinstance(message, VoteReply) and message.granted:
            self.group.checkers.vote_heard(self.node, message.term, message.sender)
        self._parcels = records
        self._parcel_first = message.previous.index + 1 if isinstance(message, Append) else 0
        self.core.step(message)  # type: ignore[arg-type]
        self.drain()

    def propose(self, value: int) -> bool:
        """A client writes; whether the member took it."""
        try:
            position = self.core.propose(EntryKind.COMMAND, 100)
        except Refused:
            return False
        self.proposals[position.index] = (position.term, value)
        self.drain()
        return True

    def read(self, context: int) -> bool:
        """A client reads; whether the member took it."""
        try:
            self.core.read_index(Index(context))
        except Refused:
            return False
        self.reads[context] = self.group.checkers.now()
        self.drain()
        return True

    # --- outputs --------------------------------------------------------------------------------

    def drain(self) -> None:
        """Carries out what the core asks for."""
        ready = self.core.ready()
        if ready.leadership is not None and ready.leadership.role is Role.LEADER:
            self._leads(ready.leadership.term)
        for message in ready.messages:
            self._watch(message)
            self.group.network.send(self.node, message.to, (message, ()))
        if ready.hard_state is not None or ready.truncate_after is not None or ready.entries:
            self._persist(ready)
        for send in ready.sends:
            self._send(send)
        if ready.configuration is not None:
            self._check_configuration()
        if ready.install is not None:
            self._fetch(ready.install)
        if ready.commit > self.committed:
            self._commit(ready.commit)
        for read in ready.reads:
            self.group.checkers.read(read.index, self.reads.pop(read.context))
        for context in ready.reads_lost:
            self.reads.pop(context, None)
        if ready.shrunk:
            self.world.faults["shrunk log seen"] += 1

    def _watch(self, message: Message) -> None:
        """Promises that leave this member."""
        if isinstance(message, VoteReply) and message.granted:
            hard = self.disk.hard
            self.group.checkers.votes(self.node, message.term, message.to, (hard.term, hard.vote))
        elif isinstance(message, AppendReply) and message.conflict is None:
            held = self.disk.holds(message.match, self.core.term_at(message.match) or 0)
            self.group.checkers.attested(
                self.node, message.term, message.match, self.disk.hard.term, held=held
            )

    def _leads(self, term: Term) -> None:
        if self.core.role is not Role.LEADER or self.core.term != term:
            return
        self.led = term
        checkers = self.group.checkers
        index = checkers.last_committed
        hard = self.disk.hard
        checkers.votes(self.node, term, self.node, (hard.term, hard.vote))
        checkers.leads(
            (self.node, self.life),
            term,
            self.core.configuration,
            self.core.last.index,
            self.core.term_at(Index(index)),
        )

    def _persist(self, ready: Ready) -> None:
        first = ready.entries[0].first if ready.entries else 0
        if ready.truncate_after is not None:
            self.group.world.faults["entries taken back"] += 1
            self.group.checkers.taken_back(
                self.node, self.core.term, ready.truncate_after, self.committed
            )
            del self.log[ready.truncate_after - self.base.index :]
        records: list[Record] = []
        before = self._term_at(first - 1) if first else 0
        for run in ready.entries:
            if run.configuration is not None and self.core.role is Role.LEADER:
                self._changes(run)
            for index in range(run.first, run.last + 1):
                record = self._record(run, index)
                self.group.checkers.holds(self.node, index, record.term, record[2:], before)
                before = record.term
                records.append(record)
        self.log.extend(records)
        write = Write(ready.hard_state, ready.truncate_after, first, tuple(records))
        position = ready.entries[-1].position if ready.entries else None
        self.writes.append((write, position))
        delay_ms = self.sync_ms * (0.2 + self.world.random.random())
        self.world.after(delay_ms, partial(self._synced, self.life))

    def _changes(self, run: Run) -> None:
        before = self._placed_in_log()
        if run.configuration is not None:
            self.group.checkers.changes(
                self.node,
                before.configuration,
                run.configuration,
                settled=before.index <= self.core.commit,
            )

    def _record(self, run: Run, index: int) -> Record:
        """What stands at an index: proposed here, made by the core, or come with a message."""
        if self.core.role is Role.LEADER and run.term == self.core.term:
            proposed = self.proposals.get(index)
            value = proposed[1] if proposed is not None and proposed[0] == run.term else 0
            return Record(run.term, run.kind, value, run.configuration)
        return self._parcels[index - self._parcel_first]

    def _synced(self, life: int) -> None:
        """The oldest outstanding persist has returned."""
        if life != self.life or not self.up or not self.writes:
            return
        write, position = self.writes.popleft()
        self.disk.write(write)
        if self.disk.known_last is not None and not self.core.damaged:
            self.disk.known_last = None
        if write.hard is not None:
            self.group.checkers.saved(self.node, write.hard.term, write.hard.vote)
        self.core.advance(saved=write.hard, persisted=position)
        self.drain()
        self._apply()

    def _send(self, send: SendEntries) -> None:
        """Reads the entries and sends them, in parts if the group says so."""
        previous, first = send.previous, send.first
        limit = self.group.part_entries
        while True:
            last = min(send.last, first + limit - 1)
            records = tuple(self.log[first - self.base.index - 1 : last - self.base.index])
            message = send.message(self.node, _runs(first, records), previous)  # type: ignore[arg-type]
            self.group.network.send(self.node, send.to, (message, records))
            if last >= send.last:
                return
            previous = Position(Term(records[-1].term), Index(last))
            first = Index(last + 1)

    def _term_at(self, index: int) -> int:
        if index <= self.base.index:
            return self.base.term
        return self.log[index - self.base.index - 1].term

    def _check_configuration(self) -> None:
        placed = self._placed_in_log()
        self.group.checkers.configured(self.node, self.core.configuration, placed.configuration)

    def _placed_in_log(self) -> Placed:
        placed = self.disk.snapshot.placed
        for at in range(len(self.log) - 1, -1, -1):
            configuration = self.log[at].configuration
            if configuration is not None:
                index = Index(self.base.index + 1 + at)
                if index > placed.index:
                    placed = Placed(index, configuration)
                break
        return placed

    # --- committed ------------------------------------------------------------------------------

    def _commit(self, commit: Index) -> None:
        leads = self.core.term == self.led
        for index in range(max(self.committed, self.base.index) + 1, commit + 1):
            self.group.checkers.decided(self.node, index, self._term_at(index), leads=leads)
        self.committed = commit
        if leads:
            term = self.core.term_at(commit)
            members = self.group.members
            quorum = is_quorum(
                self.core.configuration,
                lambda node: node in members and members[node].disk.vouches(commit, term or 0),
            )
            self.group.checkers.committed_by_leader(
                self.node, commit, term or 0, self.core.term, quorum=quorum
            )
        self._apply()

    def _apply(self) -> None:
        end = min(self.committed, self.core.durable)
        if end <= self.applied:
            return
        for index in range(self.applied + 1, end + 1):
            record = self.log[index - self.base.index - 1]
            self.group.checkers.applied(self.node, index, record.term, record[2:])
            self.digest = self.group.digest(index, self.digest, record.value)
            proposed = self.proposals.pop(index, None)
            if proposed is not None and proposed[0] == record.term:
                self.group.checkers.wrote(index, record[2:])
        self.applied = end
        self.core.advance(applied=Index(end))

    def compact(self, base: int) -> None:
        """Takes a snapshot of what is applied, and lets go of entries up to `base`."""
        term = self.core.term_at(Index(self.applied))
        if term is None or self.applied <= self.disk.snapshot.position.index:
            return
        position = Position(term, Index(self.applied))
        placed = self.disk.snapshot.placed
        for found in self.disk.configurations():
            if found.index <= self.applied:
                placed = found
        snapshot = Snapshot(position, self.digest, placed)
        base = max(self.base.index, min(base, self.applied))
        self.group.snapshots[position] = snapshot
        self.disk.keep(snapshot, base)
        del self.log[: base - self.base.index]
        self.base = self.disk.base
        self.core.compact(base=Index(base), snapshot=position)
        self.group.checkers.begins(self.node, self.core.base, self.disk.base)
        self.world.faults["snapshots taken"] += 1
        self.drain()

    def _fetch(self, offer: SnapshotOffer) -> None:
        delay_ms = self.world.random.choice((5, 50, 800)) * (0.5 + self.world.random.random())
        self.world.after(delay_ms, partial(self._fetched, self.life, offer))

    def _fetched(self, life: int, offer: SnapshotOffer) -> None:
        if life != self.life or not self.up:
            return
        if self.core.installing != offer:
            return
        if not self.group.reaches(offer.sender, self.node):
            self.world.faults["snapshots broken off"] += 1
            self.core.refuse_snapshot()
            self.drain()
            return
        while self.writes:
            self._synced(life)
        if self.core.installing != offer:
            return
        snapshot = self.group.snapshots[offer.position]
        self.group.checkers.replaced(
            self.node, self.core.term, offer.position.index, self.committed
        )
        self.disk.install(snapshot)
        self.world.faults["snapshots installed"] += 1
        self.log, self.base = [], snapshot.position
        self.digest, self.applied = snapshot.digest, snapshot.position.index
        self.committed = max(self.committed, self.applied)
        self.core.advance(snapshot=offer.position)
        self.drain()
        self._check_configuration()


def _runs(first: int, records: tuple[Record, ...]) -> tuple[Run, ...]:
    """What the core of the receiver needs to know of entries."""
    runs: list[Run] = []
    begin = 0
    for at, record in enumerate(records):
        last = at + 1 == len(records)
        if (
            last
            or record.configuration is not None
            or records[at + 1][:2] != record[:2]
            or records[at + 1].configuration is not None
        ):
            sizes = (100,) * (at + 1 - begin)
            runs.append(
                Run(Index(first + begin), Term(record.term), record.kind, sizes,
                    record.configuration)
            )  # fmt: skip
            begin = at + 1
    return tuple(runs)
