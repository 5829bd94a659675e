"""Leader and term of every group, as this node has heard; monotonic in term.

Rules: what is told of a term below the known one is old and changes nothing; within a term a leader
once named stays (Raft paper, section 5.2: there is at most one). Whoever waits for a group's leader
costs nothing until one is named. A client that is told of no leader, or of one that is dead, may
not ask again for a second: so what was just lost is waited for before clients are told.
"""

from collections.abc import Callable, Iterable

import msgspec
import trio

from appliance.limits import MAX_SUCCESSOR_WAIT_S
from appliance.types import NodeId, PartitionId, Term


class Leader(msgspec.Struct, frozen=True, gc=False):
    """Who leads a group in a term; None while nobody is known to."""

    node: NodeId | None
    term: Term


NOBODY = Leader(None, Term(0))


class LeaderTable:
    """Every group's leader."""

    def __init__(self, now_s: Callable[[], float] = trio.current_time) -> None:
        """Knows nobody yet; `now_s` is the clock by which waits end."""
        self._now_s = now_s
        self._leaders: dict[PartitionId, Leader] = {}
        self._waiting: dict[PartitionId, trio.Event] = {}
        self._lost_s: dict[PartitionId, float] = {}
        """Groups without a leader, and since when."""

    def of(self, group: PartitionId) -> Leader:
        """A group's leader, as far as it is known."""
        return self._leaders.get(group, NOBODY)

    def learn(self, group: PartitionId, leader: Leader) -> bool:
        """Takes notice; False if it is no news."""
        known = self._leaders.get(group, NOBODY)
        older = leader.term < known.term
        if older or (leader.term == known.term and known.node is not None) or leader == known:
            return False
        self._leaders[group] = leader
        if leader.node is not None:
            self._lost_s.pop(group, None)
            waiting = self._waiting.pop(group, None)
            if waiting is not None:
                waiting.set()
        return True

    def lost(self, group: PartitionId, leader: NodeId, term: Term) -> None:
        """A node says, in a term, that it does not lead, or fell silent: nobody is known to."""
        known = self._leaders.get(group, NOBODY)
        if known.node == leader and known.term <= term:
            self._leaders[group] = Leader(None, known.term)
            self._lost_s[group] = self._now_s()

    def forget(self, group: PartitionId) -> None:
        """The group is gone."""
        self._leaders.pop(group, None)
        self._lost_s.pop(group, None)
        waiting = self._waiting.pop(group, None)
        if waiting is not None:
            waiting.set()

    async def named(self, group: PartitionId) -> None:
        """Returns when a leader is known, or the group is gone."""
        await self._until(group, lambda leader: leader is not None)

    async def led_by(self, group: PartitionId, node: NodeId) -> None:
        """Returns when this node is known to lead the group, or the group is gone."""
        await self._until(group, lambda leader: leader == node)

    async def _until(self, group: PartitionId, is_led: Callable[[NodeId | None], bool]) -> None:
        while not is_led(self.of(group).node):
            event = self._waiting.setdefault(group, trio.Event())
            await event.wait()
            if group not in self._leaders:
                return

    async def replaced(self, groups: Iterable[PartitionId]) -> None:
        """Returns when each of these groups has a leader again, or lost its own too long ago."""
        for group in [each for each in groups if each in self._lost_s] if self._lost_s else ():
            since_s = self._lost_s.get(group)
            if since_s is not None:
                with trio.move_on_at(since_s + MAX_SUCCESSOR_WAIT_S):
                    await self.named(group)
