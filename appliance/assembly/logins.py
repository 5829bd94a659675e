"""Who may log in on a listener for logins: settings become mechanisms, and keys are kept fresh."""

from collections.abc import Callable
from typing import Final

import structlog
import trio
from msgspec import Struct

from appliance.authn.login import Exchange, Login
from appliance.authn.mechanisms import mechanisms
from appliance.authn.sasl_oauthbearer import BearerExchange, TokenRules, TokenVerifier
from appliance.authn.sasl_scram import Credentials
from appliance.authn.token_keys import HeldKeys, from_file, from_https
from appliance.config import LoginListenerSettings, OAuthSettings
from appliance.errors import ConfigurationError
from appliance.limits import KEY_SET_REFRESH_S
from appliance.ports import Clock, Entropy

_log: Final[structlog.typing.FilteringBoundLogger] = structlog.get_logger(__name__)


class Logins(Struct, frozen=True):
    """How a connection's login begins, and the issuer's keys where there are tokens."""

    begin: Callable[[], Login]
    keys: HeldKeys | None

    async def refresh(self) -> None:
        """Reads the issuer's keys again and again, until cancelled; a failure changes nothing."""
        while self.keys is not None:
            await trio.sleep(KEY_SET_REFRESH_S)
            try:
                await trio.to_thread.run_sync(self.keys.refresh)
            except ConfigurationError as error:
                _log.warning("the last known keys of the issuer stay in force", reason=str(error))


async def open_logins(
    settings: LoginListenerSettings, credentials: Credentials, clock: Clock, entropy: Entropy
) -> Logins:
    """Reads the issuer's keys and makes the mechanisms; raises ConfigurationError."""
    keys, bearer = None, None
    if settings.oauth is not None:
        keys = await trio.to_thread.run_sync(HeldKeys, _source(settings.oauth))
        bearer = _bearer(settings.oauth, keys, clock)
    begins = mechanisms(settings.mechanisms, credentials, entropy.random_bytes, bearer)

    def begin() -> Login:
        return Login(begins, now_ms=clock.now_ms, max_session_ms=settings.max_session_s * 1000)

    return Logins(begin, keys)


def _source(settings: OAuthSettings) -> Callable[[], bytes]:
    if settings.keys is not None:
        return from_file(settings.keys)
    if settings.keys_url is None or settings.keys_ca is None:
        raise ConfigurationError("login.oauth: there is no source of keys")
    return from_https(settings.keys_url, settings.keys_ca)


def _bearer(settings: OAuthSettings, keys: HeldKeys, clock: Clock) -> Callable[[], Exchange]:
    rules = TokenRules(
        settings.issuer, settings.audience, settings.algorithms, settings.principal_claim
    )
    verifier = TokenVerifier(rules, keys, clock.now_ms)
    return lambda: BearerExchange(verifier)
