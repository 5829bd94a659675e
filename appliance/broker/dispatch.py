"""One request, one way through: judged, recorded, handled.

Rules: a request type is served only if the authorisation catalogue has a row for it and exactly one
handler answers it; a process for which that does not hold refuses to start. Handlers get what the
gate authorised and nothing else. Whatever is refused as a whole is answered by its handler's
`refuse`, so that both dialects can tell the client in their own words.
"""

from collections.abc import Mapping
from typing import Final, Protocol, TypeVar, cast

from appliance.authz.catalogue import CATALOGUE, CatalogueEntry
from appliance.authz.decision import Denied
from appliance.authz.gate import Authorized, Gate
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.forwarding import LED, Forwarding
from appliance.broker.judge import Judge
from appliance.broker.pending import Pending
from appliance.broker.quotas import Quotas
from appliance.errors import ErrorCode, RequestError
from appliance.invariant import InvariantViolation, invariant
from appliance.wire.requests import AnyRequest, AnyResponse, Refused, Request, Response

R = TypeVar("R", bound=Request)

Reply = Response | Pending | None
"""A response, one that is on its way, or none at all (Produce with acks 0)."""


class Handler(Protocol[R]):
    """Answers one type of request."""

    @property
    def request(self) -> type[R]:
        """The type that it answers."""
        ...

    def refuse(self, request: R, code: ErrorCode) -> Reply:
        """The answer to a request that is refused as a whole."""
        ...

    async def handle(self, caller: Caller, authorized: Authorized[R]) -> Reply:
        """Acts on the granted items; refused ones get their part of the answer."""
        ...


class Dispatcher:
    """Every request of every listener passes here."""

    def __init__(
        self,
        gate: Gate,
        auditor: Auditor,
        *,
        catalogue: Mapping[type[Request], CatalogueEntry] = CATALOGUE,
        forwarding: Forwarding | None = None,
        meter: Quotas | None = None,
    ) -> None:
        """Serves nothing until handlers are registered."""
        self.meter: Final[Quotas | None] = meter
        """The quotas of clients; None for nodes, which have none."""
        self._forwarding = forwarding
        self._judge = Judge(gate, auditor)
        self._auditor = auditor
        self._catalogue = catalogue
        self._handlers: dict[type[Request], Handler[Request]] = {}

    @property
    def judge(self) -> Judge:
        """For handlers that park requests."""
        return self._judge

    def register(self, handler: Handler[R]) -> None:
        """Serves one more type of request.

        Raises InvariantViolation if authorisation does not know it, or it is served already.
        """
        invariant(
            handler.request in self._catalogue,
            f"{handler.request.__name__} is in the authorisation catalogue",
        )
        invariant(handler.request not in self._handlers, "a request has one handler")
        # A handler is only ever given requests of its own type: `dispatch` looks it up by type.
        self._handlers[handler.request] = cast(Handler[Request], handler)

    def check_complete(self) -> None:
        """Raises InvariantViolation unless every request of the catalogue is served."""
        missing = sorted(each.__name__ for each in self._catalogue.keys() - self._handlers.keys())
        if missing:
            raise InvariantViolation(f"requests without a handler: {', '.join(missing)}")

    async def login(self, caller: Caller) -> None:
        """Records a login before anything is read from it.

        Raises StorageError, and the connection is then closed.
        """
        await self._auditor.login(caller)

    async def login_failed(self, listener: str, address: str, reason: str) -> None:
        """Records that a peer was turned away; raises StorageError."""
        await self._auditor.login_failed(listener, address, reason)

    async def dispatch(self, caller: Caller, request: Request) -> Reply:
        """Answers a request.

        An answer that is not `Pending` is complete; while this is awaited, nothing more is read
        from the connection. Raises ProtocolViolation when the connection is to be closed.
        """
        handler = self._handlers[type(request)]
        try:
            ruling = self._judge.rule(caller, request)
            if isinstance(ruling, Denied) or ruling.refused:
                authorized = await self._judge.recorded(caller, request, ruling)
            else:
                authorized = ruling
            forwarding = self._forwarding
            if forwarding is not None:
                if forwarding.elsewhere(request):
                    return await forwarding.forward(caller, cast(AnyRequest, request))
                if type(request) in LED:
                    await forwarding.confirm()
            return await handler.handle(caller, authorized)
        except RequestError as error:
            return handler.refuse(request, error.code)

    async def dispatch_here(self, caller: Caller, request: AnyRequest) -> AnyResponse:
        """The whole answer to a request that another node has forwarded; not forwarded again."""
        handler = self._handlers[type(request)]
        try:
            authorized = await self._judge.judge(caller, request)
            if self._forwarding is not None and type(request) in LED:
                await self._forwarding.confirm()
            reply = await handler.handle(caller, authorized)
        except RequestError as error:
            reply = handler.refuse(request, error.code)
        if not isinstance(reply, Response):
            return Refused(ErrorCode.INVALID_REQUEST, "such a request is not forwarded")
        return cast(AnyResponse, reply)
