"""Groups as administrators see them."""

from appliance.errors import ErrorCode
from appliance.types import GroupName
from appliance.wire.requests.base import Name, Part, Request, Response
from appliance.wire.requests.topics import OPERATIONS_NOT_ASKED


class ListGroups(Request, frozen=True):
    """Asks for the groups that may be described; empty filters let all through."""

    states: tuple[Name, ...] = ()
    types: tuple[Name, ...] = ()


class ListedGroup(Part, frozen=True):
    """One group, its state and type by Kafka's names."""

    group: GroupName
    protocol_type: str
    state: str
    group_type: str = "classic"


class ListGroupsResult(Response, frozen=True):
    """Answer to ListGroups."""

    groups: tuple[ListedGroup, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    throttle_time_ms: int = 0


class DescribeGroups(Request, frozen=True):
    """Asks for groups and their members."""

    groups: tuple[GroupName, ...]
    operations: bool = False


class DescribedMember(Part, frozen=True):
    """One member of a group."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


class DescribedGroup(Part, frozen=True):
    """One group and its members."""

    group: GroupName
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    state: str = ""
    protocol_type: str = ""
    protocol: str = ""
    members: tuple[DescribedMember, ...] = ()
    operations: int = OPERATIONS_NOT_ASKED


class DescribeGroupsResult(Response, frozen=True):
    """Answer to DescribeGroups."""

    groups: tuple[DescribedGroup, ...]
    throttle_time_ms: int = 0


class DeleteGroups(Request, frozen=True):
    """Deletes groups without members, their offsets with them."""

    groups: tuple[GroupName, ...]


class DeletedGroup(Part, frozen=True):
    """What became of one group."""

    group: GroupName
    error: ErrorCode = ErrorCode.NONE


class DeleteGroupsResult(Response, frozen=True):
    """Answer to DeleteGroups."""

    groups: tuple[DeletedGroup, ...]
    throttle_time_ms: int = 0
