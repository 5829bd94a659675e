"""DeleteGroups (key 42): deletes groups without members.

Why each version exists:
0  the API itself (KIP-229).
1  the client waits out its throttling itself (KIP-219).
2  flexible (KIP-482).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import DeletedGroup, DeleteGroups, DeleteGroupsResult

_GROUP: Final = row(
    Field("group", Scalar.STRING),
    Field("error", Scalar.INT16),
    into=DeletedGroup,
)

API: Final = Api(
    key=42,
    name="DeleteGroups",
    lowest=0,
    highest=2,
    flexible_from=2,
    request=row(Field("groups", Array(Scalar.STRING)), into=DeleteGroups),
    response=row(
        Field("throttle_time_ms", Scalar.INT32),
        Field("groups", Array(_GROUP)),
        into=DeleteGroupsResult,
    ),
)
