"""SaslHandshake and SaslAuthenticate where nobody logs in by them.

A listener that asks for a login takes these messages itself, before anything reaches the broker.
What comes here came over a connection whose certificate has said who the peer is.
"""

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.errors import ErrorCode
from appliance.wire.requests import (
    SaslAuthenticate,
    SaslAuthenticateResult,
    SaslHandshake,
    SaslHandshakeResult,
)

_STATE = ErrorCode.ILLEGAL_SASL_STATE
_BY_CERTIFICATE = "who you are was settled by your certificate"


class SaslHandshakeHandler:
    """Answers as Kafka does on a listener without SASL."""

    request = SaslHandshake

    def refuse(self, _: SaslHandshake, code: ErrorCode) -> SaslHandshakeResult:
        """Says why not."""
        return SaslHandshakeResult(code)

    async def handle(self, _: Caller, __: Authorized[SaslHandshake]) -> SaslHandshakeResult:
        """There is no mechanism to choose."""
        return SaslHandshakeResult(_STATE)


class SaslAuthenticateHandler:
    """Answers as Kafka does on a listener without SASL."""

    request = SaslAuthenticate

    def refuse(self, _: SaslAuthenticate, code: ErrorCode) -> SaslAuthenticateResult:
        """Says why not."""
        return SaslAuthenticateResult(code)

    async def handle(self, _: Caller, __: Authorized[SaslAuthenticate]) -> SaslAuthenticateResult:
        """There is nothing to prove."""
        return SaslAuthenticateResult(_STATE, _BY_CERTIFICATE)
