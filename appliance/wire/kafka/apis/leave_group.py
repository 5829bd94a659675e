"""LeaveGroup (key 13): takes one member (to version 2) or several (from 3) out of a group.

Why each version exists:
1  throttle time (KIP-124).
2  the client waits out its throttling itself (KIP-219).
3  several members, static ones by their instance id (KIP-345).
4  flexible (KIP-482).
5  the client's reason for leaving (KIP-800).
"""

from typing import Final

from msgspec import Struct

from appliance.errors import ErrorCode
from appliance.types import GroupName, MemberId
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request, to_wire
from appliance.wire.requests import LeaveGroup, LeaveGroupResult

_FIRST_WITH_SEVERAL: Final = 3


class _Request(Struct, frozen=True, gc=False):
    """One member id, or several members."""

    group: GroupName
    member_id: MemberId
    members: tuple[tuple[MemberId, str | None], ...]


def _request(asked: _Request, version: int) -> LeaveGroup:
    if version >= _FIRST_WITH_SEVERAL:
        return LeaveGroup(asked.group, asked.members)
    return LeaveGroup(asked.group, ((asked.member_id, None),))


def _response(_: LeaveGroup, response: LeaveGroupResult, version: int) -> LeaveGroupResult:
    """Where the response has one error, the only member's stands for the whole."""
    if version >= _FIRST_WITH_SEVERAL or response.error or not response.members:
        return response
    error: ErrorCode = response.members[0][2]
    return LeaveGroupResult(error, (), response.throttle_time_ms)


_REQUEST: Final = row(
    Field("group", Scalar.STRING),
    Field("member_id", Scalar.STRING, until=2, default=""),
    Field(
        "members",
        Array(
            row(
                Field("member_id", Scalar.STRING),
                Field("group_instance_id", Scalar.STRING, nullable_from=3),
                Field("reason", Scalar.STRING, since=5, nullable_from=5, bound=False),
            )
        ),
        since=3,
        default=(),
    ),
    into=_Request,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32, since=1, default=0),
    Field("error", Scalar.INT16),
    Field(
        "members",
        Array(
            row(
                Field("member_id", Scalar.STRING),
                Field("group_instance_id", Scalar.STRING, nullable_from=3),
                Field("error", Scalar.INT16),
            )
        ),
        since=3,
        default=(),
    ),
    into=LeaveGroupResult,
)

API: Final = Api(
    key=13,
    name="LeaveGroup",
    lowest=0,
    highest=5,
    flexible_from=4,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
    to_wire=to_wire(_response),
)
