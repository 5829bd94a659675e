"""The keys of a token's issuer: a JWK set from a file or over HTTPS, the last good one kept.

Rules: what cannot be read changes nothing: the set that was in force stays. Only public keys are
taken; a set that holds a secret one is refused whole, as it should never have left its owner.
"""

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

import jwt

from appliance.errors import ConfigurationError
from appliance.limits import MAX_KEY_SET_BYTES, MAX_KEY_SET_FETCH_S, MAX_KEY_SET_KEYS

_SECRET: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "k", "oth"})
"""Members of a JWK that only its owner knows (RFC 7518, section 6)."""


class HeldKeys:
    """The set in force."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        """Reads the set for the first time; raises ConfigurationError if there is none."""
        self._read = read
        self._keys = _parsed(read())

    def refresh(self) -> None:
        """Reads the set again; raises ConfigurationError, and the old one stays."""
        self._keys = _parsed(self._read())

    def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key of an id; without one, the only key there is."""
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)


def from_file(path: Path) -> Callable[[], bytes]:
    """Reads the set from a file."""

    def read() -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(MAX_KEY_SET_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None

    return read


def from_https(url: str, ca: Path) -> Callable[[], bytes]:
    """Reads the set over HTTPS, whose certificate `ca` vouches for; redirects are not followed."""
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    opener = build_opener(HTTPSHandler(context=context), _NoRedirect())

    def read() -> bytes:
        if not url.startswith("https://"):
            raise ConfigurationError("login.oauth.keys_url: begins with https://")
        try:
            with opener.open(Request(url), timeout=MAX_KEY_SET_FETCH_S) as answer:  # noqa: S310 - https, checked above
                return bytes(answer.read(MAX_KEY_SET_BYTES + 1))
        except (URLError, OSError, ValueError):
            raise ConfigurationError("login.oauth.keys_url: no keys could be fetched") from None

    return read


class _NoRedirect(HTTPRedirectHandler):
    """Answers that point elsewhere are no answers."""

    def redirect_request(self, *_: object) -> None:
        """Follows nothing."""
        return


def _parsed(text: bytes) -> dict[str, jwt.PyJWK]:
    if len(text) > MAX_KEY_SET_BYTES:
        raise ConfigurationError(f"a set of keys has at most {MAX_KEY_SET_BYTES} bytes")
    try:
        rows = json.loads(text)["keys"]
        if not isinstance(rows, list) or not 0 < len(rows) <= MAX_KEY_SET_KEYS:
            raise ConfigurationError(f"a set holds 1 to {MAX_KEY_SET_KEYS} keys")
        if any(_SECRET.intersection(row) for row in rows):
            raise ConfigurationError("the set of keys holds a secret key: it must be made anew")
        keys = {row.get("kid") or str(place): jwt.PyJWK(row) for place, row in enumerate(rows)}
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ConfigurationError("the set of keys cannot be read as a JWK set") from None
    if len(keys) != len(rows):
        raise ConfigurationError("two keys of the set have one id")
    return keys
