"""SaslAuthenticate (key 36): the next message of a login.

Why each version exists:
0  the API itself (KIP-152).
1  how long the session may last (KIP-368).
2  flexible (KIP-482).
"""

from typing import Final

from appliance.limits import MAX_FRAME_BYTES_UNAUTHENTICATED
from appliance.wire.kafka.schema import Api, Field, Scalar, row
from appliance.wire.requests import SaslAuthenticate, SaslAuthenticateResult

_RESPONSE: Final = row(
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=0),
    Field("auth_bytes", Scalar.BYTES),
    Field("session_lifetime_ms", Scalar.INT64, since=1),
    into=SaslAuthenticateResult,
)

API: Final = Api(
    key=36,
    name="SaslAuthenticate",
    lowest=0,
    highest=2,
    flexible_from=2,
    request=row(Field("auth_bytes", Scalar.BYTES), into=SaslAuthenticate),
    response=_RESPONSE,
    max_request_bytes=MAX_FRAME_BYTES_UNAUTHENTICATED,
)
