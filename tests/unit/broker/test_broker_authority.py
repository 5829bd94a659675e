"""Nothing without the gate, nothing without the audit log."""

import pytest
import trio

from appliance.authz.catalogue import CATALOGUE
from appliance.broker.auditor import FOLDING_S, Auditor
from appliance.broker.dispatch import Dispatcher
from appliance.broker.foundation import CATALOGUE_LOG
from appliance.errors import ErrorCode
from appliance.invariant import InvariantViolation
from appliance.wire.requests import (
    ApiVersions,
    CreateTopics,
    DeleteTopics,
    DescribePolicy,
    Fetch,
    FetchPartition,
    FetchTopic,
    Metadata,
    NewTopic,
    Produce,
    ProducePartition,
    ProduceTopic,
    ReplacePolicy,
    Request,
)


class Unlisted(Request, frozen=True):
    """A request that authorisation has never heard of."""


class Handler:
    """Answers one type."""

    def __init__(self, request):
        self.request = request


def test_a_request_without_a_row_in_the_catalogue_cannot_be_registered(world, run):
    async def main():
        async with world.running() as broker:
            with pytest.raises(InvariantViolation, match="Unlisted"):
                broker.dispatcher.register(Handler(Unlisted))

    run(main)


def test_a_request_has_one_handler(world, run):
    async def main():
        async with world.running() as broker:
            with pytest.raises(InvariantViolation):
                broker.dispatcher.register(Handler(ApiVersions))

    run(main)


def test_a_catalogue_row_without_a_handler_stops_the_start(world, run):
    async def main():
        async with world.running() as broker, trio.open_nursery() as nursery:
            dispatcher = Dispatcher(broker.gate, Auditor(world.Sink(), nursery))
            with pytest.raises(InvariantViolation, match="Produce"):
                dispatcher.check_complete()

    run(main)


def test_every_request_of_the_catalogue_is_served(world, run):
    async def main():
        async with world.running() as broker:
            assert broker.dispatcher._handlers.keys() == CATALOGUE.keys()

    run(main)


def test_refused_items_stand_beside_granted_ones_in_the_order_asked(world, run):
    async def main():
        async with world.running() as broker:
            for name in ("orders", "payments"):
                await broker.create(name)
            part = (ProducePartition(0, world.batch(b"a")),)
            names = ("payments", "orders", "absent")
            request = Produce(-1, 1000, tuple(ProduceTopic(name, part) for name in names))
            result = await broker.ask("writer", request)
            assert [(topic.name, topic.partitions[0].error) for topic in result.topics] == [
                ("payments", ErrorCode.TOPIC_AUTHORIZATION_FAILED),
                ("orders", ErrorCode.NONE),
                ("absent", ErrorCode.TOPIC_AUTHORIZATION_FAILED),
            ]
            assert (await broker.fetch(topic="payments")).high_watermark == 0

    run(main)


