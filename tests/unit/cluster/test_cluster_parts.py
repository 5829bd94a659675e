"""The small parts of replication: leader table, outbox, tail, placement."""

from collections import Counter
from uuid import UUID

import pytest
import trio
import trio.testing

from appliance.broker.leaders import Leader, LeaderTable
from appliance.broker.outbox import Outbox
from appliance.broker.placement import pick
from appliance.broker.tail import ENTRY_OVERHEAD_BYTES, EntryTail
from appliance.coordination.cluster_commands import NodeState
from appliance.limits import MAX_PEER_QUEUE_BYTES, PEER_FRAME_BYTES
from appliance.types import Entry, EntryHeader, EntryKind

GROUP = UUID(int=1)


def an_entry(index, size=10):
    header = EntryHeader(EntryKind.BATCH, index, 1, 0, index, 0, size)
    return Entry(header, bytes(size))


def test_leaders_are_monotonic_in_term() -> None:
    table = LeaderTable(now_s=lambda: 0.0)
    assert table.learn(GROUP, Leader(1, 5))
    assert not table.learn(GROUP, Leader(2, 4))
    assert not table.learn(GROUP, Leader(2, 5))
    assert table.of(GROUP) == Leader(1, 5)
    assert table.learn(GROUP, Leader(2, 6))
    table.lost(GROUP, 1, 9)
    assert table.of(GROUP) == Leader(2, 6)
    table.lost(GROUP, 2, 6)
    assert table.of(GROUP) == Leader(None, 6)
    assert table.learn(GROUP, Leader(2, 6))


def test_whoever_waits_for_a_leader_is_woken_by_its_name() -> None:
    async def main() -> None:
        table = LeaderTable()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(table.named, GROUP)
            await trio.testing.wait_all_tasks_blocked()
            table.learn(GROUP, Leader(3, 1))

    trio.run(main)


def test_an_outbox_keeps_nothing_for_nobody_and_no_more_than_its_bound() -> None:
    outbox = Outbox()
    assert not outbox.put(b"x")
    outbox.open = True
    item = bytes(MAX_PEER_QUEUE_BYTES // 4)
    assert [outbox.put(item) for _ in range(5)] == [True] * 4 + [False]
    assert outbox.dropped == 2
    outbox.close()
    assert outbox.take() == []


def test_liveness_goes_first_and_only_the_newest() -> None:
    outbox = Outbox()
    outbox.open = True
    outbox.put(b"message")
    outbox.put_liveness(lambda: b"old")
    outbox.put_liveness(lambda: b"new")
    assert outbox.take() == [b"new", b"message"]
    assert outbox.take() == []


def test_a_frame_holds_no_more_than_its_bound_unless_one_message_is_larger() -> None:
    outbox = Outbox()
    outbox.open = True
    for size in (PEER_FRAME_BYTES // 2, PEER_FRAME_BYTES // 2, 2 * PEER_FRAME_BYTES, 1):
        outbox.put(bytes(size))
    taken = []
    while items := outbox.take():
        taken.append([len(item) for item in items])
    half = PEER_FRAME_BYTES // 2
    assert taken == [[half, half], [2 * PEER_FRAME_BYTES], [1]]


def test_a_tail_lets_go_of_what_is_done_beyond_what_it_keeps() -> None:
    tail = EntryTail()
    tail.kept_bytes = 2 * (10 + ENTRY_OVERHEAD_BYTES)
    for index in range(1, 6):
        tail.append(an_entry(index))
    tail.release(2)
    assert tail.get(2) is None
    assert [e.header.index for e in tail.between(3, 5) or ()] == [3, 4, 5]
    assert tail.between(2, 3) is None
    tail.release(5)
    assert tail.get(3) is None
    assert tail.get(4) is not None
    tail.truncate(4)
    assert tail.get(5) is None
    assert tail.between(4, 5) is None


def nodes(*places):
    return [NodeState(n, host, rack) for n, (host, rack) in enumerate(places, 1)]


def test_replicas_share_no_host_where_hosts_suffice_and_spread_over_racks() -> None:
    there = nodes(("a", "r1"), ("a", "r1"), ("b", "r1"), ("c", "r2"))
    held: Counter = Counter()
    led: Counter = Counter()
    chosen = pick(there, 3, held=held, led=led)
    hosts = {there[node - 1].host for node in chosen}
    assert hosts == {"a", "b", "c"}
    racks = [there[node - 1].rack for node in chosen[:2]]
    assert set(racks) == {"r1", "r2"}


def test_hosts_are_shared_only_where_there_are_too_few() -> None:
    there = nodes(("a", None), ("a", None), ("b", None))
    assert set(pick(there, 3, held=Counter(), led=Counter())) == {1, 2, 3}


def test_leadership_and_load_even_out() -> None:
    there = nodes(("a", None), ("b", None), ("c", None))
    held: Counter = Counter()
    led: Counter = Counter()
    for _ in range(30):
        chosen = pick(there, 2, held=held, led=led)
        led[chosen[0]] += 1
        held.update(chosen)
    assert set(led.values()) == {10}
    assert max(held.values()) - min(held.values()) <= 1


@pytest.mark.parametrize("index", [0, 6])
def test_a_tail_does_not_reach_beyond_itself(index) -> None:
    tail = EntryTail()
    for each in range(1, 6):
        tail.append(an_entry(each))
    assert tail.get(index) is None
