"""The log as the core sees it: positions and terms, never payloads.

Rules: indexes are contiguous, terms never fall from one entry to the next (Raft paper, section 5.3,
Log Matching). A term's entries are kept as one run, so the view costs memory per term, not per
entry. It knows terms from the position it was recovered at; of earlier entries the shell's log
knows.
"""

from bisect import bisect_right

from appliance.invariant import invariant
from appliance.types import Index, Position, Term


class LogView:
    """Term and index of every entry since the recovered end of the log."""

    __slots__ = ("_firsts", "_last", "_terms")

    def __init__(self, recovered: Position) -> None:
        """Starts at the last entry found by recovery; (0, 0) for an empty log."""
        self._firsts = [recovered.index]
        self._terms = [recovered.term]
        self._last = recovered

    @property
    def last(self) -> Position:
        """Term and index of the last entry, durable or not."""
        return self._last

    def append(self, term: Term) -> Position:
        """Takes the next index for an entry of this term."""
        last = self._last
        invariant(term >= last.term, "terms never fall within a log")
        position = Position(term, Index(last.index + 1))
        if term != last.term:
            self._firsts.append(position.index)
            self._terms.append(term)
        self._last = position
        return position

    def term_at(self, index: Index) -> Term | None:
        """The term of an entry, or None where this view does not reach."""
        if index > self._last.index or index < self._firsts[0]:
            return None
        return self._terms[bisect_right(self._firsts, index) - 1]

    def holds(self, position: Position) -> bool:
        """Whether the entry at that index is still the one of that term."""
        return self.term_at(position.index) == position.term
