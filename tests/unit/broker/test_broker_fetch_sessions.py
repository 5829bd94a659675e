"""Fetch sessions (KIP-227) and topics by id (KIP-516), over the whole broker."""

from uuid import UUID

import pytest
import trio
from msgspec.structs import replace

from appliance import limits
from appliance.broker.fetch_sessions import FetchSessions
from appliance.errors import ErrorCode, RequestError
from appliance.types import Principal, PrincipalKind
from appliance.wire.requests import (
    CommitPartition,
    CommitTopic,
    DeleteTopics,
    Fetch,
    FetchPartition,
    FetchTopic,
    ForgottenTopic,
    Metadata,
    OffsetCommit,
    Produce,
    ProducePartition,
    ProduceTopic,
    ReplacePolicy,
)

UNKNOWN = UUID(int=4242)


def fetch(*partitions, topic="orders", topic_id=None, session=(0, 0), wait_ms=0, forgotten=()):
    """`partitions` are (index, offset); `session` is (number, epoch)."""
    parts = tuple(FetchPartition(index, offset, 1 << 20) for index, offset in partitions)
    topics = (FetchTopic(topic, parts, topic_id),) if parts else ()
    return Fetch(wait_ms, 1, 1 << 20, 0, topics, *session, forgotten_topics=forgotten)


def told(result):
    return {
        (topic.name, part.index): (part.error, b"".join(part.batches))
        for topic in result.topics
        for part in topic.partitions
    }


