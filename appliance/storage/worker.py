"""Blocking calls in worker threads, with as few switches between tasks as there can be.

`trio.to_thread.run_sync` yields once before the thread starts, names the thread, and may be
cancelled; a flush is on the way of every acknowledgement and needs none of it. Rules: the number of
threads is bounded; a call that was begun is waited for, whoever is cancelled meanwhile.
"""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import trio
from outcome import Outcome

from appliance.limits import MAX_SYNCS_AT_ONCE

T = TypeVar("T")

_bound: Final = trio.lowlevel.RunVar[trio.CapacityLimiter]("storage_threads")


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises, called in a worker thread."""
    call = Call[T]()
    await call.begin(work)
    return await call.result()


class Call(Generic[T]):
    """One call in a worker thread; whoever began it may do other things until it has ended.

    One task at a time waits, and in vain for nothing but its own waking.
    """

    __slots__ = ("_ended", "_limiter", "_task", "_woken")

    def __init__(self) -> None:
        """Nothing is called yet."""
        self._limiter = _limiter()
        self._task: trio.lowlevel.Task | None = None
        self._ended: Outcome[T] | None = None
        self._woken = False

    async def begin(self, work: Callable[[], T]) -> None:
        """Has a thread call `work`; waits only if too many are busy."""
        try:
            self._limiter.acquire_on_behalf_of_nowait(self)
        except trio.WouldBlock:
            with trio.CancelScope(shield=True):
                await self._limiter.acquire_on_behalf_of(self)
        token = trio.lowlevel.current_trio_token()

        def deliver(result: Outcome[T]) -> None:
            token.run_sync_soon(self._end, result)

        trio.lowlevel.start_thread_soon(work, deliver)

    def _end(self, result: Outcome[T]) -> None:
        self._limiter.release_on_behalf_of(self)
        self._ended = result
        self.wake()

    @property
    def ended(self) -> bool:
        """Whether the call has returned or raised."""
        return self._ended is not None

    def wake(self) -> None:
        """Has `wait` return, though the call may not have ended."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)
        else:
            self._woken = True

    async def wait(self) -> None:
        """Returns when the call has ended, or somebody called `wake` since this returned last."""
        if not (self._woken or self.ended):
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(never_aborted)
        self._woken = False

    async def result(self) -> T:
        """What the call returns or raises, once it has."""
        while self._ended is None:
            await self.wait()
        return self._ended.unwrap()


def never_aborted(_: object) -> trio.lowlevel.Abort:
    """How a wait that will surely end says that it cannot be cancelled."""
    return trio.lowlevel.Abort.FAILED


def _limiter() -> trio.CapacityLimiter:
    try:
        return _bound.get()
    except LookupError:
        limiter = trio.CapacityLimiter(MAX_SYNCS_AT_ONCE)
        _bound.set(limiter)
        return limiter
