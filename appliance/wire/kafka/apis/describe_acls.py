"""DescribeAcls (key 29): which access rules there are.

Why each version exists:
1  prefixed names (KIP-290).
2  flexible (KIP-482).
3  rules about users (KIP-373), of which there are none here.
"""

from typing import Final

from msgspec import Struct

from appliance.errors import ErrorCode
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request, to_wire
from appliance.wire.requests import AclFilter, DescribeAcls, DescribeAclsResult

FILTER: Final = row(
    Field("kind", Scalar.INT8),
    Field("name", Scalar.STRING, nullable_from=0),
    Field("pattern", Scalar.INT8),
    Field("principal", Scalar.STRING, nullable_from=0),
    Field("host", Scalar.STRING, nullable_from=0),
    Field("operation", Scalar.INT8),
    Field("permission", Scalar.INT8),
    into=AclFilter,
)
"""DeleteAcls has a list of these."""

_Rule = tuple[str, str, int, int]


class _Resource(Struct, frozen=True, gc=False):
    """The rules of one resource, as they are grouped on the wire."""

    kind: int
    name: str
    pattern: int
    acls: tuple[_Rule, ...]


class _Told(Struct, frozen=True, gc=False):
    """The response as it stands on the wire."""

    throttle_time_ms: int
    error: ErrorCode
    message: str | None
    resources: tuple[_Resource, ...]


def _request(asked: AclFilter, _: int) -> DescribeAcls:
    return DescribeAcls(asked)


def _response(_: DescribeAcls, response: DescribeAclsResult, __: int) -> _Told:
    grouped: dict[tuple[int, str, int], list[_Rule]] = {}
    for acl in response.acls:
        rule = (acl.principal, acl.host, acl.operation, acl.permission)
        grouped.setdefault((acl.kind, acl.name, acl.pattern), []).append(rule)
    resources = tuple(_Resource(*key, tuple(rules)) for key, rules in grouped.items())
    return _Told(response.throttle_time_ms, response.error, response.message, resources)


_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=0),
    Field(
        "resources",
        Array(
            row(
                Field("kind", Scalar.INT8),
                Field("name", Scalar.STRING),
                Field("pattern", Scalar.INT8),
                Field(
                    "acls",
                    Array(
                        row(
                            Field("principal", Scalar.STRING),
                            Field("host", Scalar.STRING),
                            Field("operation", Scalar.INT8),
                            Field("permission", Scalar.INT8),
                        )
                    ),
                ),
                into=_Resource,
            )
        ),
    ),
    into=_Told,
)

API: Final = Api(
    key=29,
    name="DescribeAcls",
    lowest=1,
    highest=3,
    flexible_from=2,
    request=FILTER,
    response=_RESPONSE,
    to_request=to_request(_request),
    to_wire=to_wire(_response),
)
