"""Idempotent producers (KIP-98): every batch once, in order, whatever is sent again."""

from collections import deque

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.broker.producers import ProducerTable
from appliance.errors import ErrorCode, RequestError
from appliance.limits import PRODUCER_EXPIRY_MS, PRODUCER_GRACE_MS
from appliance.types import Offset, TimestampMs
from appliance.wire.kafka.records import BatchHeader, decode_batch, split
from tests.unit.broker.three_nodes import in_cluster


def header(producer=7, epoch=0, first=0, count=1):
    return BatchHeader(0, 100, 0, 2, 0, 0, count - 1, 0, 0, producer, epoch, first, count)


class Log:
    """What a partition does with the table: judge, stage, commit later."""

    def __init__(self, **options):
        self.table = ProducerTable(**options)
        self.staged = deque()
        self.written = []
        self.now_ms = TimestampMs(0)

    def send(self, each, name=None):
        original = self.table.judge(each, self.now_ms)
        if original is not None:
            return original.base_offset
        base_offset = Offset(sum(count for _, count, _ in self.written))
        self.written.append((name, each.record_count, each))
        self.table.stage(each, base_offset, self.now_ms)
        self.staged.append((each, base_offset, self.now_ms))
        return base_offset

    def commit(self, count=1):
        for _ in range(min(count, len(self.staged))):
            self.table.apply(*self.staged.popleft())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=80),
)
def test_any_retry_pattern_yields_each_batch_once_and_in_order(counts, steps):
    """A client with five in flight sends and sends again as it likes; replies may be lost."""
    log = Log()
    firsts = [sum(counts[:place]) for place in range(len(counts))]
    offsets: dict[int, int] = {}
    refusals = set()
    acknowledged = 0
    for step, commits in [*steps, *((0, 1) for _ in counts)]:
        place = acknowledged + step
        if place < min(acknowledged + 5, len(counts)):
            each = header(first=firsts[place], count=counts[place])
            try:
                offset = log.send(each, place)
            except RequestError as error:
                refusals.add((error.code, place in offsets))
            else:
                assert offsets.setdefault(place, offset) == offset
        log.commit(commits)
        while acknowledged in offsets:
            acknowledged += 1
    assert refusals <= {(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, False)}
    names = [name for name, _, _ in log.written]
    if names and names[0] == 0:
        assert names == list(range(len(names)))
    assert len(set(names)) == len(names)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1), st.integers(0, 6)), max_size=60))
def test_replay_remembers_what_the_leader_did(steps):
    """State is that of the committed batches: applied again from the log, it judges the same."""
    log = Log()
    for producer, epoch, first in steps:
        try:
            log.send(header(producer, epoch, first))
        except RequestError:
            continue
    log.commit(len(log.staged))
    replayed = ProducerTable()
    offset = 0
    for _, count, each in log.written:
        replayed.apply(each, Offset(offset), TimestampMs(0))
        offset += count
    for producer, epoch, first in {(p, e, f) for p in (1, 2, 3) for e in (0, 1) for f in range(8)}:
        each = header(producer, epoch, first)
        assert outcome(replayed, each) == outcome(log.table, each)


def outcome(table, each):
    try:
        return table.judge(each, TimestampMs(0))
    except RequestError as error:
        return error.code


def test_only_the_last_five_are_remembered():
    log = Log()
    offsets = [log.send(header(first=place)) for place in range(6)]
    log.commit(6)
    assert [log.send(header(first=place)) for place in range(1, 6)] == offsets[1:]
    with pytest.raises(RequestError) as refused:
        log.send(header(first=0))
    assert refused.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_newer_epoch_begins_at_zero_and_fences_the_older():
    log = Log()
    log.send(header(epoch=1, first=0))
    with pytest.raises(RequestError) as gap:
        log.send(header(epoch=2, first=3))
    assert gap.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    log.send(header(epoch=2, first=0))
    with pytest.raises(RequestError) as fenced:
        log.send(header(epoch=1, first=1))
    assert fenced.value.code is ErrorCode.INVALID_PRODUCER_EPOCH


def test_sequences_wrap_from_the_largest_to_zero():
    log = Log()
    top = (1 << 31) - 1
    log.send(header(first=top - 1, count=2))
    assert log.send(header(first=0)) == 2
    log = Log()
    log.send(header(first=top, count=3))
    assert log.send(header(first=2)) == 3


