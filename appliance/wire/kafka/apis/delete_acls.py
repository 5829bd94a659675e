"""DeleteAcls (key 31): removes access rules.

Why each version exists:
1  prefixed names (KIP-290).
2  flexible (KIP-482).
3  rules about users (KIP-373), of which there are none here.
"""

from typing import Final

from appliance.wire.kafka.apis.describe_acls import FILTER
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import Acl, DeleteAcls, DeleteAclsResult, DeletedAcls

_DELETED: Final = row(
    Field("error", Scalar.INT16, bound=False, default=0),
    Field("message", Scalar.STRING, nullable_from=0, bound=False, default=None),
    Field("kind", Scalar.INT8),
    Field("name", Scalar.STRING),
    Field("pattern", Scalar.INT8),
    Field("principal", Scalar.STRING),
    Field("host", Scalar.STRING),
    Field("operation", Scalar.INT8),
    Field("permission", Scalar.INT8),
    into=Acl,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field(
        "results",
        Array(
            row(
                Field("error", Scalar.INT16),
                Field("message", Scalar.STRING, nullable_from=0),
                Field("acls", Array(_DELETED)),
                into=DeletedAcls,
            )
        ),
    ),
    into=DeleteAclsResult,
)

API: Final = Api(
    key=31,
    name="DeleteAcls",
    lowest=1,
    highest=3,
    flexible_from=2,
    request=row(Field("filters", Array(FILTER)), into=DeleteAcls),
    response=_RESPONSE,
)
