"""Quotas at a node: who uses too much waits, others do not, and nobody makes memory grow."""

import pytest

from appliance.broker import quotas as module
from appliance.broker.caller import Caller
from appliance.broker.quotas import Quotas
from appliance.coordination.quotas import (
    CLIENT_ID,
    CONNECTION_CREATION_RATE,
    CONSUMER_BYTE_RATE,
    CONTROLLER_MUTATION_RATE,
    IP,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    USER,
    SetQuotas,
)
from appliance.coordination.quotas import Quotas as SetOnes
from appliance.coordination.token_bucket import WINDOW_S
from appliance.errors import ErrorCode
from appliance.limits import MAX_REQUEST_THROTTLE_S
from appliance.types import Principal, PrincipalKind
from appliance.wire.requests import (
    AlterClientQuotas,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    DescribeClientQuotas,
    Heartbeat,
    Metadata,
    MorePartitions,
    NewTopic,
    Produce,
    QuotaChange,
    QuotaComponent,
    QuotaEntityPart,
    QuotasToChange,
)

PRODUCE = Produce(-1, 1000, ())
OTHER = Heartbeat("group", 1, "member")


class Time:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def now_ms(self):
        return int(self.now * 1000)


def of(user, client_id="app"):
    return Caller(Principal(PrincipalKind.USER, user), "kafka", "10.0.0.1", client_id)


def charge(quotas, caller, request, size_bytes, work_s):
    """As on a connection that is new each time, so that nothing rests on its memory."""
    return quotas.account(caller).charge(request, size_bytes, work_s)


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def set_ones():
    return SetOnes()


@pytest.fixture
def quotas(time, set_ones):
    return Quotas(set_ones, time)


def put(set_ones, *entity, **values):
    set_ones.apply(SetQuotas(tuple(sorted(entity)), tuple(values.items())))


def test_produced_bytes_are_owed_and_paid_by_waiting(quotas, set_ones, time):
    put(set_ones, (USER, "alice"), producer_byte_rate=100.0)
    assert charge(quotas, of("alice"), PRODUCE, 1_000, 0.0) == 0
    assert charge(quotas, of("alice"), PRODUCE, 200, 0.0) == 2_000
    assert charge(quotas, of("bob"), PRODUCE, 200, 0.0) == 0
    assert charge(quotas, of("alice"), OTHER, 9_999, 0.0) == 0, "only what is produced counts"
    time.now += 2
    assert charge(quotas, of("alice"), PRODUCE, 0, 0.0) == 0
    assert charge(quotas, of("alice"), PRODUCE, 100, 0.0) == 1_000


def test_a_users_quota_holds_for_all_of_its_client_ids_together(quotas, set_ones):
    put(set_ones, (USER, "alice"), producer_byte_rate=100.0)
    waits = [charge(quotas, of("alice", f"id-{n}"), PRODUCE, 500, 0.0) for n in range(4)]
    assert waits == [0, 0, 5_000, 10_000]


def test_a_clients_quota_holds_for_it_whoever_uses_it(quotas, set_ones):
    put(set_ones, (CLIENT_ID, "app"), producer_byte_rate=100.0)
    assert charge(quotas, of("alice"), PRODUCE, 1_000, 0.0) == 0
    assert charge(quotas, of("bob"), PRODUCE, 100, 0.0) == 1_000
    assert charge(quotas, of("bob", "other"), PRODUCE, 100, 0.0) == 0


def test_time_of_the_event_loop_is_held_back_a_second_at_most(quotas, set_ones):
    put(set_ones, (USER, "alice"), request_percentage=1.0)
    assert charge(quotas, of("alice"), OTHER, 10, 0.1) == 0
    assert charge(quotas, of("alice"), OTHER, 10, 0.005) == 500
    assert charge(quotas, of("alice"), OTHER, 10, 9.0) == MAX_REQUEST_THROTTLE_S * 1000


