"""SyncGroup (key 14): brings or fetches the assignments of a generation.

Why each version exists:
1  throttle time (KIP-124).
2  the client waits out its throttling itself (KIP-219).
3  static members (KIP-345).
4  flexible (KIP-482).
5  the protocol that the client believes in, to be compared (KIP-559).
"""

from typing import Final

from msgspec.structs import replace

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import SyncGroup, SyncGroupResult

_FIRST_COMPARED: Final = 5


def _request(asked: SyncGroup, version: int) -> SyncGroup:
    """Null is nobody's protocol; a version that does not carry one is not compared."""
    if version < _FIRST_COMPARED or (asked.protocol_type and asked.protocol_name):
        return asked
    return replace(
        asked,
        protocol_type=asked.protocol_type or "",
        protocol_name=asked.protocol_name or "",
    )


_REQUEST: Final = row(
    Field("group", Scalar.STRING),
    Field("generation_id", Scalar.INT32),
    Field("member_id", Scalar.STRING),
    Field("group_instance_id", Scalar.STRING, since=3, nullable_from=3),
    Field("protocol_type", Scalar.STRING, since=5, nullable_from=5),
    Field("protocol_name", Scalar.STRING, since=5, nullable_from=5),
    Field(
        "assignments",
        Array(row(Field("member_id", Scalar.STRING), Field("assignment", Scalar.BYTES))),
    ),
    into=SyncGroup,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32, since=1, default=0),
    Field("error", Scalar.INT16),
    Field("protocol_type", Scalar.STRING, since=5, nullable_from=5),
    Field("protocol_name", Scalar.STRING, since=5, nullable_from=5),
    Field("assignment", Scalar.BYTES),
    into=SyncGroupResult,
)

API: Final = Api(
    key=14,
    name="SyncGroup",
    lowest=0,
    highest=5,
    flexible_from=4,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
)