def test_unknown_and_forbidden_topics_get_the_same_answer(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create("there")
            part = (FetchPartition(0, 0, 100),)
            for make in (
                lambda name: Fetch(0, 1, 100, 0, (FetchTopic(name, part),)),
                lambda name: Metadata((name,), allow_auto_topic_creation=True),
                lambda name: DeleteTopics((name,), 1000),
                lambda name: CreateTopics((NewTopic(name),), 1000),
            ):
                there = repr(await broker.ask("nobody", make("there")))
                absent = repr(await broker.ask("nobody", make("other")))
                assert there.replace("there", "?") == absent.replace("other", "?")

    run(main)


def test_a_listing_shows_nobody_anything(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create("secret")
            assert (await broker.ask("nobody", Metadata(None))).topics == ()
            everything = await broker.ask("admin", Metadata(None))
            assert [topic.name for topic in everything.topics] == ["secret"]

    run(main)


def test_a_topic_is_made_on_first_use_only_with_create(world, run):
    async def main():
        async with world.running() as broker:
            names = ("made-one", "other")
            asked = Metadata(names, allow_auto_topic_creation=True)
            result = await broker.ask("maker", asked)
            assert [topic.error for topic in result.topics] == [
                ErrorCode.NONE,
                ErrorCode.TOPIC_AUTHORIZATION_FAILED,
            ]
            assert broker.node.policies.topic_names() == ("made-one",)
            (change,) = broker.sink.of("Mutation")
            assert change.resources == ("made-one",)
            (denial,) = broker.sink.of("Denial")
            assert denial.resource == "other"

    run(main)


@pytest.mark.parametrize(("allowed", "configured"), [(False, True), (True, False)])
def test_a_topic_is_not_made_unless_client_and_node_want_it(world, run, allowed, configured):
    async def main():
        async with world.running(auto_create=configured) as broker:
            result = await broker.ask("admin", Metadata(("new",), allowed))
            assert result.topics[0].error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert broker.node.policies.topic_names() == ()

    run(main)


def test_a_change_that_cannot_be_recorded_is_not_made(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create("kept")
            broker.sink.broken = True
            created = await broker.create("new")
            assert created.error is ErrorCode.KAFKA_STORAGE_ERROR
            (deleted,) = (await broker.ask("admin", DeleteTopics(("kept",), 1000))).topics
            assert deleted.error is ErrorCode.KAFKA_STORAGE_ERROR
            policy = "p, User:eve, *, *, *, allow\n"
            replaced = await broker.ask("admin", ReplacePolicy(policy, 1), "native")
            assert replaced.error is ErrorCode.KAFKA_STORAGE_ERROR
            made = await broker.ask("admin", Metadata(("new",), allow_auto_topic_creation=True))
            assert made.topics[0].error is ErrorCode.KAFKA_STORAGE_ERROR
            assert broker.node.policies.topic_names() == ("kept",)
            assert broker.node.policies.policy()[0] == 1

    run(main)


def test_a_refusal_that_cannot_be_recorded_refuses_the_granted_items_too(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            broker.sink.broken = True
            part = (ProducePartition(0, world.batch(b"a")),)
            topics = (ProduceTopic("orders", part), ProduceTopic("payments", part))
            result = await broker.ask("writer", Produce(-1, 1000, topics))
            assert {topic.partitions[0].error for topic in result.topics} == {
                ErrorCode.KAFKA_STORAGE_ERROR
            }
            assert (await broker.fetch()).high_watermark == 0

    run(main)


def test_a_change_is_recorded_before_it_takes_effect(world, run):
    async def main():
        async with world.running() as broker:
            seen = []
            record = broker.sink.record

            async def watching(events):
                seen.append(broker.node.policies.topic_names())
                await record(events)

            broker.sink.record = watching
            await broker.create()
            assert seen == [()]

    run(main)


def test_identical_refusals_are_folded_into_a_count_and_none_is_lost(world, run):
    async def main():
        async with world.running() as broker:
            for _ in range(50):
                await broker.ask("nobody", Metadata(("orders",)))
            assert len(broker.sink.of("Denial")) == 1
            await trio.sleep(FOLDING_S + 1)
            assert [denial.count for denial in broker.sink.of("Denial")] == [1, 49]
            await trio.sleep(10 * FOLDING_S)
            await broker.ask("nobody", Metadata(("orders",)))
            assert [denial.count for denial in broker.sink.of("Denial")] == [1, 49, 1]

    run(main)


def test_logins_that_keep_failing_are_counted_each_address_and_reason_by_itself(world, run):
    async def main():
        async with world.running() as broker:
            auditor, sink = broker.node._auditors[0], broker.sink
            for number in range(40):
                address = "10.0.0.1" if number % 4 else "10.0.0.2"
                await auditor.login_failed("login", address, "wrong password")
            assert [each.address for each in sink.of("LoginRefused")] == ["10.0.0.2", "10.0.0.1"]
            await trio.sleep(FOLDING_S + 1)
            told = [(each.address, each.count) for each in sink.of("LoginRefused")]
            assert told == [("10.0.0.2", 1), ("10.0.0.1", 1), ("10.0.0.2", 9), ("10.0.0.1", 29)]

    run(main)


def test_counted_refusals_are_recorded_at_a_clean_stop_and_kept_while_the_log_is_broken(world, run):
    async def main():
        async with world.running() as broker:
            for _ in range(3):
                await broker.ask("nobody", Metadata(("orders",)))
            broker.sink.broken = True
            await trio.sleep(2 * FOLDING_S)
            broker.sink.broken = False
            sink = broker.sink
        assert sum(denial.count for denial in sink.of("Denial")) == 3

    run(main)


def test_a_policy_is_replaced_whole_and_decides_at_once(world, run):
    async def main():
        async with world.running() as broker:
            described = await broker.ask("admin", DescribePolicy(), "native")
            assert described.version == 1
            wrong = await broker.ask("admin", ReplacePolicy("p, nonsense", 1), "native")
            assert wrong.error is ErrorCode.INVALID_REQUEST
            assert "line 1" in wrong.message
            text = "p, User:eve, *, *, *, allow\n"
            late = await broker.ask("admin", ReplacePolicy(text, 0), "native")
            assert late.error is ErrorCode.INVALID_UPDATE_VERSION
            done = await broker.ask("admin", ReplacePolicy(text, 1), "native")
            assert (done.error, done.version) == (ErrorCode.NONE, 2)
            refused = await broker.ask("admin", DescribePolicy(), "native")
            assert refused.error is ErrorCode.CLUSTER_AUTHORIZATION_FAILED
            assert (await broker.ask("eve", DescribePolicy(), "native")).text == text

    run(main)


def test_a_policy_survives_and_the_first_one_is_not_looked_at_again(world, run):
    async def main():
        disk = world.Disk()
        text = "p, User:admin, *, *, *, allow\n"
        async with world.running(disk) as broker:
            await broker.ask("admin", ReplacePolicy(text, 1), "native")
        async with world.running(disk, policy=None) as broker:
            assert broker.node.policies.policy() == (2, text)

    run(main)


def test_without_its_log_the_catalogue_decides_nothing(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            broker.disk.broken.add(CATALOGUE_LOG)
            failed = await broker.create("new")
            assert failed.error is ErrorCode.KAFKA_STORAGE_ERROR
            refused = await broker.fetch()
            assert refused.error is ErrorCode.NOT_LEADER_OR_FOLLOWER

    run(main)


def test_a_stop_right_after_a_refusal_waits_for_no_timer(world, run):
    async def main():
        async with world.running() as broker:
            await broker.ask("nobody", Metadata(("orders",)))
            start = trio.current_time()
        assert trio.current_time() == start

    run(main)
