"""Each record is stored once and in order, whatever happens to connections and replies."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.client.connection import Disconnected
from appliance.client.lane import Pace
from appliance.client.patience import Patience
from appliance.client.publisher import Publisher, PublisherSettings, open_publisher
from appliance.client.session import open_session
from appliance.errors import ErrorCode, RequestError
from appliance.types import PartitionIndex, TopicName
from appliance.wire.kafka.records import Codec

TOPIC = TopicName("lines")


def publish(
    broker,
    action: Callable[[Publisher], Awaitable[None]],
    pace: Pace | None = None,
    buffer_bytes: int = 1 << 20,
) -> None:
    """Runs an action with a publisher; waits cost no real time."""

    async def with_publisher() -> None:
        chosen = PublisherSettings(pace=pace or Pace(batch_bytes=600), buffer_bytes=buffer_bytes)
        async with (
            open_session(broker.dial, [broker.address], Patience(total_s=20)) as session,
            open_publisher(session, chosen) as publisher,
        ):
            await action(publisher)

    broker.run(with_publisher)


async def send_numbers(count: int, publisher: Publisher) -> None:
    for number in range(count):
        await publisher.send(TOPIC, b"%06d" % number)


def numbers(broker, topic: str = TOPIC, part: int = 0) -> list[int]:
    return [int(record.value) for record in broker.records(topic, part)]


def test_what_is_flushed_is_stored_in_order(broker) -> None:
    publish(broker, partial(send_numbers, 500))
    assert numbers(broker) == list(range(500))
    assert len(broker.logs[TOPIC, 0]) > 10


@pytest.mark.parametrize("codec", list(Codec))
def test_every_codec_is_read_back(broker, codec: Codec) -> None:
    publish(broker, partial(send_numbers, 100), Pace(compression=codec))
    assert numbers(broker) == list(range(100))


def test_linger_gathers_and_then_sends(broker) -> None:
    async def action(publisher: Publisher) -> None:
        receipts = [await publisher.send(TOPIC, b"%d" % n) for n in range(10)]
        assert [await receipt.offset() for receipt in receipts] == list(range(10))

    publish(broker, action, Pace(linger_s=0.5))
    assert len(broker.logs[TOPIC, 0]) == 1


faults = st.lists(
    st.sampled_from(
        [
            None,
            "lose the connection before storing",
            "lose the connection after storing",
            ErrorCode.NOT_LEADER_OR_FOLLOWER,
            ErrorCode.NOT_ENOUGH_REPLICAS,
            ErrorCode.REQUEST_TIMED_OUT,
        ]
    ),
    max_size=12,
)


@given(script=faults)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_doubled_or_reordered_by_faults(make_broker, script) -> None:
    broker = make_broker()
    broker.script.extend(script)
    publish(broker, partial(send_numbers, 300))
    assert numbers(broker) == list(range(300))


def test_a_final_refusal_ends_the_stream_and_reaches_the_sender(broker) -> None:
    broker.script.append(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(RequestError) as caught:
        publish(broker, partial(send_numbers, 300))
    assert caught.value.code is ErrorCode.TOPIC_AUTHORIZATION_FAILED
    assert numbers(broker) == []


def test_a_hole_in_the_sequence_is_final(broker) -> None:
    broker.script.append(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
    with pytest.raises(RequestError) as caught:
        publish(broker, partial(send_numbers, 3))
    assert caught.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_duplicate_that_the_broker_names_counts_as_stored(broker) -> None:
    async def action(publisher: Publisher) -> None:
        receipt = await publisher.send(TOPIC, b"1")
        assert await receipt.offset() == -1

    broker.script.append(ErrorCode.DUPLICATE_SEQUENCE_NUMBER)
    publish(broker, action)


def test_a_broker_that_never_recovers_is_given_up(broker) -> None:
    broker.script.extend(["lose the connection before storing"] * 10_000)
    with pytest.raises(Disconnected):
        publish(broker, partial(send_numbers, 3))


def test_a_full_buffer_holds_the_sender_back(broker) -> None:
    async def action(publisher: Publisher) -> None:
        await publisher.send(TOPIC, b"0")
        await publisher.flush()
        broker.held = trio.Event()
        sent = 0
        with trio.move_on_after(1):
            for number in range(1, 10_000):
                await publisher.send(TOPIC, b"%06d" % number)
                sent = number
        assert 0 < sent < 1_000
        broker.held.set()
        await publisher.flush()

    publish(broker, action, buffer_bytes=10_000)


def test_at_most_five_batches_are_in_flight(broker) -> None:
    """More than a broker remembers of a producer could be stored twice (KIP-98)."""
    asked = 0

    def count(correlation, request):
        nonlocal asked
        asked += type(request).__name__ == "Produce"

    async def action(publisher: Publisher) -> None:
        await publisher.send(TOPIC, b"0")
        await publisher.flush()
        broker.override = count
        broker.held = trio.Event()
        for number in range(1, 500):
            await publisher.send(TOPIC, b"%06d" % number)
        await trio.sleep(5)
        broker.override = None
        broker.held.set()

    publish(broker, action)
    assert asked <= 5


def test_keys_stay_on_their_partition(broker) -> None:
    async def action(publisher: Publisher) -> None:
        for number in range(200):
            await publisher.send(TOPIC, b"%d" % number, key=b"key-%d" % (number % 7))

    broker.partition_count = 4
    publish(broker, action)
    homes: dict[bytes, set[int]] = {}
    for index in range(4):
        for record in broker.records(TOPIC, index):
            homes.setdefault(record.key, set()).add(index)
        values = numbers(broker, TOPIC, index)
        assert values == sorted(values)
    assert len(homes) == 7
    assert all(len(home) == 1 for home in homes.values())


def test_a_partition_that_is_not_there_is_refused(broker) -> None:
    async def action(publisher: Publisher) -> None:
        await publisher.send(TOPIC, b"1", partition=PartitionIndex(9))

    with pytest.raises(RequestError, match="none is 9"):
        publish(broker, action)


def test_a_record_that_fits_no_batch_is_refused_before_it_is_sent(broker) -> None:
    async def action(publisher: Publisher) -> None:
        await publisher.send(TOPIC, bytes(9 << 20))

    with pytest.raises(RequestError) as caught:
        publish(broker, action)
    assert caught.value.code is ErrorCode.MESSAGE_TOO_LARGE
