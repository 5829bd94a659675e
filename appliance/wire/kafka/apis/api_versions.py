"""ApiVersions (key 18): which APIs and versions are served; the first request of most clients.

Why each version exists:
0  the table.
1  throttle time (KIP-124).
2  the client waits out its throttling itself (KIP-219).
3  flexible, the client's software name and version (KIP-511), and features (KIP-584).
4  the client can read a feature whose lowest version is 0; none is listed here.

The response's header is always the classic one, and a version that we do not know is answered in
version 0 with error 35 and this API's own range, so that any client can go on (KIP-511).
"""

import re
from typing import Final

from msgspec import Struct

from appliance.errors import ErrorCode
from appliance.wire.kafka.features import FEATURES
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import ApiVersions

_SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?", re.ASCII)
"""KIP-511: letters, digits, dots and hyphens, the last two not at either end."""


class _Client(Struct, frozen=True, gc=False):
    """What the client says it is; None before version 3."""

    software_name: str | None
    software_version: str | None


class ApiVersionsTable(Struct, frozen=True, gc=False):
    """The answer as it stands on the wire: (key, lowest, highest) of each API."""

    error: ErrorCode
    apis: tuple[tuple[int, int, int], ...]
    throttle_time_ms: int = 0
    supported: tuple[tuple[str, int, int], ...] = ()
    features_epoch: int = -1
    finalised: tuple[tuple[str, int, int], ...] = ()


def features() -> tuple[tuple[tuple[str, int, int], ...], tuple[tuple[str, int, int], ...]]:
    """What is supported, (name, lowest, highest), and what is finalised, (name, level, level)."""
    supported = tuple((each.name, each.lowest, each.highest) for each in FEATURES)
    return supported, tuple((each.name, each.finalised, each.finalised) for each in FEATURES)


def _request(client: _Client, version: int) -> ApiVersions:
    if version < API.flexible_from:
        return ApiVersions()
    named = (client.software_name or "", client.software_version or "")
    return ApiVersions(valid=all(_SOFTWARE.fullmatch(name) for name in named))


_REQUEST: Final = row(
    Field("software_name", Scalar.STRING, since=3, default=None),
    Field("software_version", Scalar.STRING, since=3, default=None),
    into=_Client,
)

_SUPPORTED: Final = row(
    Field("name", Scalar.STRING),
    Field("lowest", Scalar.INT16),
    Field("highest", Scalar.INT16),
)

_FINALISED: Final = row(
    Field("name", Scalar.STRING),
    Field("highest", Scalar.INT16),
    Field("lowest", Scalar.INT16),
)

_RESPONSE: Final = row(
    Field("error", Scalar.INT16),
    Field(
        "apis",
        Array(
            row(
                Field("key", Scalar.INT16),
                Field("lowest", Scalar.INT16),
                Field("highest", Scalar.INT16),
            )
        ),
    ),
    Field("throttle_time_ms", Scalar.INT32, since=1, default=0),
    Field("supported", Array(_SUPPORTED), since=3, tag=0, default=()),
    Field("features_epoch", Scalar.INT64, since=3, tag=1, default=-1),
    Field("finalised", Array(_FINALISED), since=3, tag=2, default=()),
    Field("zk_migration_ready", Scalar.BOOL, since=3, tag=3, bound=False),
    into=ApiVersionsTable,
)

API: Final = Api(
    key=18,
    name="ApiVersions",
    lowest=0,
    highest=4,
    flexible_from=3,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
)
