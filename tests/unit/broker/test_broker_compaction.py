"""Of each key the newest record stays, whatever is interrupted; nothing else of the log changes."""

import os
import threading
from uuid import UUID

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.broker.cleaning import clean
from appliance.broker.compaction import NewestOffsets, Pass, cleanable
from appliance.broker.topic_settings import meaning
from appliance.errors import ErrorCode
from appliance.ports import SegmentInfo
from appliance.storage import log as log_module
from appliance.storage import rewriting
from appliance.storage.blockfile import PosixDisk
from appliance.storage.node import NodeDirectory
from appliance.types import (
    ClusterId,
    Entry,
    EntryHeader,
    EntryKind,
    Index,
    KeyDomainId,
    NodeId,
    Offset,
    PartitionId,
    Term,
    TimestampMs,
)
from appliance.wire.kafka.compression import Codec
from appliance.wire.kafka.records import (
    Producer,
    Record,
    decode_batch,
    encode_batch,
    read_header,
    stamp,
)

from .test_with_real_storage import Entropy, Keys

PARTITION = PartitionId(UUID(int=13))
NOW = 1_000_000_000


def entry_of(index, base_offset, records, *, codec=Codec.NONE, producer=None, time_ms=NOW):
    payload = encode_batch(records, codec=codec, producer=producer or Producer())
    header = EntryHeader(
        EntryKind.BATCH,
        Index(index),
        Term(1),
        TimestampMs(time_ms),
        Offset(base_offset),
        len(records) - 1,
        len(payload),
    )
    stamp(memoryview(payload), header)
    return Entry(header, payload)


def record(key, value=b"v", time_ms=NOW):
    return Record(key, value, (("h", b"x"),), time_ms)


def entries_of(*batches, **given):
    entries, offset = [], 0
    for index, records in enumerate(batches, 1):
        entries.append(entry_of(index, offset, records, **given))
        offset += len(records)
    return entries


def passed(entries, *, below=0, before_ms=0, keep=frozenset(), limit=1000):
    newest = NewestOffsets(limit)
    newest.note(entries)
    judge = Pass(newest, Offset(below), TimestampMs(before_ms), keep)
    last = entries[-1].header.index
    return [judge.compacted(each, is_last=each.header.index == last) for each in entries]


def records_in(entries):
    found = []
    for each in entries:
        if each.header.kind is EntryKind.BATCH:
            found += decode_batch(memoryview(each.payload), max_decompressed_bytes=1 << 20)
    return found


KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
RECORDS = st.builds(record, KEYS, st.sampled_from([b"1", b"2", None]), st.integers(1, 5))
LOGS = st.lists(st.lists(RECORDS, min_size=1, max_size=4), min_size=1, max_size=8)


@settings(deadline=None)
@given(LOGS, st.sampled_from(list(Codec)))
def test_exactly_the_newest_record_of_each_key_stays_as_it_was(batches, codec):
    entries = entries_of(*batches, codec=codec)
    compacted = passed(entries)
    before, after = records_in(entries), records_in(compacted)
    newest = {each.key: each for each in before}
    assert after == sorted(newest.values(), key=lambda each: each.offset)
    for old, new in zip(entries, compacted, strict=True):
        assert new.header.index == old.header.index
        assert new.header.term == old.header.term
        assert new.header.base_offset == old.header.base_offset
        assert new.header.next_offset == old.header.next_offset
        assert new.header.payload_bytes == len(new.payload) <= len(old.payload) + 64


def test_emptied_batches_become_gaps_but_for_the_last_and_a_producers_last():
    entries = entries_of([record(b"k")], [record(b"k")], [record(b"k")], [record(b"k")])
    kinds = [each.header.kind for each in passed(entries, keep={1})]
    assert kinds == [EntryKind.GAP, EntryKind.BATCH, EntryKind.GAP, EntryKind.BATCH]
    kept = memoryview(passed(entries, keep={1})[1].payload)
    assert read_header(kept).record_count == 0
    assert decode_batch(kept, max_decompressed_bytes=1) == []


def test_a_producers_sequences_survive_in_an_emptied_header():
    producer = Producer(producer_id=7, epoch=3, base_sequence=40)
    entries = entries_of([record(b"k"), record(b"k")], [record(b"k")], producer=producer)
    header = read_header(memoryview(passed(entries, keep={0})[0].payload))
    assert (header.producer_id, header.producer_epoch, header.last_sequence) == (7, 3, 41)
    assert header.next_offset == 2


