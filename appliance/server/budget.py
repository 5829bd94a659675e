"""Memory budgets: bytes are admitted before they are held, and who finds no room waits its turn.

Rules (DESIGN section 8):

- Full means waiting, never dropping.
- A holder, which is all that one user's connections hold together, gets no more than what it leaves
  free (Choudhury and Hahne, 'Dynamic queue length thresholds', 1998): one alone half of the
  budget, two a third each. So there is always room for who holds nothing yet, however many replies
  somebody else does not read. Who holds nothing may take all that is free.
- Holders are served first come, first served, each in its own order; one that waits for its own
  bytes to come back holds nobody up.
"""

from collections import deque

import trio

from appliance.invariant import invariant


class Holder:
    """What one user holds of one budget, and which of its connections wait for more."""

    __slots__ = ("held", "waiting")

    def __init__(self) -> None:
        """Holds nothing."""
        self.held = 0
        self.waiting: deque[tuple[int, trio.Event]] = deque()


class MemoryBudget:
    """A number of bytes that many hold parts of; they are taken through a `Purse`."""

    __slots__ = ("_free", "_waiting", "capacity")

    def __init__(self, capacity: int) -> None:
        """`capacity` bytes, all free."""
        self.capacity = capacity
        self._free = capacity
        self._waiting: dict[Holder, None] = {}

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    def purse(self, holder: Holder) -> "Purse":
        """For a connection of this holder."""
        return Purse(self, holder)

    def try_acquire(self, count: int, holder: Holder) -> bool:
        """Takes `count` bytes if the holder may have them, and nobody is due before it."""
        if not self._may_have(count, holder):
            return False
        if self._waiting and (holder.waiting or not all(map(_waits_for_itself, self._waiting))):
            return False
        self._take(count, holder)
        return True

    async def acquire(self, count: int, holder: Holder) -> None:
        """Takes `count` bytes, at most the capacity, when it is the caller's turn.

        A checkpoint only if it has to wait.
        """
        invariant(count <= self.capacity, "what a budget is asked for fits into it")
        if self.try_acquire(count, holder):
            return
        turn = (count, trio.Event())
        holder.waiting.append(turn)
        self._waiting[holder] = None
        try:
            await turn[1].wait()
        except BaseException:
            if turn[1].is_set():
                self.release(count, holder)
            else:
                holder.waiting.remove(turn)
                self._admit()
            raise

    def release(self, count: int, holder: Holder) -> None:
        """Gives `count` bytes back, to those who wait first."""
        self._free += count
        holder.held -= count
        invariant(
            self._free <= self.capacity and holder.held >= 0, "a budget gets back what it gave"
        )
        if self._waiting:
            self._admit()

    def _may_have(self, count: int, holder: Holder) -> bool:
        return count <= self._free and (not holder.held or holder.held + count <= self._free)

    def _take(self, count: int, holder: Holder) -> None:
        self._free -= count
        holder.held += count

    def _admit(self) -> None:
        for holder in tuple(self._waiting):
            waiting = holder.waiting
            while waiting and self._may_have(waiting[0][0], holder):
                count, turn = waiting.popleft()
                self._take(count, holder)
                turn.set()
            if not waiting:
                del self._waiting[holder]
            elif not _waits_for_itself(holder):
                return


def _waits_for_itself(holder: Holder) -> bool:
    """Whether a holder that waits could be served by giving back what it holds."""
    return holder.held > 0


class Purse:
    """What one connection holds of a budget, as a part of what its user holds."""

    __slots__ = ("_budget", "_held", "_holder")

    def __init__(self, budget: MemoryBudget, holder: Holder) -> None:
        """Empty."""
        self._budget = budget
        self._holder = holder
        self._held = 0

    @property
    def capacity(self) -> int:
        """Of the budget, in bytes."""
        return self._budget.capacity

    def try_acquire(self, count: int) -> bool:
        """See `MemoryBudget.try_acquire`."""
        if not self._budget.try_acquire(count, self._holder):
            return False
        self._held += count
        return True

    async def acquire(self, count: int) -> None:
        """See `MemoryBudget.acquire`."""
        holder = self._holder
        await self._budget.acquire(count, holder)
        self._held += count
        if holder is not self._holder:
            _move(count, holder, self._holder)

    def release(self, count: int) -> None:
        """See `MemoryBudget.release`."""
        self._held -= count
        self._budget.release(count, self._holder)

    def hand_over(self, holder: Holder) -> None:
        """What is held counts for another holder from now on: it is known now who it is."""
        _move(self._held, self._holder, holder)
        self._holder = holder


def _move(count: int, giver: Holder, taker: Holder) -> None:
    giver.held -= count
    taker.held += count
