"""A connection answers in order, waits where it must, drops nothing, and gives all memory back."""

import functools
from collections import deque
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from appliance.broker.caller import Caller
from appliance.broker.pending import Pending
from appliance.errors import ErrorCode, ProtocolViolation, StorageError
from appliance.limits import FRAME_GROWTH_FACTOR, MIB
from appliance.server.budget import Budgets
from appliance.server.connection import Connection, ConnectionLimits
from appliance.server.dialects import NativeDialect
from appliance.server.metering import Rest
from appliance.server.tls import TLSStream
from appliance.types import PartitionIndex, Principal, PrincipalKind, TopicName
from appliance.wire.buffer import FrameBuffer
from appliance.wire.native import codec
from appliance.wire.requests import (
    AnyRequest,
    AnyResponse,
    Heartbeat,
    Metadata,
    MetadataResult,
    Produce,
    ProducePartition,
    ProduceResult,
    ProduceTopic,
    Refused,
    Response,
)
from appliance.wire.session import State

CALLER = Caller(Principal(PrincipalKind.USER, "alice"), "native", "127.0.0.1")


def produce(payload: bytes, acks: int = -1) -> Produce:
    part = ProducePartition(PartitionIndex(0), memoryview(payload))
    return Produce(acks, 1000, (ProduceTopic(TopicName("orders"), (part,)),))


def size_of(request: AnyRequest) -> int:
    """Bytes of a request's frame, without its size."""
    return sum(map(len, codec.encode_request(1, request))) - 4


class Broker:
    """Answers Produce when the test says so, Metadata at once, Heartbeat when it may return."""

    meter = None

    def __init__(self) -> None:
        self.seen: list[AnyRequest] = []
        self.pending: list[Pending] = []
        self.may_return = trio.Event()
        self.fails: Exception | None = None

    async def login(self, caller: Caller) -> None:
        assert caller == CALLER
        if self.fails is not None:
            raise self.fails

    async def login_failed(self, listener: str, address: str, reason: str) -> None:
        raise AssertionError

    async def dispatch(self, caller: Caller, request: AnyRequest) -> Response | Pending | None:
        self.seen.append(request)
        if isinstance(request, Produce):
            if request.acks == 0:
                return None
            self.pending.append(Pending())
            return self.pending[-1]
        if isinstance(request, Heartbeat):
            await self.may_return.wait()
        return reply(0)


def reply(number: int) -> Refused:
    return Refused(ErrorCode.NONE, str(number))


class Client:
    """Asks and is answered, over a TLS stream."""

    def __init__(self, stream: TLSStream) -> None:
        self.stream = stream
        self._frames = FrameBuffer(100 * MIB)
        self._answers: deque[tuple[int, AnyResponse]] = deque()

    async def ask(self, *requests: AnyRequest, first: int = 1) -> None:
        parts = [
            b"".join(codec.encode_request(number, request))
            for number, request in enumerate(requests, first)
        ]
        await self.stream.send_all(b"".join(parts))

    async def answer(self) -> tuple[int, AnyResponse]:
        while not self._answers:
            if self._frames.under_way:
                room = self._frames.writable()
                count = await self.stream.receive_into(room)
                assert count
                frame = self._frames.wrote(count)
                frames = [] if frame is None else [frame]
            else:
                chunk = await self.stream.receive_some()
                if not chunk:
                    raise EOFError
                frames = self._frames.feed(chunk)
            self._answers += map(codec.decode_response, frames)
        return self._answers.popleft()

    async def answers(self, count: int) -> list[tuple[int, AnyResponse]]:
        return [await self.answer() for _ in range(count)]


class Scene:
    """One connection being served, its broker, its memory, and the client at the other end."""

    def __init__(self, connection, broker: Broker, budgets: Budgets, client: Client) -> None:
        self.connection: Connection[codec.NativeCall] = connection
        self.broker = broker
        self.budgets = budgets
        self.client = client
        self.ended = trio.Event()

    async def settle(self, holds: Callable[[], bool]) -> None:
        """Waits until something that is sure to come has come."""
        with trio.fail_after(10):
            while not holds():
                await trio.lowlevel.checkpoint()


Body = Callable[[Scene], Awaitable[None]]


