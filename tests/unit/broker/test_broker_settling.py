"""What is to lie on a node is opened in the background, and it is known when all of it was."""

from uuid import UUID

import trio
import trio.testing

from appliance.broker.settling import REOPEN_S, Settling
from appliance.limits import MAX_OPENED_AT_ONCE
from appliance.types import PartitionId

GROUPS = [PartitionId(UUID(int=number)) for number in range(3 * MAX_OPENED_AT_ONCE)]


def run(main):
    async def within():
        async with trio.open_nursery() as nursery:
            await main(nursery)
            nursery.cancel_scope.cancel()

    trio.run(within, clock=trio.testing.MockClock(autojump_threshold=0))


def test_all_that_is_wanted_is_settled_a_few_at_once_and_the_wait_ends_then():
    async def main(nursery):
        under_way, most, done = set(), [], []

        async def settle(group):
            under_way.add(group)
            most.append(len(under_way))
            await trio.sleep(1)
            under_way.discard(group)
            done.append(group)
            return True

        settling = Settling(nursery, settle)
        await settling.settled()
        for group in GROUPS:
            settling.want(group)
            settling.want(group)
        await settling.settled()
        assert sorted(done) == GROUPS
        assert max(most) == MAX_OPENED_AT_ONCE

    run(main)


def test_what_cannot_be_done_counts_as_tried_and_is_done_later():
    async def main(nursery):
        tried = []

        async def settle(group):
            await trio.lowlevel.checkpoint()
            tried.append((group, trio.current_time() - began))
            return len(tried) > 1

        began = trio.current_time()
        settling = Settling(nursery, settle)
        settling.want(GROUPS[0])
        await settling.settled()
        assert tried == [(GROUPS[0], 0)]
        await trio.sleep(REOPEN_S + 1)
        assert tried == [(GROUPS[0], 0), (GROUPS[0], REOPEN_S)]

    run(main)


def test_nothing_begins_once_it_is_closed():
    async def main(nursery):
        done = []

        async def settle(group):
            await trio.sleep(1)
            done.append(group)
            return False

        settling = Settling(nursery, settle)
        for group in GROUPS:
            settling.want(group)
        await trio.sleep(0.5)
        settling.close()
        settling.want(GROUPS[0])
        await settling.settled()
        await trio.sleep(2 * REOPEN_S)
        assert sorted(done) == GROUPS[:MAX_OPENED_AT_ONCE]

    run(main)
