"""DescribeGroups (key 15): groups and their members.

Why each version exists:
0  the API itself.
1  throttle time (KIP-124).
2  the client waits out its throttling itself (KIP-219).
3  authorised operations (KIP-430).
4  static members (KIP-345).
5  flexible (KIP-482).
6  an error's message, and GROUP_ID_NOT_FOUND for a group that is not there (KIP-1043).
"""

from typing import Final

from appliance.errors import ErrorCode
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_wire
from appliance.wire.requests import (
    DescribedGroup,
    DescribedMember,
    DescribeGroups,
    DescribeGroupsResult,
)

_FIRST_WITH_NOT_FOUND: Final = 6


def _response(
    _: DescribeGroups, response: DescribeGroupsResult, version: int
) -> DescribeGroupsResult:
    """A group that is not there is, to earlier versions, one in state Dead."""
    if version >= _FIRST_WITH_NOT_FOUND:
        return response
    groups = tuple(
        DescribedGroup(each.group, state="Dead", operations=each.operations)
        if each.error is ErrorCode.GROUP_ID_NOT_FOUND
        else each
        for each in response.groups
    )
    return DescribeGroupsResult(groups, response.throttle_time_ms)


_MEMBER: Final = row(
    Field("member_id", Scalar.STRING),
    Field("group_instance_id", Scalar.STRING, since=4, nullable_from=4),
    Field("client_id", Scalar.STRING),
    Field("client_host", Scalar.STRING),
    Field("metadata", Scalar.BYTES),
    Field("assignment", Scalar.BYTES),
    into=DescribedMember,
)

_GROUP: Final = row(
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, since=6, nullable_from=6),
    Field("group", Scalar.STRING),
    Field("state", Scalar.STRING),
    Field("protocol_type", Scalar.STRING),
    Field("protocol", Scalar.STRING),
    Field("members", Array(_MEMBER)),
    Field("operations", Scalar.INT32, since=3),
    into=DescribedGroup,
)

API: Final = Api(
    key=15,
    name="DescribeGroups",
    lowest=0,
    highest=6,
    flexible_from=5,
    request=row(
        Field("groups", Array(Scalar.STRING)),
        Field("operations", Scalar.BOOL, since=3, default=False),
        into=DescribeGroups,
    ),
    response=row(
        Field("throttle_time_ms", Scalar.INT32, since=1),
        Field("groups", Array(_GROUP)),
        into=DescribeGroupsResult,
    ),
    to_wire=to_wire(_response),
)
