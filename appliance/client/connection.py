"""One connection to one node: requests go out pipelined, replies come back in their order.

The broker is not trusted. A reply must be the oldest one that is owed, must be of the kind asked
for, must stay under a size and come within a time that its request sets; the first that is not ends
the connection, and everyone who waits learns why. `submit` returns when the request is on its way,
its `Reply` when the answer is there, so a caller keeps as many in flight as it likes, up to a
bound.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from appliance.client.frames import FrameReader
from appliance.errors import ApplianceError, AuthenticationFailed, ProtocolViolation, RequestError
from appliance.limits import KIB, MAX_PIPELINED_REQUESTS, MIB
from appliance.types import Buffer
from appliance.wire.native import codec
from appliance.wire.requests import (
    AnyRequest,
    CreateTopics,
    DeleteTopics,
    Fetch,
    Produce,
    Refused,
    RekeyKeys,
    Response,
    RewrapKeys,
    ShredTopic,
)

MAX_REPLY_BYTES = 16 * MIB
"""Of any reply but Fetch's, which may hold what was asked for and a batch more."""

ANSWER_S = 30.0
"""For an answer, beside the time that its request lets the broker take."""
LONG_ANSWER_S = 600.0
"""For answers that come when keys have been worked on."""

MAX_MESSAGE_CHARACTERS = 1_000
JOINED_SEND_BYTES = 64 * KIB
"""Buffers that are smaller together are sent in one piece."""

R = TypeVar("R", bound=Response)


class Disconnected(ApplianceError):
    """The connection ended; whether an unanswered request took effect is not known."""


class Reply(Generic[R]):
    """The answer that a submitted request will get."""

    __slots__ = (
        "_arrived", "_expected", "_failure", "_notify", "_response",
        "correlation_id", "limit_bytes", "until_s",
    )  # fmt: skip

    def __init__(
        self, correlation_id: int, expected: type[R], limit_bytes: int, until_s: float
    ) -> None:
        """`until_s` is when the broker has kept whoever asked waiting for too long."""
        self.correlation_id = correlation_id
        self.until_s = until_s
        self.limit_bytes = limit_bytes
        self._expected = expected
        self._response: R | None = None
        self._failure: ApplianceError | None = None
        self._arrived: trio.Event | None = None
        self._notify: Callable[[], None] | None = None

    @property
    def done(self) -> bool:
        """Whether `result` can be called."""
        return self._response is not None or self._failure is not None

    def result(self) -> R:
        """The response of a reply that is done.

        Raises RequestError if the broker refused the request, Disconnected or ProtocolViolation
        if there will be no answer.
        """
        if self._failure is not None:
            raise self._failure
        if self._response is None:
            raise Disconnected("the reply has not arrived")
        return self._response

    async def wait(self) -> R:
        """Waits for the answer; raises as `result` does."""
        if not self.done:
            self._arrived = self._arrived or trio.Event()
            await self._arrived.wait()
        return self.result()

    def notify(self, callback: Callable[[], None]) -> None:
        """Calls `callback` when the reply is done; at once if it is."""
        self._notify = callback
        if self.done:
            callback()

    def deliver(self, response: Response) -> None:
        """Accepts the broker's answer; raises ProtocolViolation if it is of another kind."""
        if isinstance(response, Refused):
            self.fail(RequestError(response.error, legible(response.message)))
        elif isinstance(response, self._expected):
            self._response = response
            self._wake()
        else:
            raise ProtocolViolation(
                f"{type(response).__name__} came where {self._expected.__name__} was owed"
            )

    def fail(self, failure: ApplianceError) -> None:
        """Ends the wait without an answer."""
        self._failure = failure
        self._wake()

    def _wake(self) -> None:
        """Tells whoever waits."""
        if self._arrived is not None:
            self._arrived.set()
        if self._notify is not None:
            self._notify()


