"""Users take turns: who has had a slice waits until everybody else has been looked at."""

import pytest
import trio

from appliance.limits import CROWD_S, TURN_ALONE_S, TURN_S
from appliance.server import turns as turns_module
from appliance.server.turns import Crowd, UsersTurns


@pytest.fixture(name="now")
def now_fixture(monkeypatch) -> list[float]:
    """Seconds that work has taken so far, in place of the clock."""
    spent = [0.0]
    monkeypatch.setattr(turns_module, "clock", lambda: spent[0])
    return spent


def test_a_user_with_many_connections_gets_one_slice_a_round(now) -> None:
    order: list[str] = []

    async def connection(turns: UsersTurns, who: str, pieces: int) -> None:
        for _ in range(pieces):
            async with turns:
                now[0] += TURN_S
                order.append(who)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        many, one = UsersTurns(crowd := Crowd()), UsersTurns(crowd)
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(connection, many, "many", 10)
            nursery.start_soon(connection, one, "one", 10)

    trio.run(main)
    assert order.count("many") == 1000
    last = max(place for place, who in enumerate(order) if who == "one")
    assert last < 50


def test_everyone_of_a_users_connections_gets_its_turn(now) -> None:
    had = [0] * 20

    async def connection(turns: UsersTurns, number: int) -> None:
        while min(had) < 5:
            async with turns:
                now[0] += TURN_S
                had[number] += 1
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        turns = UsersTurns(Crowd())
        async with trio.open_nursery() as nursery:
            for number in range(len(had)):
                nursery.start_soon(connection, turns, number)

    trio.run(main)
    assert max(had) <= 7


def test_within_a_slice_nobody_waits(now) -> None:
    async def main() -> None:
        turns = UsersTurns(Crowd())
        rounds = 0

        async def count_rounds() -> None:
            nonlocal rounds
            while True:
                await trio.lowlevel.checkpoint()
                rounds += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_rounds)
            for _ in range(10):
                async with turns:
                    now[0] += TURN_S / 20
            assert rounds == 0
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_who_is_cancelled_in_line_leaves_it(now) -> None:
    async def main() -> None:
        turns = UsersTurns(Crowd())
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                turns.spent_s = TURN_S
                nursery.start_soon(turns.wait)
                scope.cancel()
                await turns.wait()
            assert scope.cancelled_caught
        turns.spent_s = TURN_S
        with trio.fail_after(5):
            await turns.wait()
        assert not turns.used_up

    trio.run(main)


def test_who_is_alone_has_a_long_slice_until_somebody_comes(now) -> None:
    async def main() -> None:
        crowd = Crowd()
        busy, other = UsersTurns(crowd), UsersTurns(crowd)
        now[0] = 1.0
        async with busy:
            pass
        now[0] += CROWD_S
        async with busy:
            now[0] += TURN_ALONE_S / 2
        assert not busy.used_up
        async with other:
            pass
        async with busy:
            now[0] += TURN_S
        assert busy.used_up

    trio.run(main)
