"""What a connection needs to hold its client back: the time that a request took, and the wait.

Rules: time is what the event loop spent on a request, step by step; what the request waited for is
not its own. Whoever owes something is answered, told so in `throttle_time_ms`, and not read for so
long: Kafka's muted channel (KIP-219).
"""

from collections.abc import Coroutine, Generator
from time import perf_counter
from typing import Final, Generic, Protocol, TypeVar, cast

from msgspec.structs import replace

from appliance.broker.caller import Caller
from appliance.wire.requests import Request, Response

T = TypeVar("T")

clock: Final = perf_counter
"""Seconds, for time that is spent rather than waited for."""


class Account(Protocol):
    """What one connection's requests are taken from."""

    def charge(self, request: Request, size_bytes: int, work_s: float) -> int:
        """Milliseconds for which the client is held back after a request."""
        ...


class Meter(Protocol):
    """The node's quotas as connections see them; `appliance.broker.quotas` is the real one."""

    def account(self, caller: Caller) -> Account:
        """Whose quotas a connection's requests count for."""
        ...

    def connection(self, address: str, origin: str) -> float:
        """Seconds for which a new connection comes too early; 0 if it may come in."""
        ...


class Rest(Generic[T]):
    """Awaits what is left of a coroutine that has begun, and notes how long it keeps the loop.

    It stands in the coroutine's place (PEP 380): what it is sent and what is thrown into it goes
    on to the coroutine, with a look at the clock around each step. Most requests are done in their
    first step and never get here.
    """

    __slots__ = ("_coroutine", "_first", "_trap", "work_s")

    def __init__(self, coroutine: Coroutine[object, object, T], trap: object) -> None:
        """Await it once; `trap` is what the coroutine's first step has yielded."""
        self._coroutine = coroutine
        self._trap = trap
        self._first = True
        self.work_s = 0.0
        """Of its steps so far, in seconds."""

    def __await__(self) -> Generator[object, object, T]:
        """The iterator that `await` drives, which is this."""
        return cast("Generator[object, object, T]", self)

    def __iter__(self) -> "Rest[T]":
        """Itself."""
        return self

    def __next__(self) -> object:
        """The next step; StopIteration holds the result."""
        return self.send(None)

    def send(self, value: object) -> object:
        """The next step, with what was waited for."""
        if self._first:
            self._first = False
            return self._trap
        begun = clock()
        try:
            return self._coroutine.send(value)
        finally:
            self.work_s += clock() - begun

    def throw(self, error: BaseException) -> object:
        """The next step, with what went wrong."""
        begun = clock()
        try:
            return self._coroutine.throw(error)
        finally:
            self.work_s += clock() - begun

    def close(self) -> None:
        """Nobody waits any more."""
        self._coroutine.close()


def told_ms(reply: object) -> int:
    """For how long a reply says already that its client is held back, in milliseconds."""
    return getattr(reply, "throttle_time_ms", 0)


def telling(response: Response, throttle_ms: int) -> Response:
    """The response, saying how long its client is held back if its kind can say so."""
    if told_ms(response) >= throttle_ms or not hasattr(response, "throttle_time_ms"):
        return response
    return replace(response, throttle_time_ms=throttle_ms)
