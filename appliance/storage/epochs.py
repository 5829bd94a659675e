"""Which term each entry of a log is of, kept as one run per term.

Terms never fall within a log (Raft paper, section 5.3), so a term is where its run begins: memory
goes with terms, not with entries. A run also says which offset came next as it began, which is what
clients ask for when they look where an older leader's log ended (KIP-101).
"""

from bisect import bisect_right
from collections.abc import Iterable

import msgspec

from appliance.invariant import invariant
from appliance.types import Index, Offset, Term


class Epoch(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where a term's run begins: its first entry, and the next offset there."""

    term: Term
    first_index: Index
    first_offset: Offset


NO_EPOCH = Epoch(Term(0), Index(0), Offset(0))
"""Before the first entry of all: Raft's position (0, 0)."""


class EpochTable:
    """The runs of one log, oldest first; the first one reaches to before the log's first entry."""

    __slots__ = ("_indexes", "_runs")

    def __init__(self, runs: Iterable[Epoch]) -> None:
        """Takes what a manifest holds."""
        self._runs = list(runs)
        self._indexes = [run.first_index for run in self._runs]

    @property
    def runs(self) -> tuple[Epoch, ...]:
        """Every run."""
        return tuple(self._runs)

    def note(self, term: Term, index: Index, offset: Offset) -> None:
        """Learns the term of the next entry, and the next offset as it was appended."""
        if self._runs and term <= self._runs[-1].term:
            invariant(term == self._runs[-1].term, "terms never fall within a log")
            return
        self._runs.append(Epoch(term, index, offset))
        self._indexes.append(index)

    def term_at(self, index: Index) -> Term | None:
        """The term of an entry, or None before the first run; who asks knows where the log ends."""
        at = bisect_right(self._indexes, index) - 1
        return self._runs[at].term if at >= 0 else None

    def void_from(self, index: Index) -> None:
        """Forgets runs that begin at `index` or after."""
        while self._indexes and self._indexes[-1] >= index:
            self._runs.pop()
            self._indexes.pop()

    def before(self, index: Index) -> tuple[Epoch, ...]:
        """The runs that begin before `index`."""
        return tuple(run for run in self._runs if run.first_index < index)

    def forget_before(self, index: Index) -> None:
        """Forgets runs that end before `index`."""
        gone = max(0, bisect_right(self._indexes, index) - 1)
        del self._runs[:gone]
        del self._indexes[:gone]
