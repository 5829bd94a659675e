"""Clients: idempotent producers, consumers, and administrators of topics; each notes what it saw.

Rules: each has one request under way; it asks whom it takes for the leader, follows hints, and
tries again for as long as its patience lasts. What it was told goes into a history, and nothing
else: judges do the rest. A request without an answer may have taken effect, or may yet.
"""

import random
from typing import TYPE_CHECKING, Any

import trio

from appliance.errors import ErrorCode
from appliance.types import Offset, PartitionIndex, TopicName
from appliance.wire.kafka.records import Producer as ProducerFields
from appliance.wire.kafka.records import Record, decode_batch, encode_batch, split
from appliance.wire.requests import (
    CreateTopics,
    DeleteTopics,
    Fetch,
    FetchPartition,
    FetchTopic,
    InitProducerId,
    NewTopic,
    Produce,
    ProducePartition,
    ProduceTopic,
)
from tests.checkers.catalogue import Answer, Asked, Verb
from tests.checkers.kafka_history import Assign, Poll, Result, Send
from tests.checkers.linearizability import Operation

if TYPE_CHECKING:
    from nodes.world import World

Key = tuple[str, int]
PATIENCE_S = 5.0
"""For one record; after that a producer gives it up and begins anew."""
LOST_IDENTITY = frozenset(
    {
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode.UNKNOWN_PRODUCER_ID,
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.PRODUCER_FENCED,
    }
)


