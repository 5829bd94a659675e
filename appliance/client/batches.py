"""What waits to be sent: records gathered into batches, one open batch a partition.

Sizes are estimated upward, so that an encoded batch never exceeds what its records were counted
as. A batch keeps its sequence once it has one: a batch sent again is recognised by it.
"""

import msgspec
import trio

from appliance.errors import ApplianceError
from appliance.types import Offset, ProducerEpoch, ProducerId, Sequence
from appliance.wire.kafka.records import Record

BATCH_OVERHEAD_BYTES = 64
RECORD_OVERHEAD_BYTES = 32
"""Above what the varints and attributes of one record without headers can take."""


def size_of(record: Record) -> int:
    """Bytes that a record takes at most, uncompressed."""
    size = RECORD_OVERHEAD_BYTES
    if record.key is not None:
        size += len(record.key)
    if record.value is not None:
        size += len(record.value)
    for name, value in record.headers:
        size += 10 + 4 * len(name) + (len(value) if value is not None else 0)
    return size


class ProducerIdentity(msgspec.Struct, frozen=True):
    """What the broker recognises repeated batches by."""

    producer_id: ProducerId
    epoch: ProducerEpoch


class Batch:
    """Records of one partition that will travel, and be acknowledged, together."""

    __slots__ = (
        "_failure", "_settled", "base_offset", "encoded", "opened_at", "records", "sequence",
        "settled", "size_bytes",
    )  # fmt: skip

    def __init__(self, opened_at: float) -> None:
        self.records: list[Record] = []
        self.size_bytes = BATCH_OVERHEAD_BYTES
        self.opened_at = opened_at
        self.sequence: Sequence | None = None
        self.encoded: bytearray | None = None
        self.settled = False
        self.base_offset = Offset(-1)
        self._failure: ApplianceError | None = None
        self._settled: trio.Event | None = None

    def acknowledge(self, base_offset: Offset) -> None:
        """The batch is durable from `base_offset` on; -1 if the broker no longer knows where."""
        self.base_offset = base_offset
        self._settle()

    def fail(self, failure: ApplianceError) -> None:
        """The batch will not be sent again."""
        self._failure = failure
        self._settle()

    async def wait(self) -> Offset:
        """The base offset, when the batch is acknowledged; raises why it never will be."""
        if not self.settled:
            self._settled = self._settled or trio.Event()
            await self._settled.wait()
        if self._failure is not None:
            raise self._failure
        return self.base_offset

    def _settle(self) -> None:
        """Tells whoever waits; the payload is no longer needed."""
        self.settled = True
        self.encoded = None
        self.records = []
        if self._settled is not None:
            self._settled.set()


class Receipt(msgspec.Struct, frozen=True):
    """Stands for one record that was accepted for sending."""

    batch: Batch
    position: int

    async def offset(self) -> Offset:
        """The record's offset, when it is durable; -1 if a repeat hid it. Raises why it failed."""
        base = await self.batch.wait()
        return Offset(base + self.position) if base >= 0 else base


class Room:
    """The bytes that may wait in one publisher; whoever adds more waits."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._held_bytes = 0
        self._waiting = trio.lowlevel.ParkingLot()
        self._closed: ApplianceError | None = None

    async def take(self, size_bytes: int) -> None:
        """Waits until the bytes fit; more than the whole room holds fits when it is empty."""
        while self._closed is None and not self._fits(size_bytes):
            await self._waiting.park()
        if self._closed is not None:
            raise self._closed
        self._held_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """Frees bytes that were taken."""
        self._held_bytes -= size_bytes
        self._waiting.unpark_all()

    def close(self, reason: ApplianceError) -> None:
        """Fails whoever waits for room, now and later."""
        self._closed = reason
        self._waiting.unpark_all()

    def _fits(self, size_bytes: int) -> bool:
        """Whether there is room now."""
        return self._held_bytes == 0 or self._held_bytes + size_bytes <= self._capacity_bytes
