"""Heartbeat (key 12): says that a member is alive.

Why each version exists:
1  throttle time (KIP-124).
2  the client waits out its throttling itself (KIP-219).
3  static members (KIP-345).
4  flexible (KIP-482).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Field, Scalar, row
from appliance.wire.requests import Heartbeat, HeartbeatResult

_REQUEST: Final = row(
    Field("group", Scalar.STRING),
    Field("generation_id", Scalar.INT32),
    Field("member_id", Scalar.STRING),
    Field("group_instance_id", Scalar.STRING, since=3, nullable_from=3),
    into=Heartbeat,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32, since=1, default=0),
    Field("error", Scalar.INT16),
    into=HeartbeatResult,
)

API: Final = Api(
    key=12,
    name="Heartbeat",
    lowest=0,
    highest=4,
    flexible_from=4,
    request=_REQUEST,
    response=_RESPONSE,
)
