"""ListGroups, DescribeGroups and DeleteGroups: groups as administrators see them."""

from appliance.authz.actions import CLUSTER, Action, Resource, ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.coordinator import Coordinator
from appliance.broker.operations import operations_on
from appliance.coordination.group import Group, Member
from appliance.coordination.group_states import GroupState
from appliance.errors import ErrorCode, RequestError
from appliance.types import GroupName
from appliance.wire.requests import (
    OPERATIONS_NOT_ASKED,
    DeletedGroup,
    DeleteGroups,
    DeleteGroupsResult,
    DescribedGroup,
    DescribedMember,
    DescribeGroups,
    DescribeGroupsResult,
    ListedGroup,
    ListGroups,
    ListGroupsResult,
)

_STATES = {
    GroupState.EMPTY: "Empty",
    GroupState.PREPARING_REBALANCE: "PreparingRebalance",
    GroupState.COMPLETING_REBALANCE: "CompletingRebalance",
    GroupState.STABLE: "Stable",
    GroupState.DEAD: "Dead",
}
"""As Kafka names them."""
_TYPE = "classic"


class ListGroupsHandler:
    """Lists what may be described: all of it by a right over the cluster, else group by group."""

    request = ListGroups

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def refuse(self, _: ListGroups, code: ErrorCode) -> ListGroupsResult:
        """Says why not."""
        return ListGroupsResult(error=code)

    async def handle(self, _: Caller, authorized: Authorized[ListGroups]) -> ListGroupsResult:
        """Each group only if it may be described."""
        request = authorized.request
        names = self._coordinator.group_names()
        if not authorized.permits(Action.DESCRIBE, CLUSTER).allowed:
            names = authorized.granted(Action.DESCRIBE, ResourceKind.GROUP, names)
        states = {state.casefold() for state in request.states}
        types = {each.casefold() for each in request.types}
        listed = []
        for name in names:
            state, protocol_type = self._coordinator.look_at(name)[:2]
            told = ListedGroup(name, protocol_type, _STATES[state], _TYPE)
            if (not states or told.state.casefold() in states) and (not types or _TYPE in types):
                listed.append(told)
        return ListGroupsResult(tuple(listed))


class DescribeGroupsHandler:
    """Tells state, protocol and members."""

    request = DescribeGroups

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def refuse(self, request: DescribeGroups, code: ErrorCode) -> DescribeGroupsResult:
        """Every group refused."""
        return DescribeGroupsResult(tuple(DescribedGroup(name, code) for name in request.groups))

    async def handle(
        self, _: Caller, authorized: Authorized[DescribeGroups]
    ) -> DescribeGroupsResult:
        """One answer a group."""
        codes = authorized.refused_codes(ResourceKind.GROUP)
        return DescribeGroupsResult(
            tuple(
                DescribedGroup(name, codes[name])
                if name in codes
                else self._described(name, authorized)
                for name in authorized.asked.groups
            )
        )

    def _described(self, name: GroupName, authorized: Authorized[DescribeGroups]) -> DescribedGroup:
        state, protocol_type, group = self._coordinator.look_at(name)
        allowed = OPERATIONS_NOT_ASKED
        if authorized.request.operations:
            allowed = operations_on(authorized, Resource(ResourceKind.GROUP, name))
        if state is GroupState.DEAD:
            return DescribedGroup(
                name,
                ErrorCode.GROUP_ID_NOT_FOUND,
                "there is no such group",
                _STATES[state],
                operations=allowed,
            )
        return DescribedGroup(
            name,
            state=_STATES[state],
            protocol_type=protocol_type,
            protocol="" if group is None or state is not GroupState.STABLE else group.protocol,
            members=()
            if group is None
            else tuple(
                _told(group, each, stable=state is GroupState.STABLE)
                for each in group.members.values()
            ),
            operations=allowed,
        )


class DeleteGroupsHandler:
    """Deletes groups, recorded first."""

    request = DeleteGroups

    def __init__(self, coordinator: Coordinator, auditor: Auditor) -> None:
        self._coordinator = coordinator
        self._auditor = auditor

    def refuse(self, request: DeleteGroups, code: ErrorCode) -> DeleteGroupsResult:
        """Every group refused."""
        return DeleteGroupsResult(tuple(DeletedGroup(name, code) for name in request.groups))

    async def handle(
        self, caller: Caller, authorized: Authorized[DeleteGroups]
    ) -> DeleteGroupsResult:
        """One answer a group."""
        codes = authorized.refused_codes(ResourceKind.GROUP)
        results = []
        for name in authorized.asked.groups:
            try:
                code = codes.get(name) or await self._delete(caller, authorized, name)
            except RequestError as error:
                code = error.code
            results.append(DeletedGroup(name, code))
        return DeleteGroupsResult(tuple(results))

    async def _delete(
        self, caller: Caller, authorized: Authorized[DeleteGroups], name: GroupName
    ) -> ErrorCode:
        self._coordinator.check_deletable(name)
        await self._auditor.changing(caller, authorized, (name,))
        await self._coordinator.delete_group(name)
        return ErrorCode.NONE


def _told(group: Group, member: Member, *, stable: bool) -> DescribedMember:
    """A member; what it brought to an assignor is told once one was chosen for good."""
    return DescribedMember(
        member.member,
        member.instance,
        member.client_id,
        member.client_host,
        member.metadata_for(group.protocol) if stable else b"",
        member.assignment,
    )
