"""GetTelemetrySubscriptions and PushTelemetry: what clients tell of themselves (KIP-714)."""

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.telemetry import ClientTelemetry
from appliance.errors import ErrorCode
from appliance.wire.requests import (
    GetTelemetrySubscriptions,
    GetTelemetrySubscriptionsResult,
    PushTelemetry,
    PushTelemetryResult,
)


class GetTelemetrySubscriptionsHandler:
    """Tells a client what it is to push, and how often."""

    request = GetTelemetrySubscriptions

    def __init__(self, telemetry: ClientTelemetry) -> None:
        self._telemetry = telemetry

    def refuse(
        self, request: GetTelemetrySubscriptions, code: ErrorCode
    ) -> GetTelemetrySubscriptionsResult:
        """Says why not."""
        return GetTelemetrySubscriptionsResult(code, request.client_instance_id)

    async def handle(
        self, _: Caller, authorized: Authorized[GetTelemetrySubscriptions]
    ) -> GetTelemetrySubscriptionsResult:
        """At once."""
        return self._telemetry.ask(authorized.request)


class PushTelemetryHandler:
    """Takes a client's metrics."""

    request = PushTelemetry

    def __init__(self, telemetry: ClientTelemetry) -> None:
        self._telemetry = telemetry

    def refuse(self, _: PushTelemetry, code: ErrorCode) -> PushTelemetryResult:
        """Says why not."""
        return PushTelemetryResult(code)

    async def handle(
        self, caller: Caller, authorized: Authorized[PushTelemetry]
    ) -> PushTelemetryResult:
        """Once they are read."""
        await self._telemetry.push(caller, authorized.request)
        return PushTelemetryResult()
