"""The log as the core sees it: positions, terms and sizes, never payloads.

Rules: indexes are contiguous, terms never fall from one entry to the next (Raft paper, section 5.3,
Log Matching). A term's entries are kept as one run, so the view costs memory per term, not per
entry; sizes are kept for the undecided tail alone. It begins at `base`, the entry before the first
that this node can send; of what lies before, only a snapshot knows.
"""

from bisect import bisect_right
from collections.abc import Sequence

from appliance.invariant import invariant
from appliance.types import Index, Position, Term


class LogView:
    """Term and index of every entry from `base` on."""

    __slots__ = ("_ends", "_firsts", "_last", "_sized", "_terms")

    def __init__(self, base: Position, terms: Sequence[Position], last: Position) -> None:
        """Takes what recovery found: where each term begins in (base, last]."""
        self._firsts = [base.index]
        self._terms = [base.term]
        self._last = base
        for begin in terms:
            self._begin(begin)
        invariant(last >= self._last and last.term == self._terms[-1], "the terms reach the end")
        self._last = last
        self._sized = last.index
        self._ends: list[int] = []

    def _begin(self, begin: Position) -> None:
        invariant(begin.index > self._last.index, "terms begin in order")
        invariant(begin.term >= self._last.term, "terms never fall within a log")
        if begin.term != self._last.term:
            self._firsts.append(begin.index)
            self._terms.append(begin.term)
        self._last = begin

    @property
    def base(self) -> Position:
        """The entry before the first that can be sent."""
        return Position(self._terms[0], self._firsts[0])

    @property
    def last(self) -> Position:
        """Term and index of the last entry, durable or not."""
        return self._last

    def append(self, term: Term, sizes: Sequence[int]) -> Position:
        """Takes the next indexes for entries of one term."""
        last = self._last
        if term != last.term:
            invariant(term > last.term, "terms never fall within a log")
            self._firsts.append(Index(last.index + 1))
            self._terms.append(term)
        end = self._ends[-1] if self._ends else 0
        for size in sizes:
            end += size
            self._ends.append(end)
        self._last = Position(term, Index(last.index + len(sizes)))
        return self._last

    def truncate(self, after: Index) -> None:
        """Takes back every entry behind an index, at or behind the base."""
        invariant(self._firsts[0] <= after, "what a snapshot holds is never taken back")
        if after >= self._last.index:
            return
        keep = bisect_right(self._firsts, after)
        del self._firsts[keep:], self._terms[keep:]
        self._last = Position(self._terms[-1], after)
        if after >= self._sized:
            del self._ends[after - self._sized :]
        else:
            self._sized, self._ends = after, []

    def compact(self, base: Index) -> None:
        """Forgets what lies before an entry: it can be sent no more."""
        if base <= self._firsts[0]:
            return
        term = self.term_at(base)
        invariant(term is not None, "a log is compacted within itself")
        keep = bisect_right(self._firsts, base) - 1
        del self._firsts[:keep], self._terms[:keep]
        self._firsts[0] = base
        self.forget_sizes(base)

    def forget_sizes(self, decided: Index) -> None:
        """Lets go of the sizes up to an index; ranges from there on are cut by count alone."""
        count = min(decided, self._last.index) - self._sized
        if count > 0:
            del self._ends[:count]
            self._sized = Index(self._sized + count)

    def term_at(self, index: Index) -> Term | None:
        """The term of an entry, or None where this view does not reach."""
        if index > self._last.index or index < self._firsts[0]:
            return None
        return self._terms[bisect_right(self._firsts, index) - 1]

    def holds(self, position: Position) -> bool:
        """Whether the entry at that index is still the one of that term."""
        return self.term_at(position.index) == position.term

    def agrees_up_to(self, first: Index, last: Index, term: Term) -> Index:
        """The end of the entries from `first` on, to `last` at most, that are of this term."""
        if self.term_at(first) != term:
            return Index(first - 1)
        following = bisect_right(self._firsts, first)
        end = self._last.index
        if following < len(self._firsts):
            end = Index(self._firsts[following] - 1)
        return min(end, last)

    def can_agree(self, position: Position) -> Position:
        """The last entry that a log with `position` in it can share with this one.

        Terms never fall, so it is no later than `position` and of no later term (section 5.3).
        """
        index = min(position.index, self._last.index)
        if index < self._firsts[0]:
            return self.base
        at = bisect_right(self._firsts, index) - 1
        while at > 0 and self._terms[at] > position.term:
            at -= 1
            index = Index(self._firsts[at + 1] - 1)
        return Position(self._terms[at], index)

    def cut(self, first: Index, entries: int, size_bytes: int) -> Index:
        """The last of at most so many entries and bytes from `first` on; at least one entry."""
        last = Index(min(self._last.index, first + entries - 1))
        begin = first - 1 - self._sized
        if begin < 0:
            return last
        before = self._ends[begin - 1] if begin else 0
        fits = bisect_right(self._ends, before + size_bytes, begin)
        return max(first, min(last, Index(self._sized + fits)))
