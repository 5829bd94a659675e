"""ListGroups (key 16): the groups that there are.

Why each version exists:
0  groups and their protocol types.
1  throttle time (KIP-124).
2  the client waits out its throttling itself (KIP-219).
3  flexible (KIP-482).
4  states, told and filtered by (KIP-518).
5  types, told and filtered by (KIP-848).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import ListedGroup, ListGroups, ListGroupsResult

_GROUP: Final = row(
    Field("group", Scalar.STRING),
    Field("protocol_type", Scalar.STRING),
    Field("state", Scalar.STRING, since=4),
    Field("group_type", Scalar.STRING, since=5),
    into=ListedGroup,
)

API: Final = Api(
    key=16,
    name="ListGroups",
    lowest=0,
    highest=5,
    flexible_from=3,
    request=row(
        Field("states", Array(Scalar.STRING), since=4),
        Field("types", Array(Scalar.STRING), since=5),
        into=ListGroups,
    ),
    response=row(
        Field("throttle_time_ms", Scalar.INT32, since=1),
        Field("error", Scalar.INT16),
        Field("groups", Array(_GROUP)),
        into=ListGroupsResult,
    ),
)