class Client:
    """What all have in common."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.dice = random.Random(world.dice.getrandbits(32))
        self._leaders: dict[Key, int] = {}

    async def ask(self, request: Any, node: int | None = None) -> Any:
        """The answer, or None; without `node`, asks anybody."""
        return await self.world.ask(self.name, node or self.anybody(), request)

    def anybody(self) -> int:
        """Some node that there is."""
        return self.dice.choice(sorted(self.world.machines))

    async def at_leader(self, key: Key, request: Any) -> Any:
        """What became of the one partition that a request names, or None."""
        reply = await self.ask(request, self._leaders.get(key))
        part = reply.topics[0].partitions[0] if reply is not None and reply.topics else None
        if part is None or part.error is not ErrorCode.NONE:
            self._leaders.pop(key, None)
            if part is not None and part.leader is not None and part.leader.node_id > 0:
                self._leaders[key] = part.leader.node_id
        return part


class Producer(Client):
    """Writes values that nobody else writes."""

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(world, name)
        self._number = 0
        self._identity: tuple[int, int] | None = None
        self._sequences: dict[Key, int] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(self.dice.random() * 0.1)
            await self.write(self.dice.choice(self.world.keys_of_data))

    async def write(self, key: Key) -> bool:
        """One record; whether it was acknowledged."""
        self._number += 1
        value = f"{self.name}-{self._number}"
        spoiled = self.dice.random() < 0.02
        result, offset = Result.INFO, None
        noted = False
        try:
            result, offset = await self._tried(key, value, spoiled=spoiled)
            noted = True
        finally:
            if not noted:
                self._identity = None
            where = f"{key[0]}/{key[1]}"
            self.world.history.append(Send(self.name, where, value, result, offset))
            self.world.say(f"{self.name} wrote {value} to {where}: {result.name} {offset}")
        return result is Result.OK

    async def _tried(self, key: Key, value: str, *, spoiled: bool) -> tuple[Result, int | None]:
        sequence = self._sequences.get(key, 0)
        if self._identity is None:
            await self._identify()
            sequence = 0
        if self._identity is None:
            return Result.FAIL, None  # nothing was sent
        identity = ProducerFields(*self._identity, sequence)
        batch = bytearray(
            encode_batch([Record(None, value.encode(), (), 1_700_000_000_000)], producer=identity)
        )
        if spoiled:
            batch[-1] ^= 1
        topic, index = key
        part = ProducePartition(PartitionIndex(index), memoryview(bytes(batch)))
        request = Produce(-1, 1000, (ProduceTopic(TopicName(topic), (part,)),))
        began = trio.current_time()
        while trio.current_time() < began + PATIENCE_S:
            told = await self.at_leader(key, request)
            if told is not None and told.error is ErrorCode.CORRUPT_MESSAGE:
                return Result.FAIL, None
            if told is not None and told.error in {
                ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER
            }:  # fmt: skip
                self._sequences[key] = sequence + 1
                return Result.OK, told.base_offset if told.base_offset >= 0 else None
            if told is not None and told.error in LOST_IDENTITY:
                self.world.lost_identity(f"{self.name} at {value}: {told.error.name}")
                break
            await trio.sleep(0.02 + self.dice.random() * 0.1)
        self._identity = None
        return Result.INFO, None

    async def _identify(self) -> None:
        reply = await self.ask(InitProducerId(None, 60_000))
        if reply is not None and reply.error is ErrorCode.NONE:
            self._identity = (reply.producer_id, reply.producer_epoch)
            self._sequences.clear()


class Consumer(Client):
    """Reads every partition of the data, and now and then begins anew."""

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(world, name)
        self._at: dict[Key, int] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(self.dice.random() * 0.2)
            if self.dice.random() < 0.05:
                self._begin_anew()
            await self.poll(self.dice.choice(self.world.keys_of_data), wait_ms=50)

    def _begin_anew(self) -> None:
        self._at.clear()
        self.world.history.append(Assign(self.name))

    async def poll(self, key: Key, wait_ms: int = 0) -> int | None:
        """One fetch; the high watermark, or None if there was no answer."""
        topic, index = key
        at = self._at.get(key, 0)
        part = FetchPartition(PartitionIndex(index), Offset(at), 4_096)
        request = Fetch(wait_ms, 1, 1 << 20, 0, (FetchTopic(TopicName(topic), (part,)),))
        told = await self.at_leader(key, request)
        if told is None:
            return None
        if told.error is ErrorCode.OFFSET_OUT_OF_RANGE:
            self.world.lost_identity(f"{self.name} at {topic}/{index}@{at}: out of range")
        if told.error is not ErrorCode.NONE:
            return None
        records = tuple(
            (record.offset, record.value.decode())
            for chunk in told.batches
            for each in split(memoryview(chunk))
            for record in decode_batch(each, max_decompressed_bytes=1 << 20)
            if record.offset >= at
        )
        if records:
            self.world.history.append(Poll(self.name, f"{topic}/{index}", records))
            self._at[key] = records[-1][0] + 1
        return int(told.high_watermark)

    async def read_to_end(self, key: Key) -> bool:
        """From the beginning; whether it came to the end."""
        self._begin_anew()
        for _ in range(1_000):
            mark = await self.poll(key)
            if mark is None:
                await trio.sleep(0.1)
            elif self._at.get(key, 0) >= mark:
                return True
        return False


class Administrator(Client):
    """Creates, deletes and looks for topics of a few names."""

    NAMES = 4
    USES = 14
    """Of one name, before another comes in its place: judging is quick then."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(self.dice.random() * 0.25)
            await self.act(self.dice.choice((Verb.CREATE, Verb.DELETE, Verb.DESCRIBE)))

    async def act(self, verb: Verb, name: str | None = None) -> bool:
        """One operation; whether it was answered."""
        world = self.world
        name = name or world.topic_name(self.dice.randrange(self.NAMES), self.USES)
        asked = Asked(verb, world.next_mark() if verb is Verb.CREATE else 0)
        began = trio.current_time()
        answer = None
        try:
            answer = await self._answer(asked, name)
        finally:
            ended = trio.current_time() if answer is not None else None
            world.operations.append(Operation(self.name, name, asked, began, ended, answer))
            world.say(f"{self.name} asked to {verb.value} {name}: {answer}")
        return answer is not None

    async def _answer(self, asked: Asked, name: str) -> Answer | None:
        topic = TopicName(name)
        if asked.verb is Verb.DELETE:
            reply = await self.ask(DeleteTopics((topic,), 1000))
        else:
            looks = asked.verb is Verb.DESCRIBE
            new = NewTopic(topic, 1, 3)
            reply = await self.ask(CreateTopics((new,), 1000, validate_only=looks))
        if reply is None or not getattr(reply, "topics", ()):
            return None
        error = reply.topics[0].error
        if asked.verb is Verb.DESCRIBE and error is ErrorCode.NONE:
            return Answer.UNKNOWN
        return {
            ErrorCode.NONE: Answer.DONE,
            ErrorCode.TOPIC_ALREADY_EXISTS: Answer.EXISTS,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: Answer.UNKNOWN,
        }.get(error)
