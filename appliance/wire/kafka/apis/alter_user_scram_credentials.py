"""AlterUserScramCredentials (key 51): sets and removes credentials (KIP-554).

Why each version exists:
0  the API itself. librdkafka ends it with one section of tagged fields too many.
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    AlteredScramUser,
    AlterUserScramCredentials,
    AlterUserScramCredentialsResult,
    ScramDeletion,
    ScramUpsertion,
)

_DELETION: Final = row(
    Field("name", Scalar.STRING),
    Field("mechanism", Scalar.INT8),
    into=ScramDeletion,
)

_UPSERTION: Final = row(
    Field("name", Scalar.STRING),
    Field("mechanism", Scalar.INT8),
    Field("iterations", Scalar.INT32),
    Field("salt", Scalar.BYTES),
    Field("salted_password", Scalar.BYTES),
    into=ScramUpsertion,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field(
        "users",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("error", Scalar.INT16),
                Field("message", Scalar.STRING, nullable_from=0),
                into=AlteredScramUser,
            )
        ),
    ),
    into=AlterUserScramCredentialsResult,
)

API: Final = Api(
    key=51,
    name="AlterUserScramCredentials",
    lowest=0,
    highest=0,
    flexible_from=0,
    request=row(
        Field("deletions", Array(_DELETION)),
        Field("upsertions", Array(_UPSERTION)),
        into=AlterUserScramCredentials,
    ),
    response=_RESPONSE,
    spare_bytes=1,
)
