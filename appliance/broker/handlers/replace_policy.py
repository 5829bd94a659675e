"""ReplacePolicy: a whole policy, checked line by line, recorded, and then in force at once."""

from appliance.authz.enforcer import check
from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.errors import ConfigurationError, ErrorCode, RequestError
from appliance.wire.requests import ReplacePolicy, ReplacePolicyResult


class ReplacePolicyHandler:
    """Replaces the policy if the version that the author knew is still in force."""

    request = ReplacePolicy

    def __init__(self, catalogue: Catalogue, auditor: Auditor) -> None:
        self._catalogue = catalogue
        self._auditor = auditor

    def refuse(self, _: ReplacePolicy, code: ErrorCode) -> ReplacePolicyResult:
        """Says why not."""
        return ReplacePolicyResult(code)

    async def handle(
        self, caller: Caller, authorized: Authorized[ReplacePolicy]
    ) -> ReplacePolicyResult:
        """The new version, or which line is wrong."""
        request = authorized.request
        in_force = self._catalogue.policy()[0]
        if request.expected_version != in_force:
            return ReplacePolicyResult(
                ErrorCode.INVALID_UPDATE_VERSION, in_force, f"version {in_force} is in force"
            )
        try:
            check(request.text)
            detail = f"replaces version {in_force}"
            await self._auditor.changing(caller, authorized, ("policy",), detail)
            version = await self._catalogue.set_policy(
                request.text, expected_version=request.expected_version
            )
        except ConfigurationError as error:
            return ReplacePolicyResult(ErrorCode.INVALID_REQUEST, in_force, str(error))
        except RequestError as error:
            return ReplacePolicyResult(error.code, in_force, str(error))
        return ReplacePolicyResult(ErrorCode.NONE, version)