def test_a_session_tells_only_what_is_new(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create(partitions=3)
            first = await broker.ask("admin", fetch((0, 0), (1, 0), (2, 0)))
            assert len(told(first)) == 3
            assert first.session_id > 0
            number = first.session_id
            again = await broker.ask("admin", fetch(session=(number, 1)))
            assert again.topics == ()
            assert (again.session_id, again.error) == (number, ErrorCode.NONE)
            await broker.ask("admin", world.produce_request(world.batch(b"a"), index=1))
            news = await broker.ask("admin", fetch(session=(number, 2)))
            assert list(told(news)) == [("orders", 1)]
            # The reader has moved on; the high watermark is known to it already.
            moved = await broker.ask("admin", fetch((1, 1), session=(number, 3)))
            assert moved.topics == ()

    run(main)


def test_a_waiting_incremental_fetch_is_woken_by_a_partition_it_does_not_name(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create(partitions=2)
            number = (await broker.ask("admin", fetch((0, 0), (1, 0)))).session_id
            results = []

            async def wait():
                results.append(
                    await broker.ask("admin", fetch(session=(number, 1), wait_ms=30_000))
                )

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await broker.ask("admin", world.produce_request(world.batch(b"a"), index=1))
            assert list(told(results[0])) == [("orders", 1)]

    run(main)


def test_forgotten_partitions_are_not_read_any_more(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create(partitions=2)
            number = (await broker.ask("admin", fetch((0, 0), (1, 0)))).session_id
            await broker.ask("admin", world.produce_request(world.batch(b"a"), index=1))
            gone = (ForgottenTopic("orders", (1,)),)
            news = await broker.ask("admin", fetch(session=(number, 1), forgotten=gone))
            assert news.topics == ()

    run(main)


def test_a_session_is_of_no_use_to_anybody_else_and_not_twice(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            number = (await broker.ask("admin", fetch((0, 0)))).session_id

            async def error(name, session, **changes):
                return (await broker.ask(name, fetch(session=session, **changes))).error

            assert await error("reader", (number, 1)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
            assert await error("admin", (number, 2)) is ErrorCode.INVALID_FETCH_SESSION_EPOCH
            assert await error("admin", (number, 1)) is ErrorCode.NONE
            assert await error("admin", (number, 1)) is ErrorCode.INVALID_FETCH_SESSION_EPOCH
            await broker.ask("reader", fetch((0, 0), session=(number, -1)))
            assert await error("admin", (number, 2)) is ErrorCode.NONE
            await broker.ask("admin", fetch((0, 0), session=(number, -1)))
            assert await error("admin", (number, 3)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND

    run(main)


def test_a_right_that_is_taken_away_ends_in_every_session(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            await broker.produce(world.batch(b"secret"))
            number = (await broker.ask("reader", fetch((0, 1)))).session_id
            version, text = broker.node.policies.policy()
            less = text.replace("p, User:reader, READ, TOPIC, orders, allow", "")
            await broker.ask("admin", ReplacePolicy(less, version), listener="native")
            result = await broker.ask("reader", fetch((0, 0), session=(number, 1)))
            assert told(result) == {("orders", 0): (ErrorCode.TOPIC_AUTHORIZATION_FAILED, b"")}

    run(main)


@pytest.fixture
def sessions():
    now = [0.0]
    numbers = iter(range(1, 100_000))
    kept = FetchSessions(lambda: now[0], lambda: next(numbers))
    return kept, now


def alice(name="alice"):
    return Principal(PrincipalKind.USER, name)


def test_sessions_are_bounded_and_only_idle_ones_make_room(sessions):
    kept, now = sessions
    first = kept.open(alice(), fetch((0, 0)))
    for number in range(limits.MAX_FETCH_SESSIONS - 1):
        assert kept.open(alice(f"user-{number}"), fetch((0, 0))) is not None
    assert kept.open(alice("late"), fetch((0, 0))) is None
    now[0] += limits.MIN_FETCH_SESSION_IDLE_S
    assert kept.open(alice("late"), fetch((0, 0))) is not None
    assert len(kept) == limits.MAX_FETCH_SESSIONS
    with pytest.raises(RequestError, match="no such session"):
        kept.resume(alice(), fetch(session=(first.number, 1)))


def test_nobody_takes_all_sessions(sessions):
    kept, _ = sessions
    for _ in range(limits.MAX_FETCH_SESSIONS_PER_PRINCIPAL):
        assert kept.open(alice(), fetch((0, 0))) is not None
    assert kept.open(alice(), fetch((0, 0))) is None
    assert kept.open(alice("bob"), fetch((0, 0))) is not None


def test_partitions_of_sessions_are_bounded_together(sessions, monkeypatch):
    monkeypatch.setattr("appliance.broker.fetch_sessions.MAX_FETCH_SESSION_PARTITIONS", 3)
    kept, _ = sessions
    session = kept.open(alice(), fetch((0, 0), (1, 0)))
    assert kept.open(alice(), fetch((0, 0), (1, 0))) is None
    grown = fetch((2, 0), (3, 0), session=(session.number, 1))
    with pytest.raises(RequestError, match="too large"):
        kept.resume(alice(), grown)
    assert len(kept) == 0


def test_a_session_by_name_takes_no_ids(sessions):
    kept, _ = sessions
    session = kept.open(alice(), fetch((0, 0)))
    with pytest.raises(RequestError) as raised:
        kept.resume(alice(), fetch((0, 0), topic_id=UNKNOWN, session=(session.number, 1)))
    assert raised.value.code is ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


def test_topics_by_id_are_written_and_read_like_those_by_name(world, run):
    async def main():
        async with world.running() as broker:
            created = await broker.create()
            topic_id = created.topic_id
            each = ProducePartition(0, world.batch(b"a"))
            asked = Produce(-1, 1000, (ProduceTopic("", (each,), topic_id),))
            (produced,) = (await broker.ask("writer", asked)).topics
            assert produced.topic_id == topic_id
            assert produced.partitions[0].error is ErrorCode.NONE
            one = await broker.ask("reader", fetch((0, 0), topic="", topic_id=topic_id))
            assert one.topics[0].topic_id == topic_id
            assert one.topics[0].partitions[0].batches
            number = one.session_id
            await broker.produce(world.batch(b"b"))
            news = await broker.ask("reader", fetch(session=(number, 1)))
            assert news.topics[0].topic_id == topic_id

    run(main)


def test_an_id_that_is_refused_looks_like_one_that_is_not_there(world, run):
    async def main():
        async with world.running() as broker:
            topic_id = (await broker.create()).topic_id
            await broker.create("other")
            answers = []
            for each in (topic_id, UNKNOWN):
                part = ProducePartition(0, world.batch(b"a"))
                produce = Produce(-1, 1, (ProduceTopic("", (part,), each),))
                asked = [
                    produce,
                    fetch((0, 0), topic="", topic_id=each, session=(0, -1)),
                    Metadata((), topic_ids=(each,)),
                    DeleteTopics((), 1, (each,)),
                ]
                replies = [await broker.ask("nobody", request) for request in asked]
                answers.append([repr(reply).replace(str(each), "ID") for reply in replies])
                assert all(
                    topic.topic_id == each
                    and getattr(topic, "partitions", ())[:1] in ((), topic.partitions[:1])
                    for reply in replies[:3]
                    for topic in reply.topics
                )
            assert answers[0] == answers[1]
            assert "UNKNOWN_TOPIC_ID" in answers[0][0]

    run(main)


def test_parts_by_name_and_by_id_are_answered_in_their_order(world, run):
    async def main():
        async with world.running() as broker:
            topic_id = (await broker.create()).topic_id
            await broker.create("other")
            parts = (FetchPartition(0, 0, 100),)
            topics = (
                FetchTopic("", parts, UNKNOWN),
                FetchTopic("other", parts),
                FetchTopic("", parts, topic_id),
            )
            result = await broker.ask("reader", Fetch(0, 0, 100, 0, topics))
            assert [t.partitions[0].error for t in result.topics] == [
                ErrorCode.UNKNOWN_TOPIC_ID,
                ErrorCode.TOPIC_AUTHORIZATION_FAILED,
                ErrorCode.NONE,
            ]

    run(main)


def test_metadata_deletion_and_commits_take_ids(world, run):
    async def main():
        async with world.running() as broker:
            topic_id = (await broker.create()).topic_id
            described = await broker.ask("admin", Metadata((), topic_ids=(topic_id, UNKNOWN)))
            assert [(t.name, t.error) for t in described.topics] == [
                ("orders", ErrorCode.NONE),
                (None, ErrorCode.UNKNOWN_TOPIC_ID),
            ]
            commit = (CommitTopic("", (CommitPartition(0, 7),), topic_id),)
            stored = await broker.ask("reader", OffsetCommit("readers", -1, "", commit))
            assert stored.topics[0].partitions == ((0, ErrorCode.NONE),)
            for names in (("orders", "orders"), ("orders",)):  # by name and again, by name and id
                ids = (topic_id,) * (2 - len(names))
                twice = await broker.ask("admin", DeleteTopics(names, 1000, ids))
                assert [t.error for t in twice.topics] == [ErrorCode.INVALID_REQUEST] * 2
            gone = await broker.ask("admin", DeleteTopics((), 1000, (topic_id, UNKNOWN)))
            assert [(t.name, t.topic_id, t.error) for t in gone.topics] == [
                ("orders", topic_id, ErrorCode.NONE),
                (None, UNKNOWN, ErrorCode.UNKNOWN_TOPIC_ID),
            ]
            topic_id = (await broker.create()).topic_id
            (gone,) = (await broker.ask("admin", DeleteTopics(("orders",), 1000))).topics
            assert (gone.topic_id, gone.error) == (topic_id, ErrorCode.NONE)

    run(main)


def test_metadata_says_what_the_asker_may_do_if_it_is_asked(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            asked = Metadata(("orders",), topic_operations=True, cluster_operations=True)
            result = await broker.ask("reader", asked)
            assert result.topics[0].operations == (1 << 3) | (1 << 8)
            assert result.operations == 0
            unasked = await broker.ask("reader", replace(asked, topic_operations=False))
            assert unasked.topics[0].operations == -(1 << 31)

    run(main)
