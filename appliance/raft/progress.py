"""What a leader knows of one member of its group (thesis, sections 10.1.2 and 10.2.1).

Rules: in PROBE one append is under way at a time, until it is known where the logs agree; in
REPLICATE appends are pipelined, at most a window of them; in SNAPSHOT none are sent, for the member
needs entries that are gone. What is taken for lost is probed again from the last agreement.
"""

from collections import deque
from enum import IntEnum

from appliance.limits import MAX_APPENDS_IN_FLIGHT
from appliance.types import Index


class Mode(IntEnum):
    """How a member is fed."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Progress:
    """One member, as its leader sees it; its match index stands in `Leading.match`."""

    __slots__ = ("active", "commit_known", "commit_told", "in_flight", "incarnation",
                 "match_incarnation", "mode", "next", "offered", "reachable", "silent_ticks",
                 "waiting")  # fmt: skip

    def __init__(self, following: Index) -> None:
        """Starts with a probe at the end of the leader's log."""
        self.mode = Mode.PROBE
        self.next = following
        self.waiting = False
        """A probe is under way."""
        self.in_flight: deque[Index] = deque()
        """The last index of each append under way."""
        self.offered = Index(0)
        """The end of the snapshot that was offered."""
        self.commit_told = Index(0)
        self.commit_known = Index(0)
        """What the member said that it knows to be committed."""
        self.silent_ticks = 0
        """While an answer of it is outstanding."""
        self.active = True
        """Heard since the last check of the quorum; a new term grants that to everybody."""
        self.reachable = True
        """Nothing is sent to a member that the shell cannot reach, until it is heard again."""
        self.incarnation = 0
        """Of the latest answer."""
        self.match_incarnation = 0
        """Of the answer that gave the match index."""

    @property
    def may_send(self) -> bool:
        """Whether there is room for another append."""
        if not self.reachable:
            return False
        if self.mode is Mode.REPLICATE:
            return len(self.in_flight) < MAX_APPENDS_IN_FLIGHT
        return self.mode is Mode.PROBE and not self.waiting

    def probe(self, following: Index) -> None:
        """Starts anew from where the logs last agreed."""
        self.mode = Mode.PROBE
        self.next = following
        self.waiting = False
        self.in_flight.clear()
        self.commit_told = Index(0)

    def sent(self, last: Index) -> None:
        """An append up to `last` has left."""
        if self.mode is Mode.REPLICATE:
            self.in_flight.append(last)
            self.next = Index(last + 1)
        else:
            self.waiting = True

    def agreed(self, match: Index) -> None:
        """The logs agree up to `match`: from here on appends may be pipelined."""
        self.silent_ticks = 0
        if self.mode is not Mode.REPLICATE:
            self.probe(Index(match + 1))
            self.mode = Mode.REPLICATE
            return
        while self.in_flight and self.in_flight[0] <= match:
            self.in_flight.popleft()
        self.next = max(self.next, Index(match + 1))

    def offer(self, end: Index) -> None:
        """A snapshot up to `end` has been offered."""
        self.probe(self.next)
        self.mode = Mode.SNAPSHOT
        self.offered = end
