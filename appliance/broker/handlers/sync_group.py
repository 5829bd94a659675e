"""SyncGroup: parked until the leader has assigned; judged again before its reply."""

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.coordinator import Coordinator
from appliance.broker.judge import Judge
from appliance.coordination.group_messages import Sync
from appliance.errors import ErrorCode
from appliance.wire.requests import SyncGroup, SyncGroupResult


class SyncGroupHandler:
    """Hands assignments from a group's leader to its members."""

    request = SyncGroup

    def __init__(self, coordinator: Coordinator, judge: Judge) -> None:
        self._coordinator = coordinator
        self._judge = judge

    def refuse(self, _: SyncGroup, code: ErrorCode) -> SyncGroupResult:
        """Says why not."""
        return SyncGroupResult(code)

    async def handle(self, caller: Caller, authorized: Authorized[SyncGroup]) -> SyncGroupResult:
        """Returns when the member has its assignment, or will not get one."""
        request = authorized.request
        synced = await self._coordinator.sync(
            Sync(
                group=request.group,
                member=request.member_id,
                instance=request.group_instance_id,
                generation=request.generation_id,
                protocol_type=request.protocol_type,
                protocol=request.protocol_name,
                assignments=request.assignments,
            )
        )
        await self._judge.rejudge(caller, authorized)
        return SyncGroupResult(
            synced.error, synced.assignment, synced.protocol_type, synced.protocol
        )
