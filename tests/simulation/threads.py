"""Worker threads without threads: what is sent to one runs at once, in the event loop.

With it a whole node runs in one thread, no clock runs ahead of a sync, and the same seed gives the
same run.
"""

import contextlib

import outcome
import trio


async def _at_once(function, *arguments, **_options):
    await trio.lowlevel.checkpoint()
    return function(*arguments)


def _delivered_at_once(work, deliver):
    deliver(outcome.capture(work))


@contextlib.contextmanager
def inline():
    """While this lasts, both of trio's ways to a thread run their function in the caller's task."""
    real = trio.to_thread.run_sync, trio.lowlevel.start_thread_soon
    trio.to_thread.run_sync, trio.lowlevel.start_thread_soon = _at_once, _delivered_at_once
    try:
        yield
    finally:
        trio.to_thread.run_sync, trio.lowlevel.start_thread_soon = real
