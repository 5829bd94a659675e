"""A whole broker over fakes behind the real ports: memory for disks, a gate with a real policy.

A `Disk` outlives its storage, as a disk outlives a process; what was not flushed is not on it. A
gate on a log holds its flushes back, so that a test decides when something becomes durable.
"""

from contextlib import asynccontextmanager
from types import SimpleNamespace
from uuid import UUID

import msgspec
import pytest
import trio
import trio.testing

from appliance.authz.gate import Gate
from appliance.broker.caller import Caller
from appliance.broker.node import BrokerNode
from appliance.broker.pending import Pending
from appliance.broker.settings import BrokerSettings
from appliance.coordination.commands import Endpoint
from appliance.errors import RequestError, StorageError, StorageFull
from appliance.limits import NUMBERS_PER_LIFE
from appliance.ports import BEGINNING_OF_LOGS, HardState, SegmentInfo, Slice
from appliance.types import (
    ClusterId,
    Entry,
    EntryKind,
    Index,
    KeyDomainId,
    NodeId,
    Offset,
    Position,
    Principal,
    PrincipalKind,
    Term,
    TimestampMs,
)
from appliance.wire.kafka.records import Producer, Record, encode_batch, read_header, stamp
from appliance.wire.requests import (
    CreateTopics,
    Fetch,
    FetchPartition,
    FetchTopic,
    NewTopic,
    Produce,
    ProducePartition,
    ProduceTopic,
)
from tests.unit.broker.three_nodes import in_cluster

POLICY = """
p, User:admin, *, *, *, allow
p, User:writer, WRITE, TOPIC, orders, allow
p, User:reader, READ, TOPIC, orders, allow
p, User:reader, READ, GROUP, readers, allow
p, User:maker, DESCRIBE, TOPIC, *, allow
p, User:maker, CREATE, TOPIC, made-*, allow
"""


class Clock:
    """Wall time that follows trio's clock, from a fixed moment on."""

    set_back_ms = 0

    def now_ms(self):
        now_ms = 1_700_000_000_000 + int(trio.current_time() * 1000)
        return TimestampMs(now_ms - self.set_back_ms)

    def monotonic(self):
        return trio.current_time()


class Entropy:
    """Bytes that never repeat and are the same in each run."""

    def __init__(self):
        self.counter = 0

    def random_bytes(self, count):
        self.counter += 1
        return self.counter.to_bytes(8, "big").rjust(count, b"\x01")[-count:]


def max_time_ms(entry):
    if entry.header.kind is not EntryKind.BATCH:
        return -1
    return read_header(memoryview(entry.payload)).max_timestamp_ms


class Disk:
    """What is durable."""

    def __init__(self):
        self.logs = {}
        self.states = {}
        self.bases = {}
        self.gates = {}
        self.broken = set()
        self.full = set()
        self.flushes = 0
        self.known_last = {}
        self.life = 0
        self.snapshots = {}


