"""RewrapKeys: one slice of this node's wrapped keys, wrapped anew; no data is read or written."""

from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.errors import ErrorCode, KeyProviderError, RequestError, StorageError
from appliance.ports import NodeStorage
from appliance.wire.requests import RewrapKeys, RewrapKeysResult


class RewrapKeysHandler:
    """Re-wraps in slices, so that whoever asks can show how far it is, and stop."""

    request = RewrapKeys

    def __init__(self, storage: NodeStorage, auditor: Auditor) -> None:
        self._storage = storage
        self._auditor = auditor

    def refuse(self, _: RewrapKeys, code: ErrorCode) -> RewrapKeysResult:
        """Says why not."""
        return RewrapKeysResult(code)

    async def handle(self, caller: Caller, authorized: Authorized[RewrapKeys]) -> RewrapKeysResult:
        """What the slice came to; recorded in the audit log where a run begins."""
        request = authorized.request
        try:
            if request.after is None:
                await self._auditor.changing(caller, authorized, ("keys",), "re-wraps every key")
            done = await self._storage.keys.rewrap(request.after, request.limit)
        except (KeyProviderError, StorageError) as error:
            return RewrapKeysResult(ErrorCode.KAFKA_STORAGE_ERROR, message=str(error))
        except RequestError as error:
            return RewrapKeysResult(error.code, message=str(error))
        return RewrapKeysResult(
            ErrorCode.NONE, done.examined, done.rewrapped, done.failed[:16], done.after
        )
