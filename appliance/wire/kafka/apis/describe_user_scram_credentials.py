"""DescribeUserScramCredentials (key 50): which users have which kinds of credentials (KIP-554).

Why each version exists:
0  the API itself.
"""

from typing import Final

from msgspec import Struct

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import (
    DescribeUserScramCredentials,
    DescribeUserScramCredentialsResult,
    ScramInfo,
    ScramUser,
)


class _Asked(Struct, frozen=True, gc=False):
    """The request as it stands on the wire: each user is a row of its own."""

    users: tuple[tuple[str], ...] | None


def _request(asked: _Asked, _: int) -> DescribeUserScramCredentials:
    users = None if asked.users is None else tuple(name for (name,) in asked.users)
    return DescribeUserScramCredentials(users)


_INFO: Final = row(
    Field("mechanism", Scalar.INT8),
    Field("iterations", Scalar.INT32),
    into=ScramInfo,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=0),
    Field(
        "users",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("error", Scalar.INT16),
                Field("message", Scalar.STRING, nullable_from=0),
                Field("credentials", Array(_INFO)),
                into=ScramUser,
            )
        ),
    ),
    into=DescribeUserScramCredentialsResult,
)

API: Final = Api(
    key=50,
    name="DescribeUserScramCredentials",
    lowest=0,
    highest=0,
    flexible_from=0,
    request=row(
        Field("users", Array(row(Field("name", Scalar.STRING))), nullable_from=0), into=_Asked
    ),
    response=_RESPONSE,
    to_request=to_request(_request),
)
