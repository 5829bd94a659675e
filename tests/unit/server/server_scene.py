"""One connection with a broker that does as a test says, and the client at the other end."""

from collections import deque
from collections.abc import Awaitable, Callable

import trio
import trio.testing

from appliance.broker.caller import Caller
from appliance.broker.pending import Pending
from appliance.errors import ErrorCode
from appliance.limits import MIB
from appliance.server.connection import Connection
from appliance.server.shares import Budgets
from appliance.server.tls import TLSStream
from appliance.types import PartitionIndex, Principal, PrincipalKind, TopicName
from appliance.wire.buffer import FrameBuffer
from appliance.wire.native import codec
from appliance.wire.requests import (
    AnyRequest,
    AnyResponse,
    Heartbeat,
    Produce,
    ProducePartition,
    ProduceTopic,
    Refused,
    Response,
)

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
