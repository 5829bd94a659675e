"""Heartbeat: a member lives, and learns whether it is to join again."""

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.coordinator import Coordinator
from appliance.coordination.group_messages import Claim
from appliance.errors import ErrorCode
from appliance.wire.requests import Heartbeat, HeartbeatResult


class HeartbeatHandler:
    """Passes signs of life on."""

    request = Heartbeat

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def refuse(self, _: Heartbeat, code: ErrorCode) -> HeartbeatResult:
        """Says why not."""
        return HeartbeatResult(code)

    async def handle(self, _: Caller, authorized: Authorized[Heartbeat]) -> HeartbeatResult:
        """Answers at once; nothing of it is replicated."""
        request = authorized.request
        claim = Claim(
            request.group, request.member_id, request.group_instance_id, request.generation_id
        )
        return HeartbeatResult(self._coordinator.heartbeat(claim))