@pytest.fixture
def play(authority, join) -> Callable[..., None]:
    """Runs a test's body against a connection, and checks that all memory came back."""

    async def on_pair(
        body: Body, limits: ConnectionLimits, budgets: Budgets, broker: Broker, pair
    ) -> None:
        connection = Connection(
            pair.server, CALLER, NativeDialect(), broker, budgets=budgets, limits=limits
        )
        scene = Scene(connection, broker, budgets, Client(pair.client))

        async def serve() -> None:
            await connection.serve()
            await pair.server.aclose()
            scene.ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await body(scene)
            pair.client.abandon()
        assert connection.state is State.CLOSED
        assert budgets.client_requests.free == budgets.client_requests.capacity
        assert budgets.client_replies.free == budgets.client_replies.capacity

    def run(
        body: Body,
        *,
        limits: ConnectionLimits | None = None,
        budgets: Budgets | None = None,
        broker: Broker | None = None,
    ) -> None:
        # A mended Broker needs a run of trio around it only for its event, so it is made here.
        join(
            authority,
            functools.partial(
                on_pair,
                body,
                limits or ConnectionLimits(max_close_s=0.05),
                budgets or Budgets(),
                broker or Broker(),
            ),
        )

    return run


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


def test_a_full_budget_stops_reading_and_drops_nothing(play) -> None:
    request = produce(b"x" * 1000)
    budgets = Budgets(client_requests=2 * size_of(request) + 10)

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
        assert replies.try_acquire(replies.capacity)
        await scene.client.ask(Metadata(None))
        await scene.settle(lambda: len(scene.broker.seen) == 1)
        await trio.testing.wait_all_tasks_blocked()
        replies.release(replies.capacity)
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


def test_stop_finishes_what_was_asked_and_reads_no_more(play) -> None:
    async def body(scene: Scene) -> None:
        await scene.client.ask(produce(b"a"))
        await scene.settle(lambda: bool(scene.broker.pending))
        scene.connection.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert scene.connection.state is State.DRAINING
        await scene.client.ask(produce(b"b"), first=2)
        scene.broker.pending[0].resolve(reply(1))
        assert await scene.client.answer() == (1, reply(1))
        with pytest.raises(EOFError):
            await scene.client.answer()
        assert len(scene.broker.seen) == 1

    play(body, limits=ConnectionLimits(max_close_s=5))


def test_stop_lets_a_dispatch_return_but_not_for_ever(play) -> None:
    async def patient(scene: Scene) -> None:
        await scene.client.ask(Heartbeat("g", 1, "m"))  # type: ignore[arg-type]
        await scene.settle(lambda: len(scene.broker.seen) == 1)
        scene.connection.stop()
        await trio.testing.wait_all_tasks_blocked()
        scene.broker.may_return.set()
        assert await scene.client.answer() == (1, reply(0))

    async def endless(scene: Scene) -> None:
        await scene.client.ask(produce(b"never answered"), Heartbeat("g", 1, "m"))  # type: ignore[arg-type]
        await scene.settle(lambda: len(scene.broker.seen) == 2)
        scene.connection.stop()
        with pytest.raises(EOFError):
            await scene.client.answer()

    play(patient, limits=ConnectionLimits(max_close_s=5))
    play(endless, limits=ConnectionLimits(max_close_s=0.05))


def test_a_reply_that_comes_after_the_end_harms_nobody(play) -> None:
    async def body(scene: Scene) -> None:
        await scene.client.ask(produce(b"a"))
        await scene.settle(lambda: bool(scene.broker.pending))
        scene.client.stream.abandon()
        await scene.ended.wait()
        scene.broker.pending[0].resolve(reply(1))

    play(body)


def test_time_limits_are_told_apart(play) -> None:
    limits = ConnectionLimits(
        max_frame_read_s=30, max_idle_s=600, max_send_stall_s=20, max_close_s=0.05
    )

    async def idle(scene: Scene) -> None:
        await trio.testing.wait_all_tasks_blocked()
        now = trio.current_time()
        assert scene.connection.overdue(now + 599) is None
        assert scene.connection.overdue(now + 601) == "idle"

    async def waiting_for_its_reply(scene: Scene) -> None:
        await scene.client.ask(produce(b"a"))
        await scene.settle(lambda: bool(scene.broker.pending))
        await trio.testing.wait_all_tasks_blocked()
        assert scene.connection.overdue(trio.current_time() + 10_000) is None

    async def slow(scene: Scene) -> None:
        begun = trio.current_time()
        await scene.client.stream.send_all(b"\x00")
        await scene.settle(lambda: scene.connection.overdue(begun + 31 + 5) is not None)
        for byte in b"\x00\x10\x00abc":  # Further bytes buy no further time.
            await scene.client.stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert scene.connection.overdue(begun + 29) is None
        assert scene.connection.overdue(begun + 31 + 5) == "a frame takes too long"

    async def deaf(scene: Scene) -> None:
        await scene.client.ask(*[produce(b"a")] * 20)
        await scene.settle(lambda: len(scene.broker.pending) == 20)
        for pending in scene.broker.pending:
            pending.resolve(Refused(ErrorCode.NONE, "z" * MIB))
        far = trio.current_time() + 1000
        await scene.settle(lambda: scene.connection.overdue(far) is not None)
        assert scene.connection.overdue(far) == "the peer does not read its replies"
        scene.connection.cut("test")
        await scene.ended.wait()

    for body in (idle, waiting_for_its_reply, slow, deaf):
        play(body, limits=limits)


