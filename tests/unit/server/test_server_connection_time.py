"""A connection ends when it must, waits as long as it was told, and keeps its limits of time."""

import pytest
import trio
import trio.testing

from appliance.broker.caller import Caller
from appliance.errors import ErrorCode
from appliance.limits import MIB
from appliance.server.connection import ConnectionLimits
from appliance.server.metering import Rest
from appliance.wire.requests import (
    AnyRequest,
    Heartbeat,
    Metadata,
    MetadataResult,
    Produce,
    ProduceResult,
    Refused,
    Response,
)
from appliance.wire.session import State
from tests.unit.server.server_scene import CALLER, Broker, Scene, produce, reply, size_of


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
