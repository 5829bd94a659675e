"""PushTelemetry (key 72): a client's metrics (KIP-714).

Why each version exists:
0  the API itself.
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Field, Scalar, row
from appliance.wire.requests import PushTelemetry, PushTelemetryResult

API: Final = Api(
    key=72,
    name="PushTelemetry",
    lowest=0,
    highest=0,
    flexible_from=0,
    request=row(
        Field("client_instance_id", Scalar.UUID),
        Field("subscription_id", Scalar.INT32),
        Field("terminating", Scalar.BOOL),
        Field("compression_type", Scalar.INT8),
        Field("metrics", Scalar.BYTES),
        into=PushTelemetry,
    ),
    response=row(
        Field("throttle_time_ms", Scalar.INT32),
        Field("error", Scalar.INT16),
        into=PushTelemetryResult,
    ),
)