class Holding:
    """Holds back the first request it is asked about, and lets every connection in."""

    def __init__(self, throttle_ms: int) -> None:
        self.throttle_ms = throttle_ms
        self.charged: list[tuple[type, int, float]] = []

    def account(self, caller: Caller) -> "Holding":
        assert caller == CALLER
        return self

    def charge(self, request: AnyRequest, size_bytes: int, work_s: float) -> int:
        self.charged.append((type(request), size_bytes, work_s))
        throttle_ms, self.throttle_ms = self.throttle_ms, 0
        return throttle_ms

    def connection(self, address: str, origin: str) -> float:
        return 0.0


@pytest.mark.parametrize("acks", [-1, 0])
def test_who_is_held_back_is_answered_and_not_read_for_so_long(play, acks: int) -> None:
    broker = Broker()
    broker.meter = Holding(300)

    async def body(scene: Scene) -> None:
        begun = trio.current_time()
        request = produce(b"a", acks=acks)
        await scene.client.ask(request, Metadata(None))
        await scene.settle(lambda: len(scene.broker.seen) == 1)
        if acks:
            scene.broker.pending[0].resolve(ProduceResult(()))
            number, answer = await scene.client.answer()
            assert (number, answer.throttle_time_ms) == (1, 300)
            assert trio.current_time() < begun + 0.3, "the answer does not wait"
        assert len(scene.broker.seen) == 1
        number, _ = await scene.client.answer()
        assert number == 2
        assert trio.current_time() >= begun + 0.3
        assert broker.meter.charged[0][:2] == (Produce, size_of(request))
        assert all(0 < work_s < 0.3 for *_, work_s in broker.meter.charged)

    play(body, broker=broker)


def test_a_connection_that_is_held_back_ends_with_the_node(play) -> None:
    broker = Broker()
    broker.meter = Holding(30_000)

    async def body(scene: Scene) -> None:
        await scene.client.ask(Metadata(None), Metadata(None))
        assert (await scene.client.answer())[0] == 1
        scene.connection.stop()
        with trio.fail_after(5):
            await scene.ended.wait()
        assert len(scene.broker.seen) == 1

    play(body, broker=broker)


def test_a_reply_that_says_itself_how_long_holds_its_client_back(play) -> None:
    class Throttling(Broker):
        async def dispatch(self, caller: Caller, request: AnyRequest) -> Response:
            self.seen.append(request)
            return MetadataResult("", 1, (), (), throttle_time_ms=200)

    broker = Throttling()
    broker.meter = Holding(0)

    async def body(scene: Scene) -> None:
        begun = trio.current_time()
        await scene.client.ask(Metadata(None), Metadata(None))
        await scene.client.answers(2)
        assert trio.current_time() >= begun + 0.2

    play(body, broker=broker)


@pytest.mark.parametrize("fails", [False, True])
def test_work_is_the_time_on_the_loop_and_not_the_wait(fails: bool) -> None:
    async def waits(event: trio.Event) -> int:
        await event.wait()
        if fails:
            raise KeyError
        return 7

    async def later(event: trio.Event) -> None:
        await trio.sleep(1)
        event.set()

    async def main() -> None:
        event = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later, event)
            coroutine = waits(event)
            rest = Rest(coroutine, coroutine.send(None))
            if fails:
                with pytest.raises(KeyError):
                    await rest
            else:
                assert await rest == 7
        assert 0 < rest.work_s < 0.5
        coroutine = waits(trio.Event())
        with trio.move_on_after(1) as scope:
            await Rest(coroutine, coroutine.send(None))
        assert scope.cancelled_caught

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
