"""FindCoordinator (key 10): which node coordinates a group or a transactional id.

Why each version exists:
0  groups only.
1  transactional ids, error messages, throttle time (KIP-98).
2  the client waits out its throttling itself (KIP-219).
3  flexible (KIP-482).
4  several keys at once (KIP-699).
5  the client knows TRANSACTION_ABORTABLE (KIP-890).
6  share groups, key type 2 (KIP-932).
"""

from typing import Final

from msgspec import Struct

from appliance.errors import ErrorCode
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request, to_wire
from appliance.wire.requests import Coordinator, FindCoordinator, FindCoordinatorResult

_FIRST_WITH_SEVERAL: Final = 4


class _Request(Struct, frozen=True, gc=False):
    """One key, or several."""

    key: str
    key_type: int
    keys: tuple[str, ...]


class _Response(Struct, frozen=True, gc=False):
    """One coordinator's fields, or several coordinators."""

    error: ErrorCode
    message: str | None
    node_id: int
    host: str
    port: int
    coordinators: tuple[Coordinator, ...]
    throttle_time_ms: int


def _request(asked: _Request, version: int) -> FindCoordinator:
    keys = asked.keys if version >= _FIRST_WITH_SEVERAL else (asked.key,)
    return FindCoordinator(asked.key_type, keys)


def _response(_: FindCoordinator, response: FindCoordinatorResult, version: int) -> _Response:
    several = version >= _FIRST_WITH_SEVERAL
    only = Coordinator("") if several else response.coordinators[0]
    return _Response(
        only.error,
        only.message,
        only.node_id,
        only.host,
        only.port,
        response.coordinators if several else (),
        response.throttle_time_ms,
    )


_REQUEST: Final = row(
    Field("key", Scalar.STRING, until=3, default=""),
    Field("key_type", Scalar.INT8, since=1, default=0),
    Field("keys", Array(Scalar.STRING), since=4, default=()),
    into=_Request,
)

_COORDINATOR: Final = row(
    Field("key", Scalar.STRING),
    Field("node_id", Scalar.INT32),
    Field("host", Scalar.STRING),
    Field("port", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=4),
    into=Coordinator,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32, since=1, default=0),
    Field("error", Scalar.INT16, until=3, default=0),
    Field("message", Scalar.STRING, since=1, until=3, nullable_from=1, default=None),
    Field("node_id", Scalar.INT32, until=3, default=-1),
    Field("host", Scalar.STRING, until=3, default=""),
    Field("port", Scalar.INT32, until=3, default=-1),
    Field("coordinators", Array(_COORDINATOR), since=4, default=()),
    into=_Response,
)

API: Final = Api(
    key=10,
    name="FindCoordinator",
    lowest=0,
    highest=6,
    flexible_from=3,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
    to_wire=to_wire(_response),
)
