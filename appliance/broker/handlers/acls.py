"""DescribeAcls, CreateAcls and DeleteAcls: the policy's lines as Kafka's tools know them.

Rules: whoever may do this with the policy itself may do it here, and nobody else: a right over the
cluster alone would let its holder give itself every other.
"""

from appliance.authz.acls import adding, line_of, matching, removing
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.policy_editing import PolicyEditing
from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_ACLS_AT_ONCE
from appliance.wire.requests import (
    CreateAcls,
    CreateAclsResult,
    CreatedAcl,
    DeleteAcls,
    DeleteAclsResult,
    DeletedAcls,
    DescribeAcls,
    DescribeAclsResult,
)


class DescribeAclsHandler:
    """Tells the rules that match."""

    request = DescribeAcls

    def __init__(self, policy: PolicyEditing) -> None:
        self._policy = policy

    def refuse(self, _: DescribeAcls, code: ErrorCode) -> DescribeAclsResult:
        """Says why not."""
        return DescribeAclsResult(error=code)

    async def handle(self, _: Caller, authorized: Authorized[DescribeAcls]) -> DescribeAclsResult:
        """The rules, from the policy in force."""
        try:
            return DescribeAclsResult(matching(authorized.request.filter, self._policy.text))
        except RequestError as error:
            return DescribeAclsResult(error=error.code, message=str(error))


class CreateAclsHandler:
    """Adds lines to the policy."""

    request = CreateAcls

    def __init__(self, policy: PolicyEditing) -> None:
        self._policy = policy

    def refuse(self, request: CreateAcls, code: ErrorCode) -> CreateAclsResult:
        """Every rule refused."""
        return CreateAclsResult((CreatedAcl(code),) * len(request.acls))

    async def handle(self, caller: Caller, authorized: Authorized[CreateAcls]) -> CreateAclsResult:
        """The rules that can be said come into force together; the others are answered why."""
        _check_count(len(authorized.request.acls))
        results: list[CreatedAcl] = []
        lines: list[str] = []
        for acl in authorized.request.acls:
            try:
                lines.append(line_of(acl))
                results.append(CreatedAcl())
            except RequestError as error:
                results.append(CreatedAcl(error.code, str(error)))
        try:
            detail = "; ".join(f"+ {line}" for line in lines)
            await self._policy.change(caller, authorized, lambda text: adding(text, lines), detail)
        except RequestError as error:
            failed = CreatedAcl(error.code, str(error))
            results = [each if each.error is not ErrorCode.NONE else failed for each in results]
        return CreateAclsResult(tuple(results))


class DeleteAclsHandler:
    """Takes lines out of the policy."""

    request = DeleteAcls

    def __init__(self, policy: PolicyEditing) -> None:
        self._policy = policy

    def refuse(self, request: DeleteAcls, code: ErrorCode) -> DeleteAclsResult:
        """Every filter refused."""
        return DeleteAclsResult((DeletedAcls(code),) * len(request.filters))

    async def handle(self, caller: Caller, authorized: Authorized[DeleteAcls]) -> DeleteAclsResult:
        """All that the filters mean goes together, or nothing does."""
        filters = authorized.request.filters
        _check_count(len(filters))
        removed: list[DeletedAcls] = []

        def edited(text: str) -> str:
            changed, found = removing(text, filters)
            removed[:] = [DeletedAcls(acls=acls) for acls in found]
            return changed

        try:
            found = removing(self._policy.text, filters)[1]
            lines = [line_of(acl) for acl in dict.fromkeys(a for acls in found for a in acls)]
            detail = "; ".join(f"- {line}" for line in lines)
            await self._policy.change(caller, authorized, edited, detail)
        except RequestError as error:
            return DeleteAclsResult((DeletedAcls(error.code, str(error)),) * len(filters))
        return DeleteAclsResult(tuple(removed))


def _check_count(count: int) -> None:
    if count > MAX_ACLS_AT_ONCE:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"at most {MAX_ACLS_AT_ONCE} at once")
