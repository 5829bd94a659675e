"""GetTelemetrySubscriptions (key 71): which metrics a client is to push (KIP-714).

Why each version exists:
0  the API itself.
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import GetTelemetrySubscriptions, GetTelemetrySubscriptionsResult

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("client_instance_id", Scalar.UUID),
    Field("subscription_id", Scalar.INT32),
    Field("compression_types", Array(Scalar.INT8)),
    Field("push_interval_ms", Scalar.INT32),
    Field("max_bytes", Scalar.INT32),
    Field("deltas", Scalar.BOOL),
    Field("metrics", Array(Scalar.STRING)),
    into=GetTelemetrySubscriptionsResult,
)

API: Final = Api(
    key=71,
    name="GetTelemetrySubscriptions",
    lowest=0,
    highest=0,
    flexible_from=0,
    request=row(Field("client_instance_id", Scalar.UUID), into=GetTelemetrySubscriptions),
    response=_RESPONSE,
)
