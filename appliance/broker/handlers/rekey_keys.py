"""RekeyKeys: has this node seal its data anew under the newest keys, and says how far it is."""

from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.rekeying import Rekeyer
from appliance.errors import ErrorCode, RequestError
from appliance.wire.requests import RekeyKeys, RekeyKeysResult

MAX_REASONS = 16


class RekeyKeysHandler:
    """Begins a run, which goes on by itself, or looks at it."""

    request = RekeyKeys

    def __init__(self, rekeyer: Rekeyer, auditor: Auditor) -> None:
        self._rekeyer = rekeyer
        self._auditor = auditor

    def refuse(self, _: RekeyKeys, code: ErrorCode) -> RekeyKeysResult:
        """Says why not."""
        return RekeyKeysResult(code)

    async def handle(self, caller: Caller, authorized: Authorized[RekeyKeys]) -> RekeyKeysResult:
        """How far it is; recorded in the audit log where a run begins."""
        request = authorized.request
        if request.begin:
            try:
                detail = "seals data anew under new keys"
                await self._auditor.changing(caller, authorized, ("keys",), detail)
            except RequestError as error:
                return RekeyKeysResult(error.code, message=str(error))
            self._rekeyer.start(request.domain)
        now = self._rekeyer.progress()
        return RekeyKeysResult(
            ErrorCode.NONE,
            now.running,
            now.total_bytes,
            now.left_bytes,
            now.failed[:MAX_REASONS],
        )
