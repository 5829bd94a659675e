"""Peers that are not known yet get a part of the loop's time, one at a time, and few lines."""

import functools

import pytest
import trio
import trio.testing

from appliance.limits import MAX_STRANGERS_LINES_PER_S
from appliance.server import strangers
from appliance.server.strangers import StrangersLines, StrangersTime


@pytest.fixture(name="worked")
def worked_fixture(monkeypatch) -> list[float]:
    """Processor seconds so far, in place of the thread's own."""
    spent = [0.0]
    monkeypatch.setattr(strangers, "thread_time", lambda: spent[0])
    monkeypatch.setattr(strangers, "_SWITCHES_S", 0.0)
    return spent


@pytest.mark.parametrize(("share", "least_s"), [(0.5, 0.09), (0.25, 0.27), (1, 0)])
def test_turns_take_no_more_than_their_share_of_time(worked, share, least_s) -> None:
    async def work(turns: StrangersTime) -> None:
        async with turns:
            worked[0] += 0.01

    async def main() -> None:
        turns = StrangersTime(share)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(work, turns)
        assert least_s - 1e-6 <= trio.current_time() <= least_s + 0.01

    clock = trio.testing.MockClock(autojump_threshold=0)
    begun = clock.current_time()
    assert begun == 0
    trio.run(main, clock=clock)


def test_short_turns_need_no_timer_each(worked) -> None:
    async def main() -> None:
        turns = StrangersTime(0.5)
        for _ in range(10):
            async with turns:
                worked[0] += 0.0001
        assert trio.current_time() == 0

    trio.run(main, clock=trio.testing.MockClock())


def test_who_is_known_waits_for_one_turn_or_two_however_many_strangers_there_are() -> None:
    order: list[str] = []

    async def stranger(turns: StrangersTime) -> None:
        async with turns:
            order.append("stranger")

    async def known() -> None:
        for _ in range(20):
            order.append("known")
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        turns = StrangersTime(1)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(stranger, turns)
            nursery.start_soon(known)

    trio.run(main)
    # trio shuffles what is ready, so two turns of neighbouring passes can follow each other.
    assert "stranger stranger stranger" not in " ".join(order[order.index("known") :])


def test_turns_keep_their_order_and_one_that_is_given_up_holds_up_nobody(
    worked,
) -> None:
    done: list[int] = []

    async def work(turns: StrangersTime, number: int) -> None:
        async with turns:
            worked[0] += 1
            done.append(number)

    async def main() -> None:
        turns = StrangersTime(0.5)
        async with turns:
            worked[0] += 1
        with trio.move_on_after(0.1):
            await work(turns, -1)  # It waits for the rest that the first has made necessary.
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(functools.partial(work, turns, number))
                await trio.testing.wait_all_tasks_blocked()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
    assert done == [0, 1, 2, 3]


def test_lines_are_bounded_and_those_left_out_are_counted() -> None:
    lines = StrangersLines()
    assert [lines.may_write() for _ in range(1_000)].count(True) == MAX_STRANGERS_LINES_PER_S
    assert lines.renew() == 1_000 - MAX_STRANGERS_LINES_PER_S
    assert lines.renew() == 0
    assert lines.may_write()
