"""SaslHandshake (key 17): begins a login by a mechanism.

Why each version exists:
1  the login's messages come as SaslAuthenticate (KIP-152). Version 0, after which they come without
   any frame of the protocol, is not served: no error could be told. It is advertised, because
   librdkafka 2.0 takes a broker without it for one without SASL.
"""

from typing import Final

from appliance.wire.kafka.schema import NEVER, Api, Array, Field, Scalar, row
from appliance.wire.requests import SaslHandshake, SaslHandshakeResult

_RESPONSE: Final = row(
    Field("error", Scalar.INT16),
    Field("mechanisms", Array(Scalar.STRING)),
    into=SaslHandshakeResult,
)

API: Final = Api(
    key=17,
    name="SaslHandshake",
    lowest=1,
    highest=1,
    flexible_from=NEVER,
    request=row(Field("mechanism", Scalar.STRING), into=SaslHandshake),
    response=_RESPONSE,
    advertised_from=0,
)