def test_a_retry_with_other_bounds_is_no_retry():
    log = Log()
    log.send(header(first=0, count=3))
    with pytest.raises(RequestError):
        log.send(header(first=0, count=2))


def test_producers_expire_by_the_entries_time():
    table = ProducerTable()
    table.apply(header(producer=1), Offset(0), TimestampMs(0))
    table.apply(header(producer=2), Offset(1), TimestampMs(PRODUCER_EXPIRY_MS))
    assert len(table) == 2
    table.apply(header(producer=2, first=1), Offset(2), TimestampMs(PRODUCER_EXPIRY_MS + 1))
    assert len(table) == 1


def test_producers_are_bounded_and_a_recent_one_is_never_forgotten_for_another():
    log = Log(bound=2)
    log.send(header(producer=1))
    log.send(header(producer=2))
    log.commit(2)
    with pytest.raises(RequestError) as refused:
        log.send(header(producer=3))
    assert refused.value.code is ErrorCode.POLICY_VIOLATION
    log.now_ms = TimestampMs(PRODUCER_GRACE_MS)
    log.send(header(producer=3))
    log.commit()
    assert len(log.table) == 2


def values(part):
    return [
        record.value
        for chunk in part.batches
        for each in split(memoryview(chunk))
        for record in decode_batch(each, max_decompressed_bytes=1 << 20)
    ]


def test_a_retry_of_a_batch_that_is_not_durable_waits_for_the_original(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            gate = broker.disk.gates[broker.log_of()] = trio.Event()
            request = world.produce_request(world.batch(b"a", producer=(9, 0, 0)))
            original = await broker.begin("admin", request)
            retry = await broker.begin("admin", request)
            await trio.sleep(10)
            assert retry.response is None
            gate.set()
            replies = [await broker.resolved(each) for each in (original, retry)]
            assert [r.topics[0].partitions[0].base_offset for r in replies] == [0, 0]
            assert values(await broker.fetch()) == [b"a"]

    run(main)


def test_a_retry_is_known_after_a_restart(world, run):
    async def main():
        disk = world.Disk()
        batches = [world.batch(b"a", producer=(9, 0, 0)), world.batch(b"b", producer=(9, 0, 1))]
        async with world.running(disk, crash=True) as broker:
            await broker.create()
            await broker.produce(*batches)
        async with world.running(disk) as broker:
            parts = await broker.produce(*batches, world.batch(b"d", producer=(9, 0, 3)))
            assert [part.base_offset for part in parts] == [0, 1, -1]
            assert parts[2].error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
            assert values(await broker.fetch()) == [b"a", b"b"]

    run(main)


def test_a_retry_fails_with_its_original(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            gate = broker.disk.gates[broker.log_of()] = trio.Event()
            request = world.produce_request(world.batch(b"a", producer=(9, 0, 0)))
            waiting = [await broker.begin("admin", request) for _ in range(2)]
            broker.disk.broken.add(broker.log_of())
            gate.set()
            for pending in waiting:
                response = await broker.resolved(pending)
                assert response.topics[0].partitions[0].error is ErrorCode.KAFKA_STORAGE_ERROR

    run(main)


def test_a_retry_after_a_full_disk_waits_for_the_original_that_was_kept(world, run):
    """Who was told of no space has a batch in the log, which may be decided once there is some."""

    async def body(cluster):
        await cluster.create()
        group = cluster.group()
        leader = cluster.leader(group)
        others = [cluster.disks[number] for number in (1, 2, 3) if number != leader]
        gate = trio.Event()
        for disk in others:
            disk.gates[group] = gate
        cluster.disks[leader].full.add(group)
        for _ in range(2):
            part = await cluster.produce(leader, b"a", producer=(9, 0, 0))
            assert part.error is ErrorCode.KAFKA_STORAGE_ERROR
        cluster.disks[leader].full.clear()
        await trio.sleep(3)
        answers = []

        async def again():
            answers.append(await cluster.produce(leader, b"a", producer=(9, 0, 0)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(again)
            await trio.sleep(1)
            assert not answers
            for disk in others:
                del disk.gates[group]
            gate.set()
        assert [part.base_offset for part in answers] == [0]
        assert cluster.held(leader) == 1

    in_cluster(world, run)(body)
