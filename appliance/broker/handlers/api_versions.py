"""ApiVersions: which APIs are served; the dialect's codec fills in the table."""

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.errors import ErrorCode
from appliance.wire.requests import ApiVersions, ApiVersionsResult


class ApiVersionsHandler:
    """Answers also a client whose version of the question is not known (KIP-511)."""

    request = ApiVersions

    def refuse(self, _: ApiVersions, code: ErrorCode) -> ApiVersionsResult:
        """Says why not."""
        return ApiVersionsResult(code)

    async def handle(self, _: Caller, authorized: Authorized[ApiVersions]) -> ApiVersionsResult:
        """Says whether the question was understood."""
        if not authorized.request.understood:
            return ApiVersionsResult(ErrorCode.UNSUPPORTED_VERSION)
        if not authorized.request.valid:
            return ApiVersionsResult(ErrorCode.INVALID_REQUEST)
        return ApiVersionsResult()
