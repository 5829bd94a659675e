"""One blocking call in a worker thread, with as few switches between tasks as there can be.

`trio.to_thread.run_sync` yields once before the thread starts, names the thread, and may be
cancelled; a flush is on the way of every acknowledgement and needs none of it. Rules: the number of
threads is bounded; a call that was begun is waited for, whoever is cancelled meanwhile.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import trio
from outcome import Outcome

from appliance.limits import MAX_SYNCS_AT_ONCE

T = TypeVar("T")

_bound: Final = trio.lowlevel.RunVar[trio.CapacityLimiter]("storage_threads")


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises, called in a worker thread."""
    limiter = _limiter()
    borrower = object()
    try:
        limiter.acquire_on_behalf_of_nowait(borrower)
    except trio.WouldBlock:
        await limiter.acquire_on_behalf_of(borrower)
    try:
        return await _called(work)
    finally:
        limiter.release_on_behalf_of(borrower)


async def _called(work: Callable[[], T]) -> T:
    task = trio.lowlevel.current_task()
    token = trio.lowlevel.current_trio_token()

    def deliver(result: Outcome[T]) -> None:
        token.run_sync_soon(trio.lowlevel.reschedule, task, result)

    def abort(_: object) -> trio.lowlevel.Abort:
        return trio.lowlevel.Abort.FAILED

    trio.lowlevel.start_thread_soon(work, deliver)
    found: T = await trio.lowlevel.wait_task_rescheduled(abort)
    return found


def _limiter() -> trio.CapacityLimiter:
    try:
        return _bound.get()
    except LookupError:
        limiter = trio.CapacityLimiter(MAX_SYNCS_AT_ONCE)
        _bound.set(limiter)
        return limiter
