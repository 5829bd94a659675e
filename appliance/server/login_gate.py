"""What may be asked of a connection that logs in, and what a login's messages come to.

Rules: until the login has ended well, nothing but its own messages and ApiVersions is answered, and
nothing reaches the broker. When a session's lifetime has ended, nothing but a new login is. A login
that failed is recorded, answered after a moment, and the connection ends.
"""

from collections.abc import Callable

import msgspec
import trio

from appliance.authn.login import Login, Step
from appliance.broker.caller import Caller
from appliance.errors import ProtocolViolation
from appliance.limits import FAILED_LOGIN_DELAY_S
from appliance.server.dialect import Dispatch
from appliance.types import Principal, PrincipalKind
from appliance.wire.requests import (
    ApiVersions,
    ApiVersionsResult,
    Request,
    Response,
    SaslAuthenticate,
    SaslAuthenticateResult,
    SaslHandshake,
    SaslHandshakeResult,
)

NOBODY = Principal(PrincipalKind.USER, "")
"""Who has not logged in: no line of a policy can name it, and no request of its is dispatched."""


class ByLogin(msgspec.Struct, frozen=True):
    """How peers of a listener say who they are, where their certificate does not."""

    begin: Callable[[], Login]


class Outcome(msgspec.Struct, frozen=True):
    """The answer, and who is let in, or whether the connection ends."""

    response: Response
    caller: Caller | None = None
    ends: bool = False


class LoginGate:
    """Stands before the broker on one connection."""

    def __init__(self, login: Login, dispatch: Dispatch) -> None:
        self._login = login
        self._dispatch = dispatch

    async def take(self, caller: Caller, request: Request, *, serving: bool) -> Outcome | None:
        """What a request comes to here; None if it may go on to the broker.

        Raises ProtocolViolation for a request before the login, or after the session's end.
        """
        if isinstance(request, SaslHandshake):
            step = self._login.handshake(request.mechanism)
            await self._note_failure(caller, step)
            answer = SaslHandshakeResult(step.error, step.mechanisms)
            return Outcome(answer, ends=step.failure is not None)
        if isinstance(request, SaslAuthenticate):
            return await self._authenticate(caller, request)
        if not serving:
            if isinstance(request, ApiVersions):
                return Outcome(ApiVersionsResult())
            raise ProtocolViolation("a request before the login")
        if self._login.expired:
            raise ProtocolViolation("the session has outlived its login")
        return None

    async def _authenticate(self, caller: Caller, request: SaslAuthenticate) -> Outcome:
        step = self._login.authenticate(request.auth_bytes)
        await self._note_failure(caller, step)
        answer = SaslAuthenticateResult(step.error, step.message, step.reply, step.lifetime_ms)
        if step.proven is None:
            return Outcome(answer, ends=step.failure is not None)
        admitted = msgspec.structs.replace(caller, principal=step.proven.principal)
        return Outcome(answer, admitted)

    async def _note_failure(self, caller: Caller, step: Step) -> None:
        if step.failure is not None:
            await self._dispatch.login_failed(caller.listener, caller.address, step.failure)
            await trio.sleep(FAILED_LOGIN_DELAY_S)