def test_a_tombstone_goes_when_it_is_old_and_what_it_covers_has_gone():
    entries = entries_of([record(b"a"), record(b"a", None)], [record(b"z")], time_ms=1_000)

    def keys(**given):
        return [each.key for each in records_in(passed(entries, **given))]

    assert keys() == [b"a", b"z"]
    assert keys(below=2, before_ms=1_000) == [b"a", b"z"]
    assert keys(below=1, before_ms=1_001) == [b"a", b"z"]
    assert keys(below=2, before_ms=1_001) == [b"z"]


def test_transactions_are_left_alone_and_supersede_nothing():
    plain = entry_of(1, 0, [record(b"k")])
    transactional = entry_of(2, 1, [record(b"k")], producer=Producer(1, 0, 0, True))
    assert passed([plain, transactional]) == [plain, transactional]


def test_a_pass_ends_before_it_holds_too_many_keys():
    entries = entries_of(*[[record(b"%d" % n)] for n in range(10)], [record(b"0")])
    newest = NewestOffsets(4)
    assert not newest.note(entries)
    assert newest.end == 4
    assert all(new is old for new, old in zip(passed(entries, limit=4), entries, strict=True))


@pytest.mark.parametrize(("given_bounds", "expected"), [
    ({}, 3), ({"bound": 299}, 2), ({"newest_ms": 6_500}, 2), ({"compacted": 300}, 0),
    ({"compacted": 200, "dirty_ratio": 0.34}, 0), ({"compacted": 200, "dirty_ratio": 0.33}, 3),
])  # fmt: skip
def test_a_pass_takes_closed_files_below_its_bound_when_enough_is_new(given_bounds, expected):
    segments = [
        SegmentInfo(10 * n + 1, 100 * n, 100 * n + 100, 1000, 5000 + 1000 * n) for n in range(4)
    ]
    bounds = {"compacted": 0, "bound": 400, "newest_ms": 99_999, "dirty_ratio": 0.5}
    assert len(cleanable(segments, **(bounds | given_bounds))) == expected


# --- on real sealed files -----------------------------------------------------------------------


@pytest.fixture
def bed(tmp_path, monkeypatch, world):
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 2_000)

    class Bed:
        path = tmp_path / "node"
        keys = Keys()
        settings = meaning((("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")))

        async def create(self):
            self.node = await NodeDirectory.create(
                PosixDisk(self.path), cluster=ClusterId(UUID(int=1)), node=NodeId(1),
                domain=KeyDomainId(UUID(int=2)), keys=self.keys, entropy=Entropy(), stamp=stamp,
            )  # fmt: skip
            self.log = await self.node.create_log(PARTITION, KeyDomainId(UUID(int=2)))

        async def again(self):
            self.node._disk.unlock()
            self.node = await NodeDirectory.open(
                PosixDisk(self.path), keys=self.keys, entropy=Entropy(), stamp=stamp
            )
            self.log = await self.node.open_log(PARTITION)

        async def fill(self, count):
            for number in range(count):
                log = self.log
                index = log.last.index + 1
                value = os.urandom(100)
                batch = entry_of(index, log.end_offset, [record(b"%d" % (number % 5), value)])
                log.append([batch])
                await log.flush(lambda _: None)

        async def clean(self, bound=None):
            return await clean(
                self.log,
                self.settings,
                bound=self.log.end_offset if bound is None else bound,
                keep_headers=frozenset(),
                drops_tombstones=True,
                now_ms=NOW,
            )

        async def fetched(self):
            found, at, log = [], self.log.start_offset, self.log
            log._cache.forget(log._tail)
            while at < log.end_offset:
                part = await log.read(at, log.end_offset, 1)
                for batch in part.batches:
                    found += decode_batch(batch, max_decompressed_bytes=1 << 20)
                assert part.next_offset > at
                at = part.next_offset
            return found

    return Bed()


def files(bed):
    return {p.name for p in (bed.path / str(PARTITION)).iterdir()}


