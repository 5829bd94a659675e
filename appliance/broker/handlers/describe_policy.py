"""DescribePolicy: the policy in force, with the version that decisions name."""

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.errors import ErrorCode
from appliance.wire.requests import DescribePolicy, DescribePolicyResult


class DescribePolicyHandler:
    """Shows the policy."""

    request = DescribePolicy

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def refuse(self, _: DescribePolicy, code: ErrorCode) -> DescribePolicyResult:
        """Says why not."""
        return DescribePolicyResult(code)

    async def handle(self, _: Caller, __: Authorized[DescribePolicy]) -> DescribePolicyResult:
        """Version and text."""
        version, text = self._catalogue.policy()
        return DescribePolicyResult(ErrorCode.NONE, version, text)