def test_by_default_a_loop_that_one_user_fills_is_given_to_others_too(quotas, time):
    waited_ms = 0
    for _ in range(100):
        time.now += 1
        waited_ms += charge(quotas, of("alice"), OTHER, 10, 1.0)
    assert waited_ms > 0
    assert charge(quotas, of("bob"), OTHER, 10, 0.001) == 0


def test_a_changed_quota_counts_at_once_and_debts_stay(quotas, set_ones):
    put(set_ones, (USER, "alice"), producer_byte_rate=100.0)
    assert charge(quotas, of("alice"), PRODUCE, 1_500, 0.0) == 5_000
    put(set_ones, (USER, "alice"), producer_byte_rate=1_000.0)
    assert charge(quotas, of("alice"), PRODUCE, 1_000, 0.0) == 1_500
    put(set_ones, (USER, "alice"), producer_byte_rate=None)
    assert charge(quotas, of("alice"), PRODUCE, 1, 0.0) == 1, "paid at once by what holds now"


def test_a_connection_notices_that_another_quota_counts(quotas, set_ones):
    account = quotas.account(of("alice"))
    assert account.charge(PRODUCE, 10_000, 0.0) == 0
    put(set_ones, (USER, "alice"), producer_byte_rate=100.0)
    assert account.charge(PRODUCE, 2_000, 0.0) > 0


def test_inventing_client_ids_keeps_memory_bounded(quotas, set_ones, time, monkeypatch):
    monkeypatch.setattr(module, "MAX_QUOTA_BUCKETS", 50)
    put(set_ones, (CLIENT_ID, None), producer_byte_rate=100.0, request_percentage=10.0)
    for number in range(5_000):
        charge(quotas, of("mallory", f"id-{number}"), PRODUCE, 10, 0.001)
        assert quotas.bucket_count <= 2 * (50 + 1)
    assert len(quotas._produced._cached) <= 50
    waits = [charge(quotas, of("mallory", f"new-{n}"), PRODUCE, 900, 0.0) for n in range(3)]
    assert waits[-1] > 0, "newcomers beyond the bound share one bucket"
    time.now += 2 * WINDOW_S
    assert charge(quotas, of("honest", "known"), PRODUCE, 900, 0.0) == 0
    assert quotas.bucket_count < 50, "what is full is forgotten"


def test_a_bucket_is_not_forgotten_while_something_is_owed(quotas, set_ones, time, monkeypatch):
    monkeypatch.setattr(module, "MAX_QUOTA_BUCKETS", 10)
    put(set_ones, (CLIENT_ID, None), producer_byte_rate=100.0)
    assert charge(quotas, of("alice", "debtor"), PRODUCE, 3_000, 0.0) == 20_000
    for number in range(100):
        time.now += 0.1
        charge(quotas, of("mallory", f"id-{number}"), PRODUCE, 1, 0.0)
    assert charge(quotas, of("alice", "debtor"), PRODUCE, 0, 0.0) == pytest.approx(10_000, abs=1)


def test_an_address_that_connects_too_fast_is_told_when_it_may(quotas, set_ones, time):
    put(set_ones, (IP, None), connection_creation_rate=1.0)
    put(set_ones, (IP, "10.0.0.9"), connection_creation_rate=2.0)
    waits = [quotas.connection("10.0.0.1", "10.0.0.1") for _ in range(12)]
    assert waits[:10] == [0.0] * 10
    assert waits[10:] == [1.0, 1.0], "who is refused is not counted"
    assert [quotas.connection("10.0.0.9", "10.0.0.9") for _ in range(21)][-2:] == [0.0, 0.5]
    time.now += 1
    assert quotas.connection("10.0.0.1", "10.0.0.1") == 0.0


def alter(entity, *changes, validate_only=False):
    parts = tuple(QuotaEntityPart(kind, name) for kind, name in entity)
    return AlterClientQuotas(
        (QuotasToChange(parts, tuple(QuotaChange(*change) for change in changes)),), validate_only
    )


