"""JoinGroup: parked until everyone has joined; judged again before its reply."""

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.coordinator import Coordinator
from appliance.broker.judge import Judge
from appliance.coordination.group_messages import Join
from appliance.errors import ErrorCode
from appliance.types import MemberId
from appliance.wire.requests import JoinedMember, JoinGroup, JoinGroupResult


class JoinGroupHandler:
    """Takes members into groups."""

    request = JoinGroup

    def __init__(self, coordinator: Coordinator, judge: Judge) -> None:
        self._coordinator = coordinator
        self._judge = judge

    def refuse(self, request: JoinGroup, code: ErrorCode) -> JoinGroupResult:
        """Says why not."""
        return JoinGroupResult(code, member_id=request.member_id)

    async def handle(self, caller: Caller, authorized: Authorized[JoinGroup]) -> JoinGroupResult:
        """Returns when the member is in a generation, or is not let in."""
        request = authorized.request
        joined = await self._coordinator.join(
            Join(
                group=request.group,
                member=request.member_id,
                instance=request.group_instance_id,
                fresh_id=self._fresh_id(caller, request),
                session_timeout_ms=request.session_timeout_ms,
                rebalance_timeout_ms=request.rebalance_timeout_ms,
                protocol_type=request.protocol_type,
                protocols=tuple((each.name, each.metadata) for each in request.protocols),
                requires_member_id=request.requires_member_id,
                client_id=caller.client_id or "",
                client_host=f"/{caller.address}",
            )
        )
        await self._judge.rejudge(caller, authorized)
        return JoinGroupResult(
            joined.error,
            joined.generation,
            joined.protocol_type,
            joined.protocol,
            joined.leader,
            joined.member,
            tuple(JoinedMember(peer.member, peer.metadata, peer.instance) for peer in joined.peers),
        )

    def _fresh_id(self, caller: Caller, request: JoinGroup) -> MemberId:
        return self._coordinator.new_member_id(
            request.group_instance_id or caller.client_id or "member"
        )
