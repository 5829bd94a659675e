"""The broker over the real sealed storage and the real audit log: nothing acknowledged is lost."""

import os
import sys
from functools import partial
from uuid import UUID

import pytest
import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.audit.sink import AuditLog, read_events
from appliance.broker import beginning as beginning_module
from appliance.broker.applying import REPLAYED_ENTRY_BYTES
from appliance.broker.partition import PartitionState
from appliance.errors import ErrorCode, KeysRefused
from appliance.ports import DataKey, KeyHealth, SecretKey, WrappedKey
from appliance.storage.blockfile import PosixDisk
from appliance.storage.node import NodeDirectory
from appliance.types import ClusterId, KeyDomainId, NodeId, PartitionId, PartitionIndex
from appliance.wire.kafka.compression import Codec
from appliance.wire.kafka.records import Record, decode_batch, encode_batch, split, stamp
from appliance.wire.requests import (
    CommitPartition,
    CommitTopic,
    DeleteRecords,
    DeleteRecordsPartition,
    DeleteRecordsTopic,
    DeleteTopics,
    ListOffsets,
    ListOffsetsPartition,
    ListOffsetsTopic,
    OffsetCommit,
    OffsetFetch,
    OffsetFetchGroup,
)

AUDIT = PartitionId(UUID(int=3))


class Entropy:
    def random_bytes(self, count):
        return os.urandom(count)


class Keys:
    """Data keys wrapped by a key of this process."""

    def __init__(self):
        self._cipher = AESGCM(os.urandom(32))

    async def create_domain(self, domain):
        await trio.lowlevel.checkpoint()

    async def new_data_key(self, place):
        await trio.lowlevel.checkpoint()
        material, nonce = os.urandom(32), os.urandom(12)
        wrap = nonce + self._cipher.encrypt(nonce, material, repr(place).encode())
        return DataKey(SecretKey(material), WrappedKey("test", wrap))

    async def unwrap(self, place, wrapped):
        await trio.lowlevel.checkpoint()
        nonce, sealed = wrapped.ciphertext[:12], wrapped.ciphertext[12:]
        try:
            return SecretKey(self._cipher.decrypt(nonce, sealed, repr(place).encode()))
        except InvalidTag:
            raise KeysRefused("not a wrap of this place") from None

    async def unwrap_all(self, wraps):
        return [await self.unwrap(wrap.place, wrap.wrapped) for wrap in wraps]

    def epoch(self, domain):
        return 1

    async def health(self):
        await trio.lowlevel.checkpoint()
        return KeyHealth(serving=True)


@pytest.fixture
def node(tmp_path):
    """Makes the directory at first, opens it then; closed by whoever uses it."""
    keys, path = Keys(), tmp_path / "node"
    path.mkdir()
    made = []

    async def opened():
        if made:
            return await NodeDirectory.open(
                PosixDisk(path), keys=keys, entropy=Entropy(), stamp=stamp
            )
        made.append(True)
        return await NodeDirectory.create(
            PosixDisk(path),
            cluster=ClusterId(UUID(int=77)),
            node=NodeId(1),
            domain=KeyDomainId(UUID(int=78)),
            keys=keys,
            entropy=Entropy(),
            stamp=stamp,
        )

    return opened


def records(part):
    return [
        (record.offset, record.value)
        for chunk in part.batches
        for each in split(memoryview(chunk))
        for record in decode_batch(each, max_decompressed_bytes=1 << 20)
    ]