def test_quotas_that_are_named_twice_are_refused_not_settled_by_their_order(world, run):
    async def main():
        async with world.running() as broker:
            rate, other = (PRODUCER_BYTE_RATE, 5e3, False), (CONSUMER_BYTE_RATE, 5e3, False)
            once = alter([("user", "alice")], rate).entries[0]
            turned = alter([("client-id", "app"), ("user", "bob")], other).entries[0]
            again = alter([("user", "bob"), ("client-id", "app")], rate).entries[0]
            keys = alter([("user", "carol")], rate, rate).entries[0]
            asked = AlterClientQuotas((turned, once, again, keys), False)
            answer = await broker.ask("admin", asked)
            refused = ErrorCode.INVALID_REQUEST
            assert [each.error for each in answer.entries] == [
                refused, ErrorCode.NONE, refused, refused
            ]  # fmt: skip
            assert list(broker.node.policies.state.quotas.held) == [(("user", "alice"),)]

    run(main)


ENTITIES = [
    [("user", "alice")],
    [("user", None)],
    [("user", "alice"), ("client-id", "app")],
    [("client-id", None)],
    [("ip", "10.0.0.1")],
]


def told(entry):
    return sorted((part.kind, part.name) for part in entry.entity)


@pytest.mark.parametrize(
    ("components", "strict", "found"),
    [
        ((), False, [0, 1, 2, 3, 4]),
        ((), True, []),
        ((("user", 0, "alice"),), False, [0, 2]),
        ((("user", 0, "alice"),), True, [0]),
        ((("user", 1),), False, [1]),
        ((("user", 2),), False, [0, 1, 2]),
        ((("user", 2),), True, [0, 1]),
        ((("user", 2), ("client-id", 0, "app")), True, [2]),
        ((("client-id", 1),), False, [3]),
        ((("ip", 2),), False, [4]),
        ((("ip", 0, "10.0.0.2"),), False, []),
    ],
)
def test_described_is_what_fits_the_filter(world, run, components, strict, found):
    async def main():
        async with world.running() as broker:
            for entity in ENTITIES:
                key = CONNECTION_CREATION_RATE if entity[0][0] == "ip" else CONSUMER_BYTE_RATE
                (altered,) = (await broker.ask("admin", alter(entity, (key, 9.0)))).entries
                assert altered.error is ErrorCode.NONE
            wanted = tuple(QuotaComponent(*each) for each in components)
            result = await broker.ask("admin", DescribeClientQuotas(wanted, strict))
            assert result.error is ErrorCode.NONE
            fitting = sorted(map(told, result.entries), key=str)
            assert fitting == sorted((sorted(ENTITIES[n]) for n in found), key=str)
            assert all(entry.values[0].value == 9.0 for entry in result.entries)

    run(main)


@pytest.mark.parametrize(
    ("components", "code"),
    [
        ((("", 2),), ErrorCode.INVALID_REQUEST),
        ((("user", 2), ("user", 1)), ErrorCode.INVALID_REQUEST),
        ((("host", 2),), ErrorCode.UNSUPPORTED_VERSION),
        ((("user", 3),), ErrorCode.INVALID_REQUEST),
        ((("user", 0),), ErrorCode.INVALID_REQUEST),
        ((("user", 1, "alice"),), ErrorCode.INVALID_REQUEST),
        ((("user", 2, "alice"),), ErrorCode.INVALID_REQUEST),
        ((("user", 2), ("ip", 2)), ErrorCode.INVALID_REQUEST),
    ],
)
def test_a_filter_that_means_nothing_is_refused_as_kafka_does(world, run, components, code):
    async def main():
        async with world.running() as broker:
            wanted = tuple(QuotaComponent(*each) for each in components)
            result = await broker.ask("admin", DescribeClientQuotas(wanted))
            assert (result.error, result.entries) == (code, None)

    run(main)


