"""A budget never gives more than it has, loses nothing, serves in order, and has room for all."""

import pytest
import trio
import trio.testing

from appliance.invariant import InvariantViolation
from appliance.server.budget import Holder, MemoryBudget, Purse
from appliance.server.shares import Budgets
from appliance.types import Principal, PrincipalKind


def alone(capacity: int) -> tuple[MemoryBudget, Purse]:
    """A budget, and the purse of one connection whose user holds nothing else."""
    budget = MemoryBudget(capacity)
    return budget, budget.purse(Holder())


def test_what_is_free_is_given_at_once() -> None:
    budget, purse = alone(10)
    assert purse.try_acquire(7)
    assert not purse.try_acquire(4)
    assert budget.free == 3
    purse.release(7)
    assert budget.free == 10


def test_who_waits_is_served_in_order_and_small_requests_do_not_overtake() -> None:
    async def play() -> None:
        budget, first = alone(10)
        assert first.try_acquire(10)
        order: list[int] = []
        purses = {count: budget.purse(Holder()) for count in (8, 1, 2)}

        async def take(count: int) -> None:
            await purses[count].acquire(count)
            order.append(count)

        async with trio.open_nursery() as nursery:
            for count in purses:  # Who is let in together wakes in no certain order.
                nursery.start_soon(take, count)
                await trio.testing.wait_all_tasks_blocked()
            assert not budget.purse(Holder()).try_acquire(1)
            first.release(5)
            await trio.testing.wait_all_tasks_blocked()
            assert order == []
            assert not budget.purse(Holder()).try_acquire(1)
            first.release(5)
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(order) == [1, 8]
            purses[8].release(8)
        assert order[2:] == [2]
        assert budget.free == 10 - 3

    trio.run(play)


def test_one_user_holds_half_at_the_most_and_leaves_the_same_to_the_next() -> None:
    budget, hoarder = alone(120)
    while hoarder.try_acquire(10):
        pass
    assert budget.free == 60
    second = budget.purse(Holder())
    while second.try_acquire(10):
        pass
    assert budget.free == 30
    assert budget.purse(Holder()).try_acquire(30)


def test_what_is_held_by_one_connection_counts_for_all_of_the_user() -> None:
    budget = MemoryBudget(100)
    user = Holder()
    purses = [budget.purse(user) for _ in range(20)]
    assert sum(purse.try_acquire(10) for purse in purses) == 5


def test_who_holds_nothing_may_take_all_that_is_free() -> None:
    budget, purse = alone(100)
    assert purse.try_acquire(100)
    assert budget.free == 0


def test_who_waits_for_its_own_bytes_holds_nobody_up() -> None:
    async def play() -> None:
        budget = MemoryBudget(100)
        hoarder = Holder()
        holds, waits = budget.purse(hoarder), budget.purse(hoarder)
        assert holds.try_acquire(50)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits.acquire, 10)
            await trio.testing.wait_all_tasks_blocked()
            other = budget.purse(Holder())
            for _ in range(3):
                await other.acquire(20)
                other.release(20)
            assert budget.free == 50
            holds.release(50)
        assert budget.free == 90

    trio.run(play)


def test_what_a_connection_holds_is_its_users_once_it_is_known_who_that_is() -> None:
    async def play() -> None:
        budget = MemoryBudget(100)
        stranger, user = Holder(), Holder()
        assert budget.purse(Holder()).try_acquire(60)
        purse = budget.purse(stranger)
        assert purse.try_acquire(20)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(purse.acquire, 10)
            await trio.testing.wait_all_tasks_blocked()
            purse.hand_over(user)
            assert (stranger.held, user.held) == (0, 20)
            purse.release(10)
            nursery.cancel_scope.deadline = trio.current_time() + 5
        purse.release(purse._held)
        assert (stranger.held, user.held, budget.free) == (0, 0, 40)

    trio.run(play)


def test_a_wait_that_is_cancelled_holds_nothing_and_blocks_nobody() -> None:
    async def play() -> None:
        budget, purse = alone(10)
        assert purse.try_acquire(6)
        large, small_one = budget.purse(Holder()), budget.purse(Holder())
        done = trio.Event()

        async def small() -> None:
            await small_one.acquire(3)
            done.set()

        async def wait_then_cancel(scope: trio.CancelScope) -> None:
            nursery.start_soon(small)
            await trio.testing.wait_all_tasks_blocked()
            assert not done.is_set()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(wait_then_cancel, scope)
                await large.acquire(9)
            assert scope.cancelled_caught
            await done.wait()
        assert budget.free == 1
        purse.release(6)
        small_one.release(3)
        assert budget.free == 10

    trio.run(play)


def test_a_turn_granted_while_its_taker_is_cancelled_is_given_back() -> None:
    async def play() -> None:
        budget, purse = alone(10)
        assert purse.try_acquire(10)
        other = budget.purse(Holder())
        scope = trio.CancelScope()

        async def take() -> None:
            with scope:
                await other.acquire(10)
                other.release(10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            purse.release(10)
            scope.cancel()
        assert budget.free == 10

    trio.run(play)


def test_more_than_the_capacity_and_more_than_was_taken_are_our_own_faults() -> None:
    async def play() -> None:
        with pytest.raises(InvariantViolation):
            await alone(10)[1].acquire(11)

    trio.run(play)
    with pytest.raises(InvariantViolation):
        alone(10)[1].release(1)


def test_the_three_budgets_are_apart() -> None:
    budgets = Budgets(client_requests=1, client_replies=2, peers=3)
    assert budgets.client_requests.purse(Holder()).try_acquire(1)
    assert (budgets.client_replies.free, budgets.peers.free) == (2, 3)


def test_a_users_part_lasts_as_long_as_its_connections() -> None:
    budgets = Budgets()
    alice = Principal(PrincipalKind.USER, "alice")
    part = budgets.of(alice)
    part.turns.spent_s = 1.0
    assert budgets.of(Principal(PrincipalKind.USER, "alice")) is part
    assert budgets.of(Principal(PrincipalKind.NODE, "alice")) is not part
    del part
    assert budgets.of(alice).turns.spent_s == 0
