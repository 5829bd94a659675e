"""A connection answers in order, waits where it must, drops nothing, and gives all memory back."""

from itertools import pairwise

import pytest
import trio
import trio.testing

from appliance.broker.caller import Caller
from appliance.errors import ErrorCode, ProtocolViolation, StorageError
from appliance.limits import FRAME_GROWTH_FACTOR, MIB, TURN_S
from appliance.server import connection as connection_module
from appliance.server import replies as replies_module
from appliance.server import turns as turns_module
from appliance.server.budget import Holder
from appliance.server.connection import Connection, ConnectionLimits
from appliance.server.dialects import NativeDialect
from appliance.server.shares import Budgets
from appliance.types import Principal, PrincipalKind
from appliance.wire.native import codec
from appliance.wire.requests import (
    AnyRequest,
    Heartbeat,
    Metadata,
    Refused,
    Response,
)
from appliance.wire.session import State
from tests.unit.server.server_scene import CALLER, Broker, Client, Scene, produce, reply, size_of


def test_replies_keep_the_order_of_requests_whatever_is_ready_first(play) -> None:
    async def body(scene: Scene) -> None:
        requests = [produce(b"a"), Metadata(None), produce(b"b"), produce(b"c"), Metadata(None)]
        await scene.client.ask(*requests)
        await scene.settle(lambda: len(scene.broker.seen) == 5)
        first, second, third = scene.broker.pending
        third.resolve(reply(3))
        second.resolve(reply(2))
        await trio.testing.wait_all_tasks_blocked()
        first.resolve(reply(1))
        answers = await scene.client.answers(5)
        assert [number for number, _ in answers] == [1, 2, 3, 4, 5]
        texts = [answer.message for _, answer in answers if isinstance(answer, Refused)]
        assert texts == ["1", "0", "2", "3", "0"]

    play(body)


def test_requests_arrive_whole_when_their_bytes_come_one_by_one(play) -> None:
    async def body(scene: Scene) -> None:
        frame = b"".join(codec.encode_request(7, produce(b"payload")))
        for at in range(len(frame)):
            await scene.client.stream.send_all(frame[at : at + 1])
        await scene.settle(lambda: bool(scene.broker.pending))
        scene.broker.pending[0].resolve(reply(1))
        assert await scene.client.answer() == (7, reply(1))
        assert scene.broker.seen == [produce(b"payload")]

    play(body)


def test_large_frames_arrive_whole_among_small_ones(play) -> None:
    large = produce(bytes(range(256)) * 4 * 4096 + b"end")
    small = produce(b"small")

    async def body(scene: Scene) -> None:
        await scene.client.ask(small, large, small, large, large)
        await scene.settle(lambda: len(scene.broker.seen) == 5)
        assert scene.broker.seen == [small, large, small, large, large]
        for number, pending in enumerate(scene.broker.pending):
            pending.resolve(reply(number))
        assert [n for n, _ in await scene.client.answers(5)] == [1, 2, 3, 4, 5]

    play(body)


def test_large_replies_arrive_whole(play) -> None:
    async def body(scene: Scene) -> None:
        await scene.client.ask(produce(b"a"), produce(b"b"))
        await scene.settle(lambda: len(scene.broker.pending) == 2)
        texts = ["x" * 100_000, "y" * 3_000_000]
        # The first is a moderate write, the second one that has to wait for the socket.
        for pending, text in zip(scene.broker.pending, texts, strict=True):
            pending.resolve(Refused(ErrorCode.NONE, text[: 2 * MIB - 1000]))
        answers = await scene.client.answers(2)
        assert [len(a.message) for _, a in answers if isinstance(a, Refused)] == [
            100_000,
            2 * MIB - 1000,
        ]

    play(body)


def test_acks_0_has_no_reply_and_holds_no_memory(play) -> None:
    async def body(scene: Scene) -> None:
        await scene.client.ask(produce(b"x" * 1000, 0), produce(b"y", 0), Metadata(None))
        assert await scene.client.answer() == (3, reply(0))
        assert scene.budgets.client_requests.free == scene.budgets.client_requests.capacity

    play(body)


def test_an_awaited_dispatch_stops_reading_but_earlier_replies_go_out(play) -> None:
    async def body(scene: Scene) -> None:
        beat = Heartbeat("g", 1, "m")  # type: ignore[arg-type]
        await scene.client.ask(Metadata(None), produce(b"a"), beat, Metadata(None))
        assert await scene.client.answer() == (1, reply(0))
        scene.broker.pending[0].resolve(reply(2))
        assert await scene.client.answer() == (2, reply(2))
        assert len(scene.broker.seen) == 3
        scene.broker.may_return.set()
        assert [n for n, _ in await scene.client.answers(2)] == [3, 4]

    play(body)


def test_unanswered_requests_are_bounded(play) -> None:
    async def body(scene: Scene) -> None:
        await scene.client.ask(*[produce(b"a")] * 10)
        await scene.settle(lambda: len(scene.broker.pending) == 4)
        await trio.testing.wait_all_tasks_blocked()
        assert len(scene.broker.pending) == 4
        for number in range(10):
            await scene.settle(lambda wanted=number: len(scene.broker.pending) > wanted)
            scene.broker.pending[number].resolve(reply(number))
        assert [n for n, _ in await scene.client.answers(10)] == list(range(1, 11))

    play(body, limits=ConnectionLimits(max_pipelined_requests=4, max_close_s=0.05))