def test_quotas_are_recorded_set_kept_over_a_restart_and_removed(world, run):
    async def main():
        disk = world.Disk()
        async with world.running(disk) as broker:
            tried = alter([("user", "a")], (PRODUCER_BYTE_RATE, 5.0), validate_only=True)
            assert (await broker.ask("admin", tried)).entries[0].error is ErrorCode.NONE
            assert (await broker.ask("admin", DescribeClientQuotas(()))).entries == ()
            assert not broker.sink.of("Mutation")
            await broker.ask("admin", alter([("user", "a")], (PRODUCER_BYTE_RATE, 5.0)))
            (recorded,) = broker.sink.of("Mutation")
            assert recorded.resources == ("user=a",)
            assert recorded.detail == "producer_byte_rate=5.0"
        async with world.running(disk) as broker:
            (entry,) = (await broker.ask("admin", DescribeClientQuotas(()))).entries
            assert told(entry) == [("user", "a")]
            await broker.ask("admin", alter([("user", "a")], (PRODUCER_BYTE_RATE, 0.0, True)))
            assert (await broker.ask("admin", DescribeClientQuotas(()))).entries == ()

    run(main)


def test_a_fetch_over_the_quota_is_paid_by_the_next_one(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            await broker.produce(world.batch(b"x" * 3_000))
            await broker.ask("admin", alter([("user", "admin")], (CONSUMER_BYTE_RATE, 100.0)))
            first = await broker.ask("admin", world.fetch_request())
            assert len(first.topics[0].partitions[0].batches) == 1, "the first batch is whole"
            assert first.throttle_time_ms > 20_000 - 1
            second = await broker.ask("admin", world.fetch_request())
            assert second.topics == ()
            assert (second.error, second.session_id) == (ErrorCode.NONE, 0)
            assert 0 < second.throttle_time_ms <= first.throttle_time_ms
            await world.sleep(second.throttle_time_ms / 1000)
            third = await broker.ask("admin", world.fetch_request())
            assert len(third.topics[0].partitions[0].batches) == 1

    run(main)


def test_changes_of_topics_over_the_quota_are_refused_until_it_is_paid(world, run):
    async def main():
        async with world.running() as broker:
            await broker.ask("admin", alter([("user", "admin")], (CONTROLLER_MUTATION_RATE, 0.5)))
            new = tuple(NewTopic(name, 4) for name in ("a", "b", "c"))
            made = await broker.ask("admin", CreateTopics(new, 1000))
            codes = [topic.error for topic in made.topics]
            assert codes == [ErrorCode.NONE, ErrorCode.NONE, ErrorCode.THROTTLING_QUOTA_EXCEEDED]
            assert made.throttle_time_ms == 6_000
            more = await broker.ask("admin", CreatePartitions((MorePartitions("a", 5),), 1000))
            assert more.topics[0].error is ErrorCode.THROTTLING_QUOTA_EXCEEDED
            gone = await broker.ask("admin", DeleteTopics(("a",), 1000))
            assert gone.topics[0].error is ErrorCode.THROTTLING_QUOTA_EXCEEDED
            tried = await broker.ask("admin", CreateTopics((NewTopic("d", 1),), 1, True))
            assert tried.topics[0].error is ErrorCode.NONE, "to try out costs nothing"
            used = await broker.ask("admin", Metadata(("auto",), allow_auto_topic_creation=True))
            assert used.topics[0].error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            await world.sleep(6)
            gone = await broker.ask("admin", DeleteTopics(("a",), 1000))
            assert gone.topics[0].error is ErrorCode.NONE

    run(main)


def test_a_client_that_does_not_know_the_refusal_is_only_held_back(world, run):
    async def main():
        async with world.running() as broker:
            await broker.ask("admin", alter([("user", "admin")], (CONTROLLER_MUTATION_RATE, 0.5)))
            new = tuple(NewTopic(name, 4) for name in ("a", "b", "c"))
            made = await broker.ask("admin", CreateTopics(new, 1000, knows_throttling=False))
            assert {topic.error for topic in made.topics} == {ErrorCode.NONE}
            assert made.throttle_time_ms == 14_000

    run(main)


def test_keys_are_those_of_kafka():
    assert (PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE) == ("producer_byte_rate", "consumer_byte_rate")
    assert REQUEST_PERCENTAGE == "request_percentage"
