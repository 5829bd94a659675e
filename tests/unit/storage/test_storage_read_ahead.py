"""Reading ahead: the next piece of a scan is there when it is asked for, and is never wrong."""

import threading

import pytest
import trio
import trio.testing

from appliance.errors import StorageError
from appliance.limits import MAX_READ_AHEADS
from appliance.storage.ahead import ReadAhead
from appliance.storage.reading import Collected
from appliance.storage.worker import in_thread


def collected(start, end, max_bytes):
    return Collected(start, end, max_bytes)


async def with_ahead(body):
    ahead = ReadAhead()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ahead.run)
        await body(ahead)
        nursery.cancel_scope.cancel()


def test_what_was_wanted_is_given_once():
    async def body(ahead):
        ahead.want(1, collected, 10, 20, 100)
        await trio.testing.wait_all_tasks_blocked()
        assert await ahead.take(1, 10, 100) is not None
        assert await ahead.take(1, 10, 100) is None

    trio.run(with_ahead, body)


def test_a_piece_under_way_is_waited_for():
    async def body(ahead):
        gate, begun = threading.Event(), threading.Event()

        def slow(start, end, max_bytes):
            begun.set()
            gate.wait(30)
            return Collected(start, end, max_bytes)

        ahead.want(1, slow, 10, 20, 100)
        await trio.to_thread.run_sync(begun.wait, 30)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, gate.set)
            assert await ahead.take(1, 10, 100) is not None

    trio.run(with_ahead, body)


def test_a_read_that_fails_ahead_is_left_to_the_reader():
    async def body(ahead):
        def broken(*_):
            raise StorageError("the disk is broken")

        ahead.want(1, broken, 10, 20, 100)
        await trio.testing.wait_all_tasks_blocked()
        assert await ahead.take(1, 10, 100) is None

    trio.run(with_ahead, body)


def test_pieces_are_bounded_and_the_oldest_goes_first():
    async def body(ahead):
        last = threading.Event()

        def read(start, end, max_bytes):
            if start == MAX_READ_AHEADS:
                last.set()
            return Collected(start, end, max_bytes)

        for start in range(MAX_READ_AHEADS + 1):
            ahead.want(1, read, start, 100, 100)
        await trio.to_thread.run_sync(last.wait, 30)
        assert await ahead.take(1, 0, 100) is None
        assert await ahead.take(1, MAX_READ_AHEADS, 100) is not None
        ahead.forget(1)
        assert await ahead.take(1, 1, 100) is None

    trio.run(with_ahead, body)


def test_a_call_in_a_thread_is_waited_for_although_its_task_is_cancelled():
    async def main():
        finished = []
        with trio.move_on_after(0):
            finished.append(await in_thread(lambda: "done"))
        assert finished == ["done"]
        with pytest.raises(StorageError):
            await in_thread(_fail)

    trio.run(main)


def _fail():
    raise StorageError("no")
