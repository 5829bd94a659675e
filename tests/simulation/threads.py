"""Worker threads without threads: what is sent to one runs at once, in the event loop.

With it a whole node runs in one thread, and the same seed gives the same run.
"""

import contextlib

import trio


async def _at_once(function, *arguments, **_options):
    await trio.lowlevel.checkpoint()
    return function(*arguments)


@contextlib.contextmanager
def inline():
    """While this lasts, `trio.to_thread.run_sync` runs its function in the caller's task."""
    real = trio.to_thread.run_sync
    trio.to_thread.run_sync = _at_once
    try:
        yield
    finally:
        trio.to_thread.run_sync = real