def test_a_compacted_log_gives_each_keys_newest_record_and_every_index(bed):
    async def main():
        await bed.create()
        await bed.fill(40)
        before = await bed.fetched()
        size = sum(segment.size_bytes for segment in bed.log.segments())
        closed_end = bed.log.segments()[-1].first_offset
        assert await bed.clean()
        for _ in range(2):
            after = await bed.fetched()
            newest = {r.key: r for r in before if r.offset < closed_end}
            active = [r for r in before if r.offset >= closed_end]
            assert after == sorted(newest.values(), key=lambda r: r.offset) + active
            assert sum(segment.size_bytes for segment in bed.log.segments()) < size / 2
            entries = await bed.log.entries(Index(1), bed.log.last.index, 1 << 30)
            assert [e.header.index for e in entries] == list(range(1, 41))
            assert bed.log.compacted == closed_end
            assert not await bed.clean()
            await bed.again()
        await bed.fill(40)
        assert await bed.clean()
        assert {r.key: r for r in await bed.fetched()}.keys() == {b"%d" % n for n in range(5)}

    trio.run(main)


def test_nothing_at_or_above_the_bound_is_touched(bed):
    async def main():
        await bed.create()
        await bed.fill(40)
        before = await bed.fetched()
        await bed.clean(bound=Offset(20))
        assert [r for r in await bed.fetched() if r.offset >= 20] == [
            r for r in before if r.offset >= 20
        ]
        assert bed.log.compacted <= 20

    trio.run(main)


@pytest.mark.parametrize("step", ["begin_rewrite", "take_rewritten", "set_compacted", "_take_over"])
def test_a_pass_that_is_killed_at_any_step_loses_nothing_and_is_done_again(bed, monkeypatch, step):
    class Killed(Exception):
        pass

    async def main():
        await bed.create()
        await bed.fill(40)
        before = await bed.fetched()
        newest = {r.key: r for r in before}
        kind = type(bed.log._files)
        whole = getattr(kind, step)
        calls = []

        def killed(self, *given):
            calls.append(step)
            if len(calls) == (1 if step == "set_compacted" else 2):
                raise Killed
            return whole(self, *given)

        with monkeypatch.context() as patch:
            patch.setattr(kind, step, killed)
            with pytest.raises(Killed):
                await bed.clean()
        await bed.again()
        assert {r.key: r for r in await bed.fetched()} == newest
        named = {str(file.entry.file) for file in bed.log._files}
        assert {name for name in files(bed) if "." not in name} == named | {"manifest"}
        assert await bed.clean()
        assert {r.key: r for r in await bed.fetched()} == newest

    trio.run(main)


def test_a_file_that_retention_takes_while_it_is_rewritten_stays_gone(bed):
    async def main():
        await bed.create()
        await bed.fill(40)
        first = bed.log.segments()[0]

        def change(entry, is_last):
            return entry if is_last else Entry(entry.header, bytes(entry.payload))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(bed.log.rewrite, first.first_index, change)
            await trio.lowlevel.checkpoint()
            await bed.log.raise_start(first.next_offset)
        assert bed.log.first_index == first.first_index + (
            bed.log.segments()[0].first_index - first.first_index
        )
        assert bed.log.start_offset == first.next_offset
        await bed.again()
        assert (await bed.fetched())[0].offset == first.next_offset

    trio.run(main)


def test_a_file_that_is_gone_before_it_is_read_needs_no_rewriting(bed, monkeypatch):
    gone = threading.Event()
    last_index = rewriting._last_index

    def once_it_is_gone(old):
        assert gone.wait(30)
        return last_index(old)

    async def main():
        await bed.create()
        await bed.fill(40)
        first = bed.log.segments()[0]
        monkeypatch.setattr(rewriting, "_last_index", once_it_is_gone)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bed.log.rewrite, first.first_index, lambda entry, _: entry)
            await trio.lowlevel.checkpoint()
            await bed.log.raise_start(first.next_offset)
            gone.set()
        assert bed.log.start_offset == first.next_offset
        await bed.again()
        assert (await bed.fetched())[0].offset == first.next_offset

    trio.run(main)


def test_a_compacted_topic_takes_no_record_without_a_key(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create("orders", settings=(("cleanup.policy", "compact"),))
            (part,) = await broker.produce(world.batch(b"no key"))
            assert part.error is ErrorCode.INVALID_RECORD
            keyed = memoryview(bytes(encode_batch([record(b"k", time_ms=1_700_000_000_000)])))
            (part,) = await broker.produce(keyed)
            assert part.error is ErrorCode.NONE

    run(main)
