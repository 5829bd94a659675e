"""What clients tell of themselves (KIP-714)."""

from uuid import UUID

from appliance.errors import ErrorCode
from appliance.wire.requests.base import Request, Response


class GetTelemetrySubscriptions(Request, frozen=True):
    """Asks what the cluster wants to know; without an id of its own a client is given one."""

    client_instance_id: UUID | None = None


class GetTelemetrySubscriptionsResult(Response, frozen=True):
    """Answer to GetTelemetrySubscriptions; without `metrics` nothing is to be pushed."""

    error: ErrorCode = ErrorCode.NONE
    client_instance_id: UUID | None = None
    subscription_id: int = 0
    compression_types: tuple[int, ...] = ()
    push_interval_ms: int = 0
    max_bytes: int = 0
    deltas: bool = False
    metrics: tuple[str, ...] = ()
    throttle_time_ms: int = 0


class PushTelemetry(Request, frozen=True):
    """A client's metrics in OpenTelemetry's form, compressed; with `terminating` its last ones."""

    client_instance_id: UUID | None
    subscription_id: int
    terminating: bool
    compression_type: int
    metrics: bytes


class PushTelemetryResult(Response, frozen=True):
    """Answer to PushTelemetry."""

    error: ErrorCode = ErrorCode.NONE
    throttle_time_ms: int = 0