@pytest.mark.parametrize("crash", [False, True])
def test_everything_acknowledged_is_there_after_a_restart(world, node, crash):
    async def main():
        storage = await node()
        async with world.running(storage=storage, crash=crash) as broker:
            await broker.create(partitions=2)
            parts = await broker.produce(
                *(world.batch(b"%d" % place, producer=(5, 0, place)) for place in range(20))
            )
            assert [part.base_offset for part in parts] == list(range(20))
            commit = CommitTopic("orders", (CommitPartition(0, 7),))
            await broker.ask("admin", OffsetCommit("readers", -1, "", (commit,)))
        if crash:
            storage._disk.unlock()
        else:
            await storage.close()
        storage = await node()
        async with world.running(storage=storage, policy=None) as broker:
            part = await broker.fetch()
            assert records(part) == [(place, b"%d" % place) for place in range(20)]
            (retry, following) = await broker.produce(
                world.batch(b"19", producer=(5, 0, 19)), world.batch(b"20", producer=(5, 0, 20))
            )
            assert (retry.base_offset, following.base_offset) == (19, 20)
            assert records(await broker.fetch(20)) == [(20, b"20")]
            fetch = OffsetFetch((OffsetFetchGroup("readers", None),))
            (group,) = (await broker.ask("admin", fetch)).groups
            assert group.topics[0][1][0].offset == 7
        await storage.close()

    trio.run(main)


@pytest.fixture
def applied(monkeypatch):
    """Base offsets of what partitions were given to apply, in order."""
    found, apply = [], PartitionState.apply

    def counted(state, entry):
        found.append(entry.header.base_offset)
        apply(state, entry)

    monkeypatch.setattr(PartitionState, "apply", counted)
    return found


def harmed(paths):
    for path in paths:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def gone(paths):
    for path in paths:
        path.unlink()


@pytest.mark.parametrize("harm", [None, harmed, gone])
@pytest.mark.parametrize("crash", [False, True])
def test_a_restart_applies_what_was_written_since_the_state_was_kept(
    world, node, tmp_path, monkeypatch, applied, crash, harm
):
    monkeypatch.setattr(beginning_module, "KEEP_STATE_AFTER_BYTES", 10 * REPLAYED_ENTRY_BYTES)

    async def main():
        storage = await node()
        async with world.running(storage=storage, crash=crash) as broker:
            await broker.create()
            log = broker.storage._open[broker.log_of()][0]
            for place in range(35):
                await broker.produce(world.batch(b"%d" % place, producer=(5, 0, place)))
            with trio.fail_after(10):
                while (kept := await log.read_snapshot()) is None or kept.index < 30:  # noqa: ASYNC110
                    await trio.sleep(0.001)
        storage._disk.unlock() if crash else await storage.close()
        snapshots = list(tmp_path.glob("node/*/*.snapshot"))
        assert len(snapshots) == 1
        if harm is not None:
            harm(snapshots)
        storage = await node()
        applied.clear()
        async with world.running(storage=storage, policy=None) as broker:
            assert records(await broker.fetch()) == [(n, b"%d" % n) for n in range(35)]
            (retry, following) = await broker.produce(
                world.batch(b"34", producer=(5, 0, 34)), world.batch(b"35", producer=(5, 0, 35))
            )
            assert (retry.base_offset, following.base_offset) == (34, 35)
        spared = 0 if harm is not None else applied[0]
        assert applied == list(range(spared, 36))
        assert harm is not None or (spared >= 28 if crash else spared == 35)
        await storage.close()

    trio.run(main)


@pytest.mark.parametrize("crash", [False, True])
def test_a_partition_whose_records_were_all_deleted_goes_on_after_a_restart(world, node, crash):
    async def main():
        storage = await node()
        part = DeleteRecordsPartition(PartitionIndex(0), -1)
        everything = DeleteRecords((DeleteRecordsTopic("orders", (part,)),), 1000)
        async with world.running(storage=storage, crash=crash) as broker:
            await broker.create()
            await broker.produce(*(world.batch(b"old", producer=(5, 0, n)) for n in range(9)))
            (deleted,) = (await broker.ask("admin", everything)).topics[0].partitions
            assert (deleted.error, deleted.low_watermark) == (ErrorCode.NONE, 9)
        if crash:
            storage._disk.unlock()
        else:
            await storage.close()
        storage = await node()
        async with world.running(storage=storage, policy=None) as broker:
            (part,) = await broker.produce(world.batch(b"new"))
            assert (part.error, part.base_offset, part.log_start_offset) == (ErrorCode.NONE, 9, 9)
            assert (await broker.fetch(8)).error is ErrorCode.OFFSET_OUT_OF_RANGE
            assert records(await broker.fetch(9)) == [(9, b"new")]
        await storage.close()

    trio.run(main)


