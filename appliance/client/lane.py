"""One partition's stream of batches: in order, without gaps, each stored once.

Several batches are in flight at once, each with its sequence. After a failure that may pass, no
new batch is sent until every outcome is known; then all that were not acknowledged go again, in
their order and with their sequences, and the broker recognises those that it already has
(KIP-98; it remembers the last five of each producer, so no more are ever in flight). The first
batch travels alone: a broker takes whatever it sees first of a producer. A failure that will not
pass ends the stream: what came after it could not be stored without a gap.
"""

from collections import deque
from collections.abc import Callable

import msgspec
import trio

from appliance.client.batches import Batch, ProducerIdentity, Receipt, Room
from appliance.client.connection import Connection, Reply
from appliance.client.patience import Backoff, Patience, is_retriable
from appliance.client.replies import only_produced
from appliance.client.session import Session
from appliance.errors import ApplianceError, ErrorCode, RequestError
from appliance.limits import MAX_BATCH_RECORDS
from appliance.types import PartitionIndex, Sequence, TopicName
from appliance.wire.kafka.records import Codec, Producer, Record, encode_batch
from appliance.wire.requests import Produce, ProducePartition, ProduceResult, ProduceTopic

MAX_IN_FLIGHT = 5
"""Batches of one producer that a broker remembers for each partition."""

MAX_SEQUENCE = 0x7FFF_FFFF


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How records become batches, and how batches are sent."""

    batch_bytes: int = 512 * 1024
    linger_s: float = 0.005
    in_flight: int = MAX_IN_FLIGHT
    compression: Codec = Codec.NONE
    delivery_s: float = 120.0


class Lane:
    """Sends one partition's batches; `run` must be running."""

    def __init__(
        self,
        session: Session,
        place: tuple[TopicName, PartitionIndex],
        identity: ProducerIdentity,
        pace: Pace,
        *,
        room: Room,
        on_failure: Callable[[ApplianceError], None],
    ) -> None:
        self._session = session
        self._topic, self._partition = place
        self._identity = identity
        self._pace = pace
        self._room = room
        self._on_failure = on_failure
        self._sequence = 0
        self._in_flight = 1
        self._open: Batch | None = None
        self._sealed: deque[Batch] = deque()
        self._window: deque[tuple[Batch, Reply[ProduceResult]]] = deque()
        self._returned: list[Batch] = []
        self._setback: ApplianceError | None = None
        self._backoff: Backoff | None = None
        self._failure: ApplianceError | None = None
        self._carrier: Connection | None = None
        self._wake = trio.Event()
        self.last: Batch | None = None
        """The batch that was opened last; when it is settled, so are all before it."""

    def add(self, record: Record, size_bytes: int) -> Receipt:
        """Puts a record into the open batch, or into a new one; raises if the stream has ended."""
        if self._failure is not None:
            raise self._failure
        batch = self._open
        if batch is not None and (
            batch.size_bytes + size_bytes > self._pace.batch_bytes
            or len(batch.records) >= MAX_BATCH_RECORDS
        ):
            self.hurry()
            batch = None
        if batch is None:
            batch = self._open = self.last = Batch(trio.current_time())
            self._wake.set()
        batch.records.append(record)
        batch.size_bytes += size_bytes
        return Receipt(batch, len(batch.records) - 1)

    def hurry(self) -> None:
        """Closes the open batch, so that it is sent as soon as the window allows."""
        if self._open is not None:
            self._sealed.append(self._open)
            self._open = None
            self._wake.set()

    async def run(self) -> None:
        """Sends and settles until cancelled."""
        while True:
            self._wake = trio.Event()
            self._settle_replies()
            if self._setback is not None and not self._window:
                await self._regroup(self._setback)
            await self._fill_window()
            if not self._wake.is_set():
                with trio.move_on_at(self._linger_end()):
                    await self._wake.wait()

    async def _fill_window(self) -> None:
        """Sends sealed batches, and an open one whose linger is over."""
        if self._open is not None and trio.current_time() >= self._linger_end():
            self.hurry()
        while self._sealed and self._setback is None and len(self._window) < self._in_flight:
            if not await self._send(self._sealed[0]):
                return
            self._settle_replies()

    async def _send(self, batch: Batch) -> bool:
        """Puts the first sealed batch into flight; False if it must wait.

        All of a window travels on one connection: on another, a batch could overtake those before
        it, and a broker that does not know the producer yet would take it for the first.
        """
        part = ProducePartition(self._partition, self._encoded(batch))
        timeout_ms = int(self._session.patience.total_s * 1000)
        request = Produce(-1, timeout_ms, (ProduceTopic(self._topic, (part,)),))
        try:
            connection = await self._session.leader(self._topic, self._partition)
            if self._window and connection is not self._carrier:
                return False
            reply = await connection.submit(request, ProduceResult)
        except ApplianceError as failure:
            self._judge(failure)
            return False
        self._carrier = connection
        self._sealed.popleft()
        self._window.append((batch, reply))
        reply.notify(self._wake_up)
        return True

    def _encoded(self, batch: Batch) -> memoryview:
        """The batch as it travels, the same bytes each time."""
        if batch.encoded is None:
            batch.sequence = Sequence(self._sequence)
            self._sequence = (self._sequence + len(batch.records)) & MAX_SEQUENCE
            batch.encoded = encode_batch(
                batch.records,
                codec=self._pace.compression,
                producer=Producer(self._identity.producer_id, self._identity.epoch, batch.sequence),
            )
        return memoryview(batch.encoded)

    def _settle_replies(self) -> None:
        """Takes the answers that have come, oldest first."""
        while self._window and self._window[0][1].done:
            batch, reply = self._window.popleft()
            try:
                base_offset = only_produced(reply.result(), self._topic, self._partition)
            except ApplianceError as failure:
                self._returned.append(batch)
                self._judge(failure)
                continue
            self._in_flight = self._pace.in_flight
            self._backoff = None
            self._room.give(batch.size_bytes)
            batch.acknowledge(base_offset)

    def _judge(self, failure: ApplianceError) -> None:
        """Holds the lane for another try of what has returned, or ends its stream."""
        follows_setback = self._setback is not None and (
            isinstance(failure, RequestError)
            and failure.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        )
        if self._failure is None and (follows_setback or is_retriable(failure)):
            self._setback = self._setback or failure
        else:
            self._end(failure)

    async def _regroup(self, setback: ApplianceError) -> None:
        """Waits, then lines up what was not acknowledged, before everything else."""
        self._session.forget(self._topic)
        self._backoff = self._backoff or Backoff(Patience(total_s=self._pace.delivery_s))
        try:
            await self._backoff.wait(setback)
        except ApplianceError as final:
            self._end(final)
        self._sealed.extendleft(reversed(self._returned))
        self._returned.clear()
        self._setback = None

    def _end(self, failure: ApplianceError) -> None:
        """Fails everything that has not been acknowledged, and all that is added later."""
        self._failure = self._failure or failure
        self._on_failure(self._failure)
        self.hurry()
        unsettled = [*self._returned, *self._sealed]
        self._returned.clear()
        self._sealed.clear()
        for batch in unsettled:
            self._room.give(batch.size_bytes)
            batch.fail(self._failure)

    def _linger_end(self) -> float:
        """When the open batch has waited long enough."""
        if self._open is None:
            return float("inf")
        return self._open.opened_at + self._pace.linger_s

    def _wake_up(self) -> None:
        """Lets `run` look again."""
        self._wake.set()
