"""A login inside TLS, message by message: SASL as Kafka carries it (KIP-43, KIP-152, KIP-368).

A login first agrees on a mechanism, then exchanges messages until the mechanism says who the peer
is. It is a table of two states, and holds what was proven and until when; it reads no socket and
knows no clock but the one it is given.

Rules: a message out of order ends the login. Why one failed is for the log; the peer is told that
it failed and nothing else, whatever the cause.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from appliance.errors import AuthenticationFailed, ErrorCode
from appliance.types import Principal

FAILED: Final = "the login failed"
"""All that a peer is told."""


class Proven(msgspec.Struct, frozen=True):
    """Who the peer is; `expires_ms` (wall-clock time) is when its credential ends, if it does."""

    principal: Principal
    expires_ms: int | None = None


class Exchange(Protocol):
    """One run of a mechanism."""

    def step(self, message: bytes) -> tuple[bytes, Proven | None]:
        """The answer to a message, and who the peer is once that is proven.

        Raises AuthenticationFailed, whose text is for the log.
        """
        ...


class Step(msgspec.Struct, frozen=True):
    """What one message of a login came to."""

    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    reply: bytes = b""
    mechanisms: tuple[str, ...] = ()
    proven: Proven | None = None
    lifetime_ms: int = 0
    """How long the session may last from now on; 0 is without end (KIP-368)."""
    failure: str | None = None
    """Why it failed, for the log; the connection ends after the reply."""


class Login:
    """One connection's logins, the first and those that renew it."""

    def __init__(
        self,
        mechanisms: Mapping[str, Callable[[], Exchange]],
        *,
        now_ms: Callable[[], int],
        max_session_ms: int,
    ) -> None:
        """`max_session_ms` bounds a session whatever its credential says; 0 does not."""
        self._mechanisms = mechanisms
        self._now_ms = now_ms
        self._max_session_ms = max_session_ms
        self._exchange: Exchange | None = None
        self._ends_ms: int | None = None
        self._principal: Principal | None = None

    @property
    def expired(self) -> bool:
        """Whether the session has outlived its login, and no new one has followed."""
        return self._ends_ms is not None and self._now_ms() >= self._ends_ms

    def handshake(self, mechanism: str) -> Step:
        """Begins a login by a mechanism."""
        offered = tuple(self._mechanisms)
        if self._exchange is not None:
            return Step(ErrorCode.ILLEGAL_SASL_STATE, FAILED, failure="a login within a login")
        begin = self._mechanisms.get(mechanism)
        if begin is None:
            return Step(
                ErrorCode.UNSUPPORTED_SASL_MECHANISM,
                mechanisms=offered,
                failure="a mechanism that is not offered",
            )
        self._exchange = begin()
        return Step(mechanisms=offered)

    def authenticate(self, message: bytes) -> Step:
        """Takes the next message of the login that was begun."""
        exchange = self._exchange
        if exchange is None:
            failure = "a message without a handshake"
            return Step(ErrorCode.ILLEGAL_SASL_STATE, FAILED, failure=failure)
        try:
            reply, proven = exchange.step(message)
            if proven is None:
                return Step(reply=reply)
            return self._accept(reply, proven)
        except AuthenticationFailed as error:
            self._exchange = None
            return Step(ErrorCode.SASL_AUTHENTICATION_FAILED, FAILED, failure=str(error))

    def _accept(self, reply: bytes, proven: Proven) -> Step:
        """Ends a login well; one that renews another must prove the same principal."""
        if self._principal not in {None, proven.principal}:
            raise AuthenticationFailed("a login that renews another is of the same principal")
        self._exchange = None
        self._principal = proven.principal
        now_ms = self._now_ms()
        ends = [] if proven.expires_ms is None else [proven.expires_ms]
        if self._max_session_ms:
            ends.append(now_ms + self._max_session_ms)
        self._ends_ms = min(ends, default=None)
        lifetime_ms = 0 if self._ends_ms is None else max(self._ends_ms - now_ms, 1)
        return Step(reply=reply, proven=proven, lifetime_ms=lifetime_ms)