class Connection:
    """Requests and replies over one authenticated stream; `run` must be running."""

    def __init__(self, stream: trio.abc.Stream, name: str) -> None:
        """`name` is the node's address, for messages."""
        self.name = name
        self._stream = stream
        self._owed: deque[Reply[Response]] = deque()
        self._sending = trio.Lock()
        self._room = trio.Semaphore(MAX_PIPELINED_REQUESTS, max_value=MAX_PIPELINED_REQUESTS)
        self._correlation_id = 0
        self._ended: ApplianceError | None = None
        self._patience = trio.CancelScope()
        """Ends when the oldest answer that is owed is too late."""

    @property
    def usable(self) -> bool:
        """False once the connection has ended."""
        return self._ended is None

    async def call(self, request: AnyRequest, expected: type[R]) -> R:
        """Sends a request and waits for its answer; raises as `Reply.result` does."""
        return await (await self.submit(request, expected)).wait()

    async def submit(self, request: AnyRequest, expected: type[R]) -> Reply[R]:
        """Sends a request, in order; waits while too many are in flight.

        Raises Disconnected if the connection has ended before or while it was sent.
        """
        await self._room.acquire()
        async with self._sending:
            if self._ended is not None:
                self._room.release()
                raise self._ended
            self._correlation_id = (self._correlation_id + 1) & 0xFFFFFFFF
            until_s = trio.current_time() + _patience_s(request)
            reply = Reply(self._correlation_id, expected, _reply_limit(request), until_s)
            self._owed.append(reply)  # type: ignore[arg-type]  # deliver checks the kind
            self._watch_oldest()
            complete = False
            try:
                await self._send(codec.encode_request(self._correlation_id, request))
                complete = True
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                lost = Disconnected(f"{self.name} closed the connection")
                self._end(lost)
                raise lost from None
            finally:
                if not complete:  # half a frame is out, so nothing more can follow it
                    self._end(Disconnected(f"a request to {self.name} was abandoned"))
        return reply

    async def run(self) -> None:
        """Reads replies until the connection ends; everyone who waits then fails."""
        reader = FrameReader(self._stream)
        try:
            with self._patience:
                while (frame := await reader.next_frame(self._limit)) is not None:
                    self._deliver(frame)
                self._end(Disconnected(f"{self.name} closed the connection"))
            if self._patience.cancelled_caught:
                self._end(Disconnected(f"{self.name} does not answer"))
        except ProtocolViolation as violation:
            self._end(ProtocolViolation(f"{self.name}: {violation}"))
        except AuthenticationFailed as refusal:  # in TLS 1.3 it may come in place of a reply
            self._end(refusal)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end(Disconnected(f"the connection to {self.name} broke"))
        finally:
            self._end(Disconnected(f"the connection to {self.name} was closed here"))
            await trio.aclose_forcefully(self._stream)

    def _limit(self) -> int:
        """How large the reply that is owed next may be."""
        if not self._owed:
            raise ProtocolViolation("a reply came that no request asked for")
        return self._owed[0].limit_bytes

    def _deliver(self, frame: memoryview) -> None:
        """Hands a reply to its request; raises ProtocolViolation."""
        correlation_id, response = codec.decode_response(frame)
        reply = self._owed[0]
        if correlation_id != reply.correlation_id:
            raise ProtocolViolation("a reply came out of order")
        reply.deliver(response)
        self._owed.popleft()
        self._room.release()
        self._watch_oldest()

    def _watch_oldest(self) -> None:
        self._patience.deadline = self._owed[0].until_s if self._owed else float("inf")

    async def _send(self, buffers: list[Buffer]) -> None:
        """Sends small messages in one piece, large ones uncopied."""
        if sum(map(len, buffers)) <= JOINED_SEND_BYTES:
            await self._stream.send_all(b"".join(buffers))
            return
        for buffer in buffers:
            await self._stream.send_all(buffer)

    def _end(self, reason: ApplianceError) -> None:
        """Ends the connection once: the first reason stays, and every reply owed fails with it."""
        if self._ended is not None:
            return
        self._ended = reason
        while self._owed:
            self._owed.popleft().fail(reason)
            self._room.release()


def _reply_limit(request: AnyRequest) -> int:
    """Bytes that an honest reply to this request cannot exceed."""
    if isinstance(request, Fetch):
        return request.max_bytes + MAX_REPLY_BYTES
    return MAX_REPLY_BYTES


def _patience_s(request: AnyRequest) -> float:
    """How long an honest broker may take; one that was stopped keeps its connections for ever."""
    match request:
        case Fetch():
            return ANSWER_S + request.max_wait_ms / 1000
        case Produce() | CreateTopics() | DeleteTopics():
            return ANSWER_S + request.timeout_ms / 1000
        case ShredTopic() | RekeyKeys() | RewrapKeys():
            return LONG_ANSWER_S
        case _:
            return ANSWER_S


def legible(message: str) -> str:
    """A broker's text, made safe for a terminal: bounded, and nothing but printable characters."""
    shown = message[:MAX_MESSAGE_CHARACTERS]
    return "".join(character if character.isprintable() else "\ufffd" for character in shown)
