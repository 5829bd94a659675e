"""What clients tell of themselves: who is asked for what, how often, and where it goes (KIP-714).

Rules: nothing is asked for unless the node's configuration does so. What a client sends is a
stranger's word: it is bounded packed and unpacked, read off the loop, cut down to the metrics that
were asked for, and handed on as names and numbers. Instances are bounded too: the one that was
heard of least lately is forgotten.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from uuid import UUID
from zlib import crc32

import msgspec
import trio

from appliance.broker.caller import Caller
from appliance.errors import ErrorCode, RequestError
from appliance.limits import (
    DEFAULT_PUSH_INTERVAL_S,
    MAX_PUSHED_BYTES,
    MAX_PUSHES_READ_AT_ONCE,
    MAX_TELEMETRY_INSTANCES,
    MAX_UNPACKED_PUSH_BYTES,
)
from appliance.ports import ClientReport, Clock, TelemetrySink
from appliance.wire.kafka.client_metrics import read_client_metrics
from appliance.wire.kafka.compression import Codec, decompress
from appliance.wire.requests import (
    GetTelemetrySubscriptions,
    GetTelemetrySubscriptionsResult,
    PushTelemetry,
)

COMPRESSION_TYPES: Final = tuple(map(int, (Codec.ZSTD, Codec.LZ4, Codec.GZIP, Codec.SNAPPY)))
"""In the order in which Kafka's brokers prefer them."""


class Subscription(msgspec.Struct, frozen=True):
    """What clients are asked for: names of metrics, or how they begin; none, unless it is said."""

    metrics: tuple[str, ...] = ()
    interval_s: float = DEFAULT_PUSH_INTERVAL_S

    @property
    def number(self) -> int:
        """Another one for another subscription, the same on every node."""
        told = "\0".join((*self.metrics, str(self.interval_s))).encode()
        return crc32(told) & 0x7FFF_FFFF


class _Instance(msgspec.Struct):
    """One client, since it was first heard of."""

    asked_at: float | None = None
    pushed_at: float | None = None
    to_ask_again: bool = False
    ended: bool = False


class ClientTelemetry:
    """Keeps to the protocol with each client, and hands on what it sends."""

    def __init__(
        self,
        subscription: Subscription,
        clock: Clock,
        new_id: Callable[[], UUID],
        sink: TelemetrySink | None,
    ) -> None:
        """Reports go to `sink`; without one nothing is asked for."""
        self._subscription = subscription if sink is not None else Subscription()
        self._clock = clock
        self._new_id = new_id
        self._sink = sink
        self._instances: OrderedDict[UUID, _Instance] = OrderedDict()
        self._readers = trio.CapacityLimiter(MAX_PUSHES_READ_AT_ONCE)

    def __len__(self) -> int:
        """Instances that are remembered."""
        return len(self._instances)

    def ask(self, request: GetTelemetrySubscriptions) -> GetTelemetrySubscriptionsResult:
        """What a client is to push; raises RequestError to one that asks too often."""
        number = request.client_instance_id or self._new_id()
        instance = self._instance(number)
        now = self._clock.monotonic()
        if self._asks_early(instance, now) and not instance.to_ask_again:
            raise RequestError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, "the interval is not over yet")
        instance.asked_at = now
        instance.to_ask_again = False
        wanted = self._subscription
        return GetTelemetrySubscriptionsResult(
            ErrorCode.NONE,
            number,
            wanted.number,
            COMPRESSION_TYPES,
            int(wanted.interval_s * 1000),
            MAX_PUSHED_BYTES,
            deltas=True,
            metrics=wanted.metrics,
        )

    async def push(self, caller: Caller, request: PushTelemetry) -> None:
        """Takes what a client sends; raises RequestError, with Kafka's code, for what it may not.

        (1) Who it is; (2) that it has not ended, and does not come too early; (3) that it knows
        what is asked for now; (4) that it is no more than was allowed, packed and unpacked; (5)
        that it can be read.
        """
        number = request.client_instance_id
        if number is None:
            raise RequestError(ErrorCode.INVALID_REQUEST, "a push comes from an instance")
        instance, now = self._instance(number), self._clock.monotonic()
        if instance.ended:
            raise RequestError(ErrorCode.INVALID_REQUEST, "the instance has ended")
        if self._pushes_early(instance, now) and not request.terminating:
            raise RequestError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, "the interval is not over yet")
        if request.subscription_id != self._subscription.number:
            instance.to_ask_again = True
            raise RequestError(ErrorCode.UNKNOWN_SUBSCRIPTION_ID, "ask for the subscription again")
        if request.compression_type not in {0, *COMPRESSION_TYPES}:
            raise RequestError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "there is no such codec")
        if len(request.metrics) > MAX_PUSHED_BYTES:
            raise RequestError(ErrorCode.TELEMETRY_TOO_LARGE, "a push is larger than was allowed")
        instance.pushed_at = now
        instance.ended = request.terminating
        if self._sink is not None and self._subscription.metrics and request.metrics:
            metrics = await self._read(request)
            self._sink.report(ClientReport(str(caller.principal), number, metrics))

    async def _read(self, request: PushTelemetry) -> tuple[tuple[str, float], ...]:
        """The metrics that were asked for, read in a thread."""
        wanted = self._subscription.metrics
        codec = Codec(request.compression_type)

        def read() -> tuple[tuple[str, float], ...]:
            packed = memoryview(request.metrics)
            unpacked = decompress(codec, packed, MAX_UNPACKED_PUSH_BYTES)
            found = read_client_metrics(unpacked)
            return tuple((each.name, each.value) for each in found if each.name.startswith(wanted))

        return await trio.to_thread.run_sync(read, limiter=self._readers)

    def _asks_early(self, instance: _Instance, now: float) -> bool:
        heard = [at for at in (instance.asked_at, instance.pushed_at) if at is not None]
        return bool(heard) and now - max(heard) < self._subscription.interval_s

    def _pushes_early(self, instance: _Instance, now: float) -> bool:
        """A first push after the subscription was asked for may come at any time."""
        asked, pushed = instance.asked_at, instance.pushed_at
        if pushed is None or (asked is not None and asked > pushed):
            return False
        return now - pushed < self._subscription.interval_s

    def _instance(self, number: UUID) -> _Instance:
        instance = self._instances.get(number)
        if instance is None:
            if len(self._instances) >= MAX_TELEMETRY_INSTANCES:
                self._instances.popitem(last=False)
            instance = self._instances[number] = _Instance()
        self._instances.move_to_end(number)
        return instance
