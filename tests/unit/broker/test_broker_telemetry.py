"""Clients are asked for what the configuration wants, and what they send is held to its bounds."""

import struct
from uuid import UUID

import cramjam
import pytest

from appliance.broker import telemetry as module
from appliance.broker.telemetry import COMPRESSION_TYPES, Subscription
from appliance.errors import ErrorCode
from appliance.limits import MAX_PUSHED_BYTES, MAX_UNPACKED_PUSH_BYTES
from appliance.wire.requests import GetTelemetrySubscriptions, PushTelemetry
from tests.simulation import threads

WANTED = Subscription(("org.apache.kafka.producer.",), 60)
ZSTD = 4


def inner(number, content):
    size = len(content)
    assert size < 1 << 14
    return bytes([number << 3 | 2, size & 0x7F | 0x80, size >> 7]) + content


def metric(name, value):
    point = inner(1, bytes([4 << 3 | 1]) + struct.pack("<d", value))
    return inner(2, inner(1, name.encode()) + inner(5, point))


METRICS = inner(
    1,
    inner(
        2,
        metric("org.apache.kafka.producer.record.send.rate", 7.5)
        + metric("org.apache.kafka.consumer.other", 1.0),
    ),
)


class Reports:
    def __init__(self):
        self.all = []

    def report(self, report):
        self.all.append(report)


@pytest.fixture
def asked(world, run):
    """Runs a test's body with a broker that wants metrics, and where they go."""

    def runs(body, subscription=WANTED):
        async def main():
            reports = Reports()
            changes = {"subscription": subscription, "client_reports": reports}
            async with world.running(**changes) as broker:
                await body(broker, reports)

        with threads.inline():  # a slow thread would let the clock of the tests jump ahead
            run(main)

    return runs


async def subscribe(broker, instance=None):
    return await broker.ask("nobody", GetTelemetrySubscriptions(instance))


def push(told, data=METRICS, *, codec=0, last=False, number=None, instance=None):
    return PushTelemetry(
        instance or told.client_instance_id,
        told.subscription_id if number is None else number,
        last,
        codec,
        bytes(data),
    )


async def pushed(broker, *args, **changes):
    return (await broker.ask("nobody", push(*args, **changes))).error


def test_nothing_is_asked_for_unless_it_is_configured(world, run):
    async def main():
        async with world.running() as broker:
            told = await subscribe(broker)
            assert told.error is ErrorCode.NONE
            assert told.metrics == ()
            assert told.client_instance_id is not None
            assert told.push_interval_ms == 300_000
            assert await pushed(broker, told, b"whatever") is ErrorCode.NONE

    run(main)


@pytest.mark.parametrize("codec", [0, *COMPRESSION_TYPES])
def test_what_was_asked_for_is_handed_on_and_nothing_else(asked, codec):
    pack = {
        0: bytes,
        1: cramjam.gzip.compress,
        2: cramjam.snappy.compress_raw,
        3: cramjam.lz4.compress,
        4: cramjam.zstd.compress,
    }[codec]

    async def body(broker, reports):
        told = await subscribe(broker)
        assert told.metrics == WANTED.metrics
        assert told.compression_types == (4, 3, 1, 2)
        assert await pushed(broker, told, pack(METRICS), codec=codec) is ErrorCode.NONE
        (report,) = reports.all
        assert report.metrics == (("org.apache.kafka.producer.record.send.rate", 7.5),)
        assert report.instance == told.client_instance_id

    asked(body)


def test_a_bomb_is_refused_within_the_bound(asked):
    bomb = bytes(cramjam.zstd.compress(bytes(16 * MAX_UNPACKED_PUSH_BYTES)))
    assert len(bomb) < 10_000

    async def body(broker, reports):
        told = await subscribe(broker)
        assert await pushed(broker, told, bomb, codec=ZSTD) is ErrorCode.INVALID_RECORD
        assert not reports.all

    asked(body)


def test_what_may_not_be_sent_gets_kafkas_code(asked, world):
    async def body(broker, reports):
        told = await subscribe(broker)
        nobody = PushTelemetry(None, told.subscription_id, False, 0, METRICS)
        assert (await broker.ask("nobody", nobody)).error is ErrorCode.INVALID_REQUEST
        codes = [
            (await pushed(broker, told, number=1), ErrorCode.UNKNOWN_SUBSCRIPTION_ID),
            (await pushed(broker, told, codec=9), ErrorCode.UNSUPPORTED_COMPRESSION_TYPE),
            (
                await pushed(broker, told, bytes(MAX_PUSHED_BYTES + 1)),
                ErrorCode.TELEMETRY_TOO_LARGE,
            ),
            (await pushed(broker, told, b"\xff" * 9), ErrorCode.INVALID_RECORD),
        ]
        assert all(found is wanted for found, wanted in codes), codes
        assert await pushed(broker, told) is ErrorCode.THROTTLING_QUOTA_EXCEEDED
        await world.sleep(61)
        assert await pushed(broker, told) is ErrorCode.NONE
        assert await pushed(broker, told, last=True) is ErrorCode.NONE, "the last may come early"
        await world.sleep(61)
        assert await pushed(broker, told) is ErrorCode.INVALID_REQUEST, "it has ended"
        assert len(reports.all) == 2

    asked(body)


def test_the_subscription_is_asked_for_once_an_interval_or_when_it_is_not_known(asked, world):
    async def body(broker, reports):
        told = await subscribe(broker)
        again = await subscribe(broker, told.client_instance_id)
        assert again.error is ErrorCode.THROTTLING_QUOTA_EXCEEDED
        assert again.client_instance_id == told.client_instance_id
        assert await pushed(broker, told, number=1) is ErrorCode.UNKNOWN_SUBSCRIPTION_ID
        again = await subscribe(broker, told.client_instance_id)
        assert (again.error, again.subscription_id) == (ErrorCode.NONE, told.subscription_id)
        await world.sleep(61)
        assert (await subscribe(broker, told.client_instance_id)).error is ErrorCode.NONE

    asked(body)


def test_inventing_instances_keeps_memory_bounded(asked, monkeypatch):
    monkeypatch.setattr(module, "MAX_TELEMETRY_INSTANCES", 5)

    async def body(broker, reports):
        told = await subscribe(broker)
        for number in range(1, 50):
            invented = UUID(int=number)
            assert await pushed(broker, told, instance=invented, number=1) is (
                ErrorCode.UNKNOWN_SUBSCRIPTION_ID
            )
        handler = broker.dispatcher._handlers[PushTelemetry]
        assert len(handler._telemetry) == 5

    asked(body)