class Log:
    """`ports.PartitionLog` in memory."""

    def __init__(self, disk, partition):
        self.disk = disk
        self.partition = partition
        self.entries_held = disk.logs[partition]
        self.staged = []
        self.flushing = False
        self.closed = False
        self.start_offset = self.base[1]

    @property
    def base(self):
        """What stands before the first entry that is held: its position and the next offset."""
        return self.disk.bases.get(self.partition, (Position(Term(0), Index(0)), Offset(0)))

    def _all(self):
        return [*self.entries_held, *self.staged]

    @property
    def last(self):
        every = self._all()
        if not every:
            return self.base[0]
        return Position(every[-1].header.term, every[-1].header.index)

    @property
    def durable(self):
        return Index(self.base[0].index + len(self.entries_held))

    @property
    def first_index(self):
        return Index(self.base[0].index + 1)

    @property
    def end_offset(self):
        every = self._all()
        return every[-1].header.next_offset if every else self.base[1]

    def term_at(self, index):
        every, base = self._all(), self.base[0]
        if index == base.index:
            return base.term
        place = index - base.index - 1
        return every[place].header.term if 0 <= place < len(every) else None

    def epochs(self):
        found = {}
        for entry in self._all():
            found.setdefault(entry.header.term, entry.header.base_offset)
        return tuple(found.items())

    async def truncate(self, last_kept):
        await trio.lowlevel.checkpoint()
        assert not self.flushing
        kept = last_kept - self.base[0].index
        del self.staged[max(0, kept - len(self.entries_held)) :]
        del self.entries_held[kept:]

    async def reset(self, position, offset, snapshot=None):
        await trio.lowlevel.checkpoint()
        self.disk.snapshots[self.partition] = snapshot
        assert not self.flushing
        self.staged.clear()
        self.entries_held.clear()
        self.disk.bases[self.partition] = (position, offset)
        self.start_offset = max(self.start_offset, offset)

    def segments(self):
        """Two entries a file; the last one is written, those below the start are gone."""
        held = self._all()
        return tuple(
            SegmentInfo(
                pair[0].header.index,
                pair[0].header.base_offset,
                pair[-1].header.next_offset,
                sum(entry.header.payload_bytes for entry in pair),
                max(map(max_time_ms, pair)),
            )
            for pair in (held[at : at + 2] for at in range(0, len(held), 2))
            if pair[-1].header.next_offset > self.start_offset or pair[-1] is held[-1]
        )

    compacted = Offset(0)

    async def rewrite(self, first_index, change):
        await trio.lowlevel.checkpoint()

    async def end_compaction(self, end):
        await trio.lowlevel.checkpoint()
        self.compacted = end

    def limit_segments(self, *, max_bytes, max_ms):
        self.limits = (max_bytes, max_ms)

    async def read_snapshot(self):
        await trio.lowlevel.checkpoint()
        return self.disk.snapshots.get(self.partition)

    async def raise_start(self, offset, *, applied=None, snapshot=None):
        await trio.lowlevel.checkpoint()
        self.start_offset = max(self.start_offset, offset)
        held = self.entries_held
        gone = 0
        while applied and gone + 1 < len(held):
            header = held[gone].header
            if header.next_offset > offset or header.index > applied:
                break
            gone += 1
        if gone and snapshot is not None:
            self.disk.snapshots[self.partition] = snapshot(held[gone - 1].header.index)
        if gone:
            header = held[gone - 1].header
            self.disk.bases[self.partition] = (
                Position(header.term, header.index), header.next_offset
            )  # fmt: skip
            del held[:gone]

    def append(self, entries):
        if self.closed:
            raise StorageError("closed")
        for entry in entries:
            assert entry.header.index == self.last.index + 1
            assert entry.header.base_offset == self.end_offset
            self.staged.append(entry)

    async def flush(self, on_durable):
        assert not self.flushing
        self.flushing = True
        try:
            while self.staged:
                count = len(self.staged)
                await self.disk.gates.get(self.partition, _open).wait()
                if self.partition in self.disk.full:
                    raise StorageFull("no space")
                if self.partition in self.disk.broken:
                    raise StorageError("the disk is broken")
                for entry in self.staged[:count]:
                    payload = bytearray(entry.payload)
                    if entry.header.kind is EntryKind.BATCH:
                        stamp(memoryview(payload), entry.header)
                    self.entries_held.append(Entry(entry.header, memoryview(bytes(payload))))
                del self.staged[:count]
                self.disk.flushes += 1
                on_durable(self.durable)
        finally:
            self.flushing = False

    async def read(self, start, end, max_bytes):
        await trio.lowlevel.checkpoint()
        batches, size, following = [], 0, start
        for entry in self.entries_held:
            header = entry.header
            if header.kind is not EntryKind.BATCH or header.next_offset <= start:
                continue
            too_much = batches and size + header.payload_bytes > max_bytes
            if header.next_offset > end or too_much:
                break
            batches.append(entry.payload)
            size += header.payload_bytes
            following = header.next_offset
        return Slice(tuple(batches), start, following, size)

    async def entries(self, first, last, max_bytes):
        await trio.lowlevel.checkpoint()
        place = first - self.base[0].index - 1
        assert place >= 0, "entries that are gone are not asked for"
        return self.entries_held[place : min(last - self.base[0].index, place + 7)]

    async def first_batch_at_time(self, timestamp_ms, end):
        await trio.lowlevel.checkpoint()
        for entry in self.entries_held:
            if entry.header.kind is EntryKind.BATCH and entry.header.next_offset <= end:
                view = memoryview(entry.payload)
                if read_header(view).max_timestamp_ms >= timestamp_ms:
                    return view
        return None

    async def close(self):
        assert not self.flushing
        self.closed = True


class _Open:
    async def wait(self):
        await trio.lowlevel.checkpoint()


_open = _Open()


class Storage:
    """`ports.NodeStorage` over a disk."""

    def __init__(self, disk, node=1):
        self.disk = disk
        self.node = NodeId(node)
        self.cluster = ClusterId(UUID(int=77))
        self.opened = {}

    def partitions(self):
        return frozenset(self.disk.logs)

    def tell_damage(self, to):
        self.on_damage = to

    def known_last(self, partition):
        return self.disk.known_last.get(partition)

    async def begin_life(self, at_least):
        await trio.lowlevel.checkpoint()
        self.disk.life = max(at_least, self.disk.life + NUMBERS_PER_LIFE)
        return self.disk.life

    async def save_known_last(self, partition, known_last):
        await trio.lowlevel.checkpoint()
        self.disk.known_last[partition] = known_last

    async def quarantine(self, partition, *, distrusted=False):
        await trio.lowlevel.checkpoint()
        return False

    async def create_log(self, partition, domain, position=BEGINNING_OF_LOGS, offset=0):
        await trio.lowlevel.checkpoint()
        assert partition not in self.disk.logs
        self.disk.logs[partition] = []
        self.disk.bases[partition] = (position, Offset(offset))
        return await self.open_log(partition)

    async def open_log(self, partition):
        await trio.lowlevel.checkpoint()
        log = self.opened[partition] = Log(self.disk, partition)
        return log

    async def delete_log(self, partition):
        await trio.lowlevel.checkpoint()
        opened = self.opened.get(partition)
        assert opened is None or opened.closed, "a log is closed before it is deleted"
        del self.disk.logs[partition]
        self.disk.states.pop(partition, None)

    def hard_state(self, partition):
        return self.disk.states.get(partition, HardState())

    async def save_hard_state(self, partition, state):
        await trio.lowlevel.checkpoint()
        self.disk.states[partition] = state

    async def close(self):
        await trio.lowlevel.checkpoint()


