"""ListConfigResources (key 74): what has settings (KIP-1142).

Why each version exists:
0  subscriptions of clients' metrics only (KIP-714).
1  resources of any kind, and which kind each is of.
"""

from typing import Final

from msgspec.structs import replace

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import (
    ConfigResource,
    ListConfigResources,
    ListConfigResourcesResult,
)

_FIRST_WITH_KINDS: Final = 1
_CLIENT_METRICS: Final = 16
"""The only kind that version 0 knows."""


def _request(asked: ListConfigResources, version: int) -> ListConfigResources:
    if version >= _FIRST_WITH_KINDS:
        return asked
    return replace(asked, kinds=(_CLIENT_METRICS,))


_RESOURCE: Final = row(
    Field("name", Scalar.STRING),
    Field("kind", Scalar.INT8, since=1),
    into=ConfigResource,
)

API: Final = Api(
    key=74,
    name="ListConfigResources",
    lowest=0,
    highest=1,
    flexible_from=0,
    request=row(Field("kinds", Array(Scalar.INT8), since=1, default=()), into=ListConfigResources),
    response=row(
        Field("throttle_time_ms", Scalar.INT32),
        Field("error", Scalar.INT16),
        Field("resources", Array(_RESOURCE)),
        into=ListConfigResourcesResult,
    ),
    to_request=to_request(_request),
)
