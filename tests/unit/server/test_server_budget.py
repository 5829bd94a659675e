"""A budget never gives more than it has, loses nothing, and serves in order."""

import pytest
import trio
import trio.testing

from appliance.invariant import InvariantViolation
from appliance.server.budget import Budgets, MemoryBudget


def test_what_is_free_is_given_at_once() -> None:
    budget = MemoryBudget(10)
    assert budget.try_acquire(7)
    assert not budget.try_acquire(4)
    assert budget.free == 3
    budget.release(7)
    assert budget.free == 10


def test_who_waits_is_served_in_order_and_small_requests_do_not_overtake() -> None:
    async def play() -> None:
        budget = MemoryBudget(10)
        assert budget.try_acquire(10)
        order: list[int] = []

        async def take(count: int) -> None:
            await budget.acquire(count)
            order.append(count)

        async with trio.open_nursery() as nursery:
            for count in (8, 1, 2):  # Who is let in together wakes in no certain order.
                nursery.start_soon(take, count)
                await trio.testing.wait_all_tasks_blocked()
            assert not budget.try_acquire(1)
            budget.release(5)
            await trio.testing.wait_all_tasks_blocked()
            assert order == []
            assert not budget.try_acquire(1)
            budget.release(5)
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(order) == [1, 8]
            budget.release(8)
        assert order[2:] == [2]
        assert budget.free == 10 - 3

    trio.run(play)


def test_a_wait_that_is_cancelled_holds_nothing_and_blocks_nobody() -> None:
    async def play() -> None:
        budget = MemoryBudget(10)
        assert budget.try_acquire(6)
        done = trio.Event()

        async def small() -> None:
            await budget.acquire(3)
            done.set()

        async def wait_then_cancel(scope: trio.CancelScope) -> None:
            nursery.start_soon(small)
            await trio.testing.wait_all_tasks_blocked()
            assert not done.is_set()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(wait_then_cancel, scope)
                await budget.acquire(9)
            assert scope.cancelled_caught
            await done.wait()
        assert budget.free == 1
        budget.release(9)
        assert budget.free == 10

    trio.run(play)


def test_a_turn_granted_while_its_taker_is_cancelled_is_given_back() -> None:
    async def play() -> None:
        budget = MemoryBudget(10)
        assert budget.try_acquire(10)
        scope = trio.CancelScope()

        async def take() -> None:
            with scope:
                await budget.acquire(10)
                budget.release(10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            budget.release(10)
            scope.cancel()
        assert budget.free == 10

    trio.run(play)


def test_more_than_the_capacity_and_more_than_was_taken_are_our_own_faults() -> None:
    async def play() -> None:
        with pytest.raises(InvariantViolation):
            await MemoryBudget(10).acquire(11)

    trio.run(play)
    with pytest.raises(InvariantViolation):
        MemoryBudget(10).release(1)


def test_the_three_budgets_are_apart() -> None:
    budgets = Budgets(client_requests=1, client_replies=2, peers=3)
    assert budgets.client_requests.try_acquire(1)
    assert (budgets.client_replies.free, budgets.peers.free) == (2, 3)
