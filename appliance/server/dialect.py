"""What a connection needs from a protocol, and from the broker behind it."""

from typing import Protocol, TypeVar

from appliance.broker.caller import Caller
from appliance.broker.pending import Pending
from appliance.server.metering import Meter
from appliance.types import Buffer
from appliance.wire.requests import Request, Response


class Call(Protocol):
    """One request and what its answer needs to find its way back."""

    @property
    def request(self) -> Request:
        """What is asked."""
        ...

    @property
    def client_id(self) -> str | None:
        """What the client calls itself, where the protocol lets it."""
        ...


C = TypeVar("C", bound=Call)


class Dialect(Protocol[C]):
    """A protocol whose frames are a u32 size and that many bytes."""

    def decode(self, frame: memoryview) -> C:
        """The call in a frame, without its size. Raises ProtocolViolation."""
        ...

    def encode(self, call: C, response: Response) -> list[Buffer]:
        """The frame that answers a call, with its size, as buffers in order."""
        ...


class Dispatch(Protocol):
    """The broker as connections see it; `appliance.broker.dispatch` is the real one."""

    @property
    def meter(self) -> Meter | None:
        """The quotas of clients; None for nodes, which have none."""
        ...

    async def login(self, caller: Caller) -> None:
        """Records a login; the connection is served when this returns. Raises ApplianceError."""
        ...

    async def login_failed(self, listener: str, address: str, reason: str) -> None:
        """Records that a peer at `address` was not let in. Raises ApplianceError."""
        ...

    async def dispatch(self, caller: Caller, request: Request) -> Response | Pending | None:
        """A response, one that is on its way, or None where the protocol has none.

        While it has not returned, no more is read from this connection. Raises ApplianceError to
        have the connection closed.
        """
        ...