class Sink:
    """An audit log that can break."""

    def __init__(self):
        self.events = []
        self.broken = False

    async def record(self, events):
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise StorageError("the audit disk is broken")
        self.events += events

    def of(self, kind):
        return [event for event in self.events if type(event).__name__ == kind]


def caller(name, listener="kafka"):
    return Caller(Principal(PrincipalKind.USER, name), listener, "127.0.0.1", "test-client")


def batch(*values, now_ms=1_700_000_000_000, producer=(-1, -1, -1)):
    """One batch; `producer` is (id, epoch, first sequence)."""
    records = [Record(None, value, (), now_ms + place) for place, value in enumerate(values)]
    return memoryview(bytes(encode_batch(records, producer=Producer(*producer))))


class Running:
    """An open broker and short words for what tests ask of it."""

    def __init__(self, node, storage, sink, gate, dispatcher, nursery):
        self.node = node
        self.storage = storage
        self.disk = getattr(storage, "disk", None)
        self.sink = sink
        self.gate = gate
        self.dispatcher = dispatcher
        self.nursery = nursery

    async def ask(self, name, request, listener="kafka"):
        reply = await self.dispatcher.dispatch(caller(name, listener), request)
        if not isinstance(reply, Pending):
            return reply
        return await self.resolved(reply)

    async def begin(self, name, request):
        """The reply as dispatch gives it, perhaps still pending."""
        return await self.dispatcher.dispatch(caller(name), request)

    @staticmethod
    async def resolved(pending):
        done = trio.Event()
        pending.on_resolved(done.set)
        with trio.fail_after(600):
            await done.wait()
        return pending.response

    async def create(self, name="orders", partitions=1, **changes):
        new = NewTopic(name, partitions, **changes)
        (created,) = (await self.ask("admin", CreateTopics((new,), 1000))).topics
        return created

    async def produce(self, *batches, name="admin", topic="orders", acks=-1):
        """One request per batch, each awaited; the parts of partition 0."""
        parts = []
        for each in batches:
            reply = await self.ask(name, produce_request(each, topic=topic, acks=acks))
            parts.append(reply.topics[0].partitions[0])
        return parts

    async def fetch(self, offset=0, name="admin", topic="orders", **changes):
        result = await self.ask(name, fetch_request(offset, topic=topic, **changes))
        return result.topics[0].partitions[0]

    def log_of(self, topic="orders", index=0):
        return self.node.policies.state.topics[topic].partitions[index]


def produce_request(each, topic="orders", index=0, acks=-1):
    return Produce(acks, 1000, (ProduceTopic(topic, (ProducePartition(index, each),)),))


def fetch_request(
    offset=0, topic="orders", index=0, wait_ms=0, min_bytes=1, max_bytes=1 << 20, part_bytes=1 << 20
):
    part = FetchPartition(index, Offset(offset), part_bytes)
    return Fetch(wait_ms, min_bytes, max_bytes, 0, (FetchTopic(topic, (part,)),))


@asynccontextmanager
async def running(disk=None, *, storage=None, policy=POLICY, crash=False, **changes):
    """A broker that serves inside the block; `crash` leaves without closing anything."""
    storage = storage or Storage(disk if disk is not None else Disk())
    sink, clock = Sink(), Clock()
    settings = BrokerSettings(
        domain=KeyDomainId(UUID(int=78)),
        host="host",
        rack="rack",
        endpoints=(Endpoint("kafka", "k.example", 9093), Endpoint("native", "n.example", 9193)),
        auto_create=True,
        first_policy=policy,
    )
    settings = msgspec.structs.replace(settings, **changes)
    async with trio.open_nursery() as nursery:
        node = await BrokerNode.open(
            settings, storage=storage, clock=clock, entropy=Entropy(), nursery=nursery
        )
        gate = Gate(node.policies, node.topic_names, clock)
        dispatcher = node.dispatcher(gate, sink)
        yield Running(node, storage, sink, gate, dispatcher, nursery)
        if crash:
            nursery.cancel_scope.cancel()
        else:
            await node.close()


def everything():
    """Everything above, for tests."""
    return SimpleNamespace(
        running=running,
        Disk=Disk,
        Storage=Storage,
        Log=Log,
        Sink=Sink,
        Clock=Clock,
        Entropy=Entropy,
        caller=caller,
        batch=batch,
        produce_request=produce_request,
        fetch_request=fetch_request,
        RequestError=RequestError,
        sleep=trio.sleep,
    )


@pytest.fixture
def world():
    return everything()


@pytest.fixture
def run():
    """Runs an async test on trio's mock clock, which jumps when everybody sleeps."""

    def runs(function):
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(function, clock=clock)

    return runs


@pytest.fixture
def play(world, run):
    """Runs a test's body in a cluster of three."""
    return in_cluster(world, run)
