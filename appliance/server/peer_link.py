"""One outgoing connection to another node: deliveries out, requests out, their answers in.

Rules: the server's certificate is verified for the host that was dialled and must be that of the
very node; the first request is a greeting, and nothing else is sent before it was answered. A
connection that breaks is dialled again after a pause that grows and is never the same twice.
"""

from collections import deque
from collections.abc import Callable
from typing import TypeVar

import trio

from appliance.broker.outbox import Outbox
from appliance.errors import ErrorCode, ProtocolViolation, RequestError
from appliance.limits import MAX_PEER_CALLS, MAX_STRUCTURE_BYTES
from appliance.server.tls import TLSStream
from appliance.types import Buffer, ClusterId
from appliance.wire.buffer import FrameBuffer
from appliance.wire.native import peer as codec
from appliance.wire.requests.peer import (
    AnyPeerRequest,
    AnyPeerResponse,
    Deliver,
    Greet,
    Greeted,
    PeerRefused,
    PeerResponse,
)

R = TypeVar("R", bound=PeerResponse)

Joined = Callable[[list[Buffer]], bytes]
"""Messages to one delivery's payload."""


class _Waiting:
    """One request that waits for its answer."""

    __slots__ = ("correlation_id", "event", "response")

    def __init__(self, correlation_id: int) -> None:
        self.correlation_id = correlation_id
        self.event = trio.Event()
        self.response: AnyPeerResponse | None = None


class PeerLink:
    """One connection while it lasts."""

    def __init__(self, stream: TLSStream, outbox: Outbox, join: Joined, cluster: ClusterId) -> None:
        """Takes over a stream that is up."""
        self._cluster = cluster
        self._stream = stream
        self._outbox = outbox
        self._join = join
        self._owed: deque[_Waiting] = deque()
        self._sending = trio.Lock()
        self._correlation_id = 0
        self._ended = False
        self._buffer = FrameBuffer(MAX_STRUCTURE_BYTES)
        self._received: deque[memoryview] = deque()

    async def greet(self, greeting: Greet) -> Greeted:
        """Introduces this node; raises ProtocolViolation if the other is not who it must be."""
        await self._stream.send_all(codec.encode_request(0, greeting))
        _, answer = codec.decode_response(await self._next_frame())
        if isinstance(answer, Greeted) and answer.cluster == greeting.cluster:
            return answer
        why = answer.message if isinstance(answer, PeerRefused) else "it is of another cluster"
        raise ProtocolViolation(f"the node does not welcome this one: {why}")

    async def run(self) -> None:
        """Carries messages until the connection breaks or this is cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self._ended = True
            while self._owed:
                self._owed.popleft().event.set()

    async def call(self, request: AnyPeerRequest, expected: type[R]) -> R:
        """Sends a request and waits for its answer; raises RequestError."""
        if len(self._owed) >= MAX_PEER_CALLS:
            raise RequestError(ErrorCode.REQUEST_TIMED_OUT, "too many requests wait for this node")
        async with self._sending:
            self._correlation_id = (self._correlation_id + 1) & 0xFFFF_FFFF
            waiting = _Waiting(self._correlation_id)
            self._owed.append(waiting)
            try:
                await self._send(codec.encode_request(self._correlation_id, request))
            except trio.BrokenResourceError:
                raise _lost() from None
        await waiting.event.wait()
        answer = waiting.response
        if isinstance(answer, expected):
            return answer
        if isinstance(answer, PeerRefused):
            raise RequestError(_code(answer.code), answer.message)
        raise _lost()

    async def _write(self) -> None:
        while True:
            await self._outbox.wait()
            messages = self._outbox.take()
            if messages:
                request = Deliver(self._cluster, memoryview(self._join(messages)))
                async with self._sending:
                    await self._send(codec.encode_request(0, request))

    async def _send(self, frame: bytearray) -> None:
        complete = False
        try:
            if self._ended:
                raise trio.BrokenResourceError("the connection to the node has ended")
            await self._stream.send_all(frame)
            complete = True
        finally:
            if not complete:  # half a frame may be out, so nothing more can follow it
                self._ended = True
                self._stream.abandon()

    async def _read(self) -> None:
        while True:
            correlation_id, answer = codec.decode_response(await self._next_frame())
            if not self._owed or self._owed[0].correlation_id != correlation_id:
                raise ProtocolViolation("an answer came that no request asked for")
            waiting = self._owed.popleft()
            waiting.response = answer
            waiting.event.set()

    async def _next_frame(self) -> memoryview:
        """The next answer; raises BrokenResourceError at the end of the stream."""
        while not self._received:
            if self._buffer.under_way:
                count = await self._stream.receive_into(self._buffer.writable())
                frame = self._buffer.wrote(count)
                self._received.extend([] if frame is None else [frame])
            else:
                chunk = await self._stream.receive_some()
                count = len(chunk)
                self._received.extend(self._buffer.feed(chunk))
            if not count:
                raise trio.BrokenResourceError("the node closed the connection")
        return self._received.popleft()


def _lost() -> RequestError:
    return RequestError(ErrorCode.NETWORK_EXCEPTION, "the connection to the node was lost")


def _code(number: int) -> ErrorCode:
    try:
        return ErrorCode(number)
    except ValueError:
        return ErrorCode.UNKNOWN_SERVER_ERROR