def test_batches_are_read_and_found_by_time_from_the_files(world, node):
    async def main():
        storage = await node()
        base = 1_700_000_000_000
        async with world.running(storage=storage) as broker:
            await broker.create()
            await broker.produce(
                *(world.batch(bytes(200_000), now_ms=base + 10 * place) for place in range(12))
            )
        await storage.close()
        storage = await node()
        async with world.running(storage=storage) as broker:
            offset = 0
            while offset < 12:
                part = await broker.fetch(offset, max_bytes=500_000)
                offsets = [each for each, _ in records(part)]
                assert offsets[0] == offset
                assert 1 <= len(offsets) <= 2
                offset = offsets[-1] + 1
            request = ListOffsets(
                0, (ListOffsetsTopic("orders", (ListOffsetsPartition(0, base + 55),)),)
            )
            (found,) = (await broker.ask("admin", request)).topics[0].partitions
            assert (found.offset, found.timestamp_ms) == (6, base + 60)
        await storage.close()

    trio.run(main)


def test_a_deleted_topics_files_are_gone(world, node, tmp_path):
    async def main():
        storage = await node()
        async with world.running(storage=storage) as broker:
            await broker.create()
            await broker.produce(world.batch(b"a"))
            log = broker.log_of()
            assert (tmp_path / "node" / str(log)).exists()
            (deleted,) = (await broker.ask("admin", DeleteTopics(("orders",), 1000))).topics
            assert deleted.error is ErrorCode.NONE
            assert not (tmp_path / "node" / str(log)).exists()
        await storage.close()

    trio.run(main)


def test_changes_are_in_the_sealed_audit_log(world, node):
    async def main():
        storage = await node()
        journal = await storage.open_journal(AUDIT)
        async with world.running(storage=storage) as broker:
            audit = AuditLog(journal, world.Clock())
            broker.sink.record = audit.record
            await broker.create()
            await broker.fetch(name="nobody")
        kinds = [type(each.event).__name__ for each in await read_events(journal)]
        assert kinds == ["Mutation", "Denial"]
        await journal.close()
        await storage.close()

    trio.run(main)


@pytest.fixture
def threadless(monkeypatch):
    """Blocking calls run on the event loop, where the profiler of this thread sees them."""

    async def here(work, *given, **_):
        await trio.lowlevel.checkpoint()
        return work(*given)

    monkeypatch.setattr("appliance.storage.log.in_thread", here)
    monkeypatch.setattr(trio.to_thread, "run_sync", here)


def a_batch(count, codec):
    """About 256 KiB in so many records, of bytes that do not compress."""
    value_bytes = 262_144 // count - 9
    made = [Record(None, os.urandom(value_bytes), (), 1_700_000_000_000) for _ in range(count)]
    return memoryview(bytes(encode_batch(made, codec=codec)))


async def calls_of(step):
    """How many functions are called while a step runs."""
    counted = 0

    def count(_, event, __):
        nonlocal counted
        counted += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        await step()
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.ZSTD])
@pytest.mark.usefixtures("threadless")
def test_a_batch_costs_the_same_calls_with_ten_records_and_with_ten_thousand(world, node, codec):
    batches = {count: a_batch(count, codec) for count in (10, 10_000)}
    assert all(135_000 < len(each) < 270_000 for each in batches.values())

    async def main():
        async with world.running(storage=await node()) as broker:
            await broker.create()
            await broker.produce(*[batches[10]] * 5)  # caches are warm, space is reserved
            offset = 50
            produced = {count: [] for count in batches}
            fetched = {count: [] for count in batches}
            for count, each in [*batches.items()] * 7:
                step = partial(broker.produce, each)
                produced[count].append(await calls_of(step))
                fetched[count].append(await calls_of(partial(broker.fetch, offset)))
                offset += count
        return produced, fetched

    produced, fetched = trio.run(main)
    for counts in (produced, fetched):  # the least of seven: other tasks of the node run too
        assert min(counts[10_000]) <= min(counts[10]) * 1.1
