"""LeaveGroup: members go, and the others rebalance."""

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.coordinator import Coordinator
from appliance.errors import ErrorCode
from appliance.wire.requests import LeaveGroup, LeaveGroupResult


class LeaveGroupHandler:
    """Takes members out of groups."""

    request = LeaveGroup

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def refuse(self, _: LeaveGroup, code: ErrorCode) -> LeaveGroupResult:
        """Says why not."""
        return LeaveGroupResult(code)

    async def handle(self, _: Caller, authorized: Authorized[LeaveGroup]) -> LeaveGroupResult:
        """One answer a member; versions without a list carry one member's as the whole error."""
        request = authorized.request
        if not request.group:
            return LeaveGroupResult(ErrorCode.INVALID_GROUP_ID)
        errors = self._coordinator.leave(request.group, request.members)
        return LeaveGroupResult(
            ErrorCode.NONE,
            tuple(
                (member, instance, error)
                for (member, instance), error in zip(request.members, errors, strict=True)
            ),
        )
