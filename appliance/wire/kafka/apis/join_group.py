"""JoinGroup (key 11): asks to be in a group's next generation.

Why each version exists:
0  one time-out serves for sessions and rebalances.
1  a rebalance time-out of its own (KIP-62).
2  throttle time (KIP-124).
3  the client waits out its throttling itself (KIP-219).
4  a member without an id is sent back with one (KIP-394).
5  static members (KIP-345).
6  flexible (KIP-482).
7  the protocol's type in the response (KIP-559).
8  the client's reason for joining (KIP-800).
9  a leader may be told to skip the assignment (KIP-814); ours never is.
"""

from typing import Final

from msgspec import Struct

from appliance.types import GroupName, MemberId
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import GroupProtocol, JoinedMember, JoinGroup, JoinGroupResult

_FIRST_THAT_REQUIRES_MEMBER_ID: Final = 4


class _Request(Struct, frozen=True, gc=False):
    """The request as it stands on the wire; rebalance time-out None where there is none."""

    group: GroupName
    session_timeout_ms: int
    rebalance_timeout_ms: int | None
    member_id: MemberId
    group_instance_id: str | None
    protocol_type: str
    protocols: tuple[GroupProtocol, ...]


def _request(asked: _Request, version: int) -> JoinGroup:
    rebalance_timeout_ms = asked.rebalance_timeout_ms
    return JoinGroup(
        group=asked.group,
        session_timeout_ms=asked.session_timeout_ms,
        rebalance_timeout_ms=(
            asked.session_timeout_ms if rebalance_timeout_ms is None else rebalance_timeout_ms
        ),
        member_id=asked.member_id,
        protocol_type=asked.protocol_type,
        protocols=asked.protocols,
        group_instance_id=asked.group_instance_id,
        requires_member_id=version >= _FIRST_THAT_REQUIRES_MEMBER_ID,
    )


_REQUEST: Final = row(
    Field("group", Scalar.STRING),
    Field("session_timeout_ms", Scalar.INT32),
    Field("rebalance_timeout_ms", Scalar.INT32, since=1, default=None),
    Field("member_id", Scalar.STRING),
    Field("group_instance_id", Scalar.STRING, since=5, nullable_from=5, default=None),
    Field("protocol_type", Scalar.STRING),
    Field(
        "protocols",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("metadata", Scalar.BYTES),
                into=GroupProtocol,
            )
        ),
    ),
    Field("reason", Scalar.STRING, since=8, nullable_from=8, bound=False),
    into=_Request,
)

_MEMBER: Final = row(
    Field("member_id", Scalar.STRING),
    Field("group_instance_id", Scalar.STRING, since=5, nullable_from=5),
    Field("metadata", Scalar.BYTES),
    into=JoinedMember,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32, since=2, default=0),
    Field("error", Scalar.INT16),
    Field("generation_id", Scalar.INT32),
    Field("protocol_type", Scalar.STRING, since=7, nullable_from=7),
    Field("protocol_name", Scalar.STRING, nullable_from=7),
    Field("leader", Scalar.STRING),
    Field("skip_assignment", Scalar.BOOL, since=9, bound=False, default=False),
    Field("member_id", Scalar.STRING),
    Field("members", Array(_MEMBER)),
    into=JoinGroupResult,
)

API: Final = Api(
    key=11,
    name="JoinGroup",
    lowest=0,
    highest=9,
    flexible_from=6,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
)
