"""What one member's disk holds: its journal, its log and its snapshot.

Rules: a write is in one piece or not there, in order; what was not acknowledged when the power
went may be there or not, as a prefix.
"""

from typing import NamedTuple

from appliance.ports import HardState
from appliance.raft.configuration import Configuration, Placed
from appliance.raft.ready import Recovered
from appliance.types import EntryKind, Index, Position, Term


class Record(NamedTuple):
    """An entry as members store and send it."""

    term: int
    kind: EntryKind
    value: int
    configuration: Configuration | None


class Snapshot(NamedTuple):
    """The state machine as of a position."""

    position: Position
    digest: int
    placed: Placed


class Write(NamedTuple):
    """One persist: hard state, then truncation, then entries."""

    hard: HardState | None
    truncate_after: int | None
    first: int
    records: tuple[Record, ...]


class Disk:
    """Durable state; `records[0]` is the entry behind `base`."""

    def __init__(self, members: Configuration) -> None:
        self.hard = HardState()
        self.base = Position(Term(0), Index(0))
        self.records: list[Record] = []
        self.snapshot = Snapshot(self.base, 0, Placed(Index(0), members))
        self.known_last: Position | None = None
        """What the journal says that the log held, once it can be read no more."""

    @property
    def last_index(self) -> int:
        """The last entry held."""
        return self.base.index + len(self.records)

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or None."""
        if index == self.base.index:
            return self.base.term
        at = index - self.base.index - 1
        return self.records[at].term if 0 <= at < len(self.records) else None

    def holds(self, index: int, term: int) -> bool:
        """Whether an entry is there, or in the snapshot."""
        return index <= self.snapshot.position.index or self.term_at(index) == term

    def vouches(self, index: int, term: int) -> bool:
        """Whether this member helps to keep an entry: it holds it, or remembers that it did."""
        return self.holds(index, term) or (
            self.known_last is not None and self.known_last >= Position(Term(term), Index(index))
        )

    def damage(self, entries: int) -> None:
        """The end of the log cannot be read any more, and the journal knows that it was there."""
        last = Position(Term(self.term_at(self.last_index) or 0), Index(self.last_index))
        self.known_last = max(self.known_last or last, last)
        keep = max(self.snapshot.position.index, self.last_index - entries)
        del self.records[keep - self.base.index :]

    def write(self, write: Write, entries: int | None = None) -> None:
        """Takes one persist, or its first so many entries."""
        if write.hard is not None:
            self.hard = write.hard
        if write.truncate_after is not None:
            del self.records[max(0, write.truncate_after - self.base.index) :]
        records = write.records if entries is None else write.records[:entries]
        if records:
            at = write.first - self.base.index - 1
            self.records[at:] = records

    def keep(self, snapshot: Snapshot, base: int) -> None:
        """Replaces the snapshot and forgets entries up to `base`."""
        self.snapshot = snapshot
        if base > self.base.index:
            term = self.term_at(base)
            del self.records[: base - self.base.index]
            self.base = Position(Term(term or 0), Index(base))

    def install(self, snapshot: Snapshot) -> None:
        """A snapshot stands in place of the log."""
        self.snapshot = snapshot
        self.base = snapshot.position
        self.records = []

    def configurations(self) -> tuple[Placed, ...]:
        """Of the snapshot and the log behind it."""
        found = [self.snapshot.placed]
        for at, record in enumerate(self.records, self.base.index + 1):
            if record.configuration is not None and at > self.snapshot.placed.index:
                found.append(Placed(Index(at), record.configuration))
        return tuple(found)

    def recovered(self) -> Recovered:
        """What a restart finds."""
        terms: list[Position] = []
        before = self.base.term
        for at, record in enumerate(self.records, self.base.index + 1):
            if record.term != before:
                terms.append(Position(Term(record.term), Index(at)))
                before = record.term
        last = Position(Term(before), Index(self.last_index))
        return Recovered(
            state=self.hard,
            last=last,
            base=self.base,
            terms=tuple(terms),
            configurations=self.configurations(),
            snapshot=self.snapshot.position,
            known_last=self.known_last,
        )
