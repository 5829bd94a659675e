"""The gate and the audit log as one step: a ruling is recorded before anyone acts on it."""

from typing import TypeVar

from appliance.authz.decision import Denied
from appliance.authz.gate import Authorized, Gate, prove
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.errors import RequestError
from appliance.wire.requests import Request

R = TypeVar("R", bound=Request)


class Judge:
    """Rules on requests, first and once more for those that were parked."""

    def __init__(self, gate: Gate, auditor: Auditor) -> None:
        self._gate = gate
        self._auditor = auditor

    def rule(self, caller: Caller, request: R) -> Authorized[R] | Denied:
        """The gate's ruling; whoever acts on one that refuses anything has it `recorded` first."""
        ruling = self._gate.judge(
            caller.principal, request, listener=caller.listener, address=caller.address
        )
        if not isinstance(ruling, Denied):
            prove(ruling)
        return ruling

    async def recorded(
        self, caller: Caller, request: R, ruling: Authorized[R] | Denied
    ) -> Authorized[R]:
        """What of a request is granted; raises RequestError if nothing is, or nothing recorded."""
        if isinstance(ruling, Denied):
            await self._auditor.denied_whole(caller, request, ruling)
            raise RequestError(ruling.code, "not authorised")
        if ruling.refused:
            await self._auditor.denied(caller, request, ruling.refused)
        return ruling

    async def judge(self, caller: Caller, request: R) -> Authorized[R]:
        """Rules and has it recorded; raises as `recorded` does."""
        return await self.recorded(caller, request, self.rule(caller, request))

    async def rejudge(self, caller: Caller, authorized: Authorized[R]) -> Authorized[R]:
        """What of a request that was parked is still granted; raises as `judge` does."""
        ruling = self._gate.rejudge(authorized)
        if isinstance(ruling, Denied):
            await self._auditor.denied_whole(caller, authorized.request, ruling)
            raise RequestError(ruling.code, "not authorised any more")
        fresh = ruling.refused[len(authorized.refused) :]
        if fresh:
            await self._auditor.denied(caller, authorized.request, fresh)
        return ruling
