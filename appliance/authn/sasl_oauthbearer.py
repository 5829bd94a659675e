"""OAUTHBEARER: a signed token says who the peer is (RFC 7628, KIP-255, KIP-768).

Fails closed: without an issuer, an audience, algorithms and keys there is no such mechanism, and a
token that lacks one claim is none. Signatures and claims are judged by PyJWT, with algorithms from
our configuration only, never from the token's header.

Rules: nothing of a token reaches a log or an error. A token without an end is refused.
"""

import re
from collections.abc import Callable
from typing import Final, Protocol

import jwt
import msgspec

from appliance.authn.login import Proven
from appliance.errors import AuthenticationFailed, ConfigurationError
from appliance.limits import MAX_PRINCIPAL_NAME_CHARACTERS, MAX_TOKEN_BYTES
from appliance.types import Principal, PrincipalKind

MECHANISM: Final = "OAUTHBEARER"
ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Signatures by a key pair; a shared secret would let each holder make tokens."""

LEEWAY_S: Final = 30
"""Clocks of issuer and node may differ so much."""

_SEPARATOR: Final = "\x01"
_MESSAGE = re.compile(
    rf"(?:n|y),(?:a=(?P<authzid>[^,]*))?,{_SEPARATOR}auth=Bearer (?P<token>[A-Za-z0-9._~+/=-]+)"
    rf"{_SEPARATOR}(?:(?P<extensions>[A-Za-z]+=[^{_SEPARATOR}]*(?:{_SEPARATOR}[A-Za-z]+=[^{_SEPARATOR}]*)*)"
    rf"{_SEPARATOR})?{_SEPARATOR}"
)
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_PRINCIPAL_NAME_CHARACTERS - 1}}}")
_REFUSED: Final = b'{"status":"invalid_token"}'
"""RFC 7628, section 3.2.2: the client acknowledges with one byte, and the login has failed."""


class TokenKeys(Protocol):
    """The issuer's keys, as they were last known."""

    def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key of an id; without one, the only key there is."""
        ...


class TokenRules(msgspec.Struct, frozen=True):
    """What a token must say; all of it is given, or there is no OAUTHBEARER."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    principal_claim: str = "sub"

    def __post_init__(self) -> None:
        """Refuses rules that would let anything in."""
        if not self.issuer or not self.audience or not self.principal_claim:
            raise ConfigurationError("login.oauth: issuer, audience and claim are all needed")
        if not self.algorithms or not ALGORITHMS.issuperset(self.algorithms):
            raise ConfigurationError(
                f"login.oauth.algorithms: some of {', '.join(sorted(ALGORITHMS))}"
            )


class TokenVerifier:
    """Judges tokens by rules and keys."""

    def __init__(self, rules: TokenRules, keys: TokenKeys, now_ms: Callable[[], int]) -> None:
        self._rules = rules
        self._keys = keys
        self._now_ms = now_ms

    def verify(self, token: str) -> Proven:
        """Who a token is about, and until when.

        1. It is short, and signed by an algorithm that is allowed.
        2. The issuer has the key, and its signature holds.
        3. Issuer and audience are the configured ones; it has begun, and not ended.
        4. The principal's claim is a name.

        Raises AuthenticationFailed.
        """
        if len(token) > MAX_TOKEN_BYTES:  # 1
            raise AuthenticationFailed("the token is too long")
        rules = self._rules
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in rules.algorithms:
                raise AuthenticationFailed("the token's algorithm is not allowed")
            key_id = header.get("kid")
            key = self._keys.find(key_id if isinstance(key_id, str) else None)
            if key is None:
                raise AuthenticationFailed("the token's key is not the issuer's")
            claims = jwt.decode(  # 2, 3
                token,
                key,
                algorithms=list(rules.algorithms),
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", rules.principal_claim]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            raise AuthenticationFailed("the token is not valid") from None
        return self._proven(claims)

    def _proven(self, claims: dict[str, object]) -> Proven:
        name, ends_s = claims.get(self._rules.principal_claim), claims.get("exp")
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:  # 4
            raise AuthenticationFailed("the token names no user")
        if not isinstance(ends_s, (int, float)) or ends_s * 1000 <= self._now_ms():
            raise AuthenticationFailed("the token has ended")
        return Proven(Principal(PrincipalKind.USER, name), int(ends_s * 1000))


class BearerExchange:
    """One login: the token, or the token and the acknowledgement of its refusal."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier
        self._refused: str | None = None

    def step(self, message: bytes) -> tuple[bytes, Proven | None]:
        """See `Exchange.step`."""
        if self._refused is not None:
            raise AuthenticationFailed(self._refused)
        try:
            return b"", self._proven(message)
        except AuthenticationFailed as error:
            self._refused = str(error)
            return _REFUSED, None

    def _proven(self, message: bytes) -> Proven:
        try:
            found = _MESSAGE.fullmatch(message.decode())
        except UnicodeDecodeError:
            found = None
        if found is None:
            raise AuthenticationFailed("the message is malformed")
        proven = self._verifier.verify(found["token"])
        if found["authzid"] not in {None, "", proven.principal.name}:
            raise AuthenticationFailed("a login that would act for another")
        return proven