def test_requests_without_end_are_dealt_with_a_slice_at_a_time(play, monkeypatch) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += TURN_S / 2
        return now[0]

    for module in (connection_module, replies_module, turns_module):
        monkeypatch.setattr(module, "clock", clock)
    bob = Principal(PrincipalKind.USER, "bob")

    async def body(scene: Scene) -> None:
        await scene.client.ask(*[Metadata(None)] * 200)
        seen = []
        while len(scene.broker.seen) < 200:
            async with scene.budgets.of(bob).turns:  # There is somebody who would have to wait.
                seen.append(len(scene.broker.seen))
            await trio.lowlevel.checkpoint()
        assert max(after - before for before, after in pairwise(seen)) <= 20
        assert [n for n, _ in await scene.client.answers(200)] == list(range(1, 201))

    play(body)


def test_a_full_budget_stops_reading_and_drops_nothing(play) -> None:
    request = produce(b"x" * 1000)
    budgets = Budgets(client_requests=4 * size_of(request) + 10)

    async def body(scene: Scene) -> None:
        await scene.client.ask(*[request] * 6)
        for number in range(6):
            await scene.settle(lambda wanted=number: len(scene.broker.pending) > wanted)
            await trio.testing.wait_all_tasks_blocked()
            assert len(scene.broker.pending) <= number + 2
            scene.broker.pending[number].resolve(reply(number))
        assert [n for n, _ in await scene.client.answers(6)] == [1, 2, 3, 4, 5, 6]

    play(body, budgets=budgets)


def test_a_full_reply_budget_makes_replies_wait(play) -> None:
    async def body(scene: Scene) -> None:
        replies = scene.budgets.client_replies
        others = replies.purse(Holder())
        assert others.try_acquire(replies.capacity)
        await scene.client.ask(Metadata(None))
        await scene.settle(lambda: len(scene.broker.seen) == 1)
        await trio.testing.wait_all_tasks_blocked()
        others.release(replies.capacity)
        assert await scene.client.answer() == (1, reply(0))

    play(body, budgets=Budgets(client_replies=10_000))


def test_a_declared_size_costs_no_more_than_what_has_arrived(play) -> None:
    async def body(scene: Scene) -> None:
        budget = scene.budgets.client_requests
        await scene.client.stream.send_all((100 * MIB).to_bytes(4) + b"\x01")
        await scene.client.stream.send_all(bytes(10))
        await scene.settle(lambda: budget.free < budget.capacity)
        await trio.testing.wait_all_tasks_blocked()
        assert budget.capacity - budget.free <= 16 * 1024
        await scene.client.stream.send_all(bytes(100_000))
        await scene.settle(lambda: budget.capacity - budget.free > 16 * 1024)
        await trio.testing.wait_all_tasks_blocked()
        assert budget.capacity - budget.free <= FRAME_GROWTH_FACTOR * 100_011

    play(body)


@pytest.mark.parametrize(
    "stream",
    [
        (100 * MIB + 1).to_bytes(4),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x09\x01\x00\x00\x00\x00\x00\x00\x01\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_breaks_the_protocol_ends_the_connection_undispatched(play, stream: bytes) -> None:
    async def body(scene: Scene) -> None:
        await scene.client.stream.send_all(stream)
        with pytest.raises(EOFError):
            await scene.client.answer()
        assert scene.broker.seen == []

    play(body)


def test_an_end_within_a_frame_is_a_violation_and_within_none_is_not(play, capsys) -> None:
    async def within(scene: Scene) -> None:
        await scene.client.stream.send_all(b"\x00\x00\x00\x64abc")
        await scene.client.stream.aclose()
        await scene.ended.wait()

    async def between(scene: Scene) -> None:
        await scene.client.ask(Metadata(None))
        assert await scene.client.answer() == (1, reply(0))
        await scene.client.stream.aclose()
        await scene.ended.wait()

    play(within)
    assert "protocol violated" in capsys.readouterr().out
    play(between)
    assert capsys.readouterr().out == ""


def test_no_payload_is_logged(play, capsys) -> None:
    async def body(scene: Scene) -> None:
        header = b"\x01\x00\x00\x00\x00\x00\x00\x01"
        frame = header + b"\x81\xa4type\xacCANARYsecret"
        await scene.client.stream.send_all(len(frame).to_bytes(4) + frame)
        await scene.ended.wait()

    play(body)
    printed = capsys.readouterr()
    assert "protocol violated" in printed.out
    assert "CANARY" not in printed.out + printed.err


def test_a_login_that_cannot_be_recorded_is_no_login(authority, join) -> None:
    async def body(pair) -> None:
        broker = Broker()
        broker.fails = StorageError("the audit log is gone")
        connection = Connection(
            pair.server,
            CALLER,
            NativeDialect(),
            broker,
            budgets=Budgets(),
            limits=ConnectionLimits(),
        )
        await Client(pair.client).ask(Metadata(None))
        await connection.serve()
        assert connection.state is State.CLOSED
        assert broker.seen == []

    join(authority, body)


def test_a_dispatch_may_end_the_connection(play) -> None:
    class Refusing(Broker):
        async def dispatch(self, caller: Caller, request: AnyRequest) -> Response:
            raise ProtocolViolation("not in this order")

    async def body(scene: Scene) -> None:
        await scene.client.ask(Metadata(None))
        with pytest.raises(EOFError):
            await scene.client.answer()

    play(body, broker=Refusing())
