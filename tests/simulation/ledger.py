"""What a log may hold after a crash, kept beside it by whoever drives it.

`base` is everything that was called durable. An append under way may leave any number of its
entries behind; another change under way leaves the log as it was or as it will be, nothing between.
"""

from dataclasses import dataclass, replace

from appliance.types import Index, Position, Term

NOWHERE = Position(Term(0), Index(0))


@dataclass(frozen=True)
class Fact:
    """An entry, as it must come back."""

    index: int
    term: int
    base_offset: int
    next_offset: int
    body: bytes


@dataclass(frozen=True)
class View:
    """A log: what came before its first entry, where it starts for readers, and its entries."""

    before: Position = NOWHERE
    offset_before: int = 0
    start_offset: int = 0
    entries: tuple[Fact, ...] = ()
    snapshot: tuple[int, bytes] | None = None
    """What is kept of the entries up to an index, where something is."""

    @property
    def last(self) -> Position:
        if not self.entries:
            return self.before
        return Position(Term(self.entries[-1].term), Index(self.entries[-1].index))

    @property
    def end_offset(self) -> int:
        return self.entries[-1].next_offset if self.entries else self.offset_before

    def plus(self, entries: tuple[Fact, ...]) -> "View":
        return replace(self, entries=self.entries + entries)

    def up_to(self, index: int) -> "View":
        return replace(self, entries=tuple(e for e in self.entries if e.index <= index))

    def explains(self, found: "View") -> bool:
        """Whether a log that must be this one may look like `found`.

        Only entries that lie wholly below the start may be missing, and where there is a snapshot
        it takes them all in.
        """
        if found.snapshot is not None and found.before.index > found.snapshot[0]:
            return False
        gone = self.entries[: len(self.entries) - len(found.entries)]
        return (
            (self.last, self.end_offset, self.start_offset, self.snapshot)
            == (found.last, found.end_offset, found.start_offset, found.snapshot)
            and self.entries[len(gone) :] == found.entries
            and all(entry.next_offset <= self.start_offset for entry in gone)
        )


@dataclass(frozen=True)
class Ledger:
    """What is certain of a node, and what is under way."""

    base: View = View()
    staged: tuple[Fact, ...] = ()
    instead: View | None = None
    votes: tuple[object, ...] = ()
    records: tuple[bytes, ...] = ()
    sent: tuple[bytes, ...] = ()
    others: tuple[tuple[bytes, ...] | None, ...] = (None,)
    """What a second log may hold; None where there is none."""
    deleting: bool = False
    """Whether the second log's deletion was begun: it is done again at the next start."""

    def durable_up_to(self, index: int) -> "Ledger":
        now = tuple(entry for entry in self.staged if entry.index <= index)
        return replace(self, base=self.base.plus(now), staged=self.staged[len(now) :])

    def possible(self) -> list[View]:
        """Everything that the log may be after a crash now."""
        views = [self.base.plus(self.staged[:count]) for count in range(len(self.staged) + 1)]
        return views if self.instead is None else [*views, self.instead]
