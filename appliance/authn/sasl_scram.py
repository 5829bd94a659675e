"""SCRAM-SHA-256 and SCRAM-SHA-512, the server's side (RFC 5802, RFC 7677).

Who does not exist is answered like who does: with a salt and iterations that are always the same
for the name, of a shape that users here have, as often as they have it, and with a failure at the
same step for the same reason. What the server keeps proves nothing elsewhere: from
StoredKey and ServerKey no password and no client's proof can be made.

Rules: comparisons are in constant time; a nonce is the server's own and fresh, so no exchange can
be played again; a peer may only be who it proves, never act for another; channel binding is not
offered.
"""

import hashlib
import hmac
import math
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from appliance.authn.login import Proven
from appliance.errors import AuthenticationFailed
from appliance.limits import MAX_PRINCIPAL_NAME_CHARACTERS, MAX_SCRAM_MESSAGE_BYTES
from appliance.types import Principal, PrincipalKind

SHA_256: Final = "SCRAM-SHA-256"
SHA_512: Final = "SCRAM-SHA-512"
DIGESTS: Final = {SHA_256: "sha256", SHA_512: "sha512"}

SCRAM_NUMBERS: Final = {SHA_256: 1, SHA_512: 2}
"""Kafka's numbers of them."""

MIN_ITERATIONS: Final = 4096
"""RFC 7677, section 4; also what is claimed for a name where no user exists at all."""

_SALT_BYTES: Final = 24
_MAX_SHAPES: Final = 16
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_PRINCIPAL_NAME_CHARACTERS - 1}}}")
_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,256}")
"""Printable ASCII without the comma (RFC 5802, section 5.1)."""
_FIRST = re.compile(
    r"(?P<header>(?:n|y),(?:a=(?P<authzid>[^,]*))?,)(?P<bare>n=(?P<name>[^,]*),r=(?P<nonce>[^,]*))"
)
"""client-first-message; extensions, of which 'm' must and others may be refused, are not known."""
_FINAL = re.compile(r"(?P<bare>c=(?P<header>[^,]*),r=(?P<nonce>[^,]*)),p=(?P<proof>[^,]*)")

WRONG: Final = "name or password is wrong"


class ScramCredential(msgspec.Struct, frozen=True):
    """What is kept of a password, for one mechanism."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        """Shows that there is a credential, never which."""
        return "ScramCredential(…)"


class Credentials(Protocol):
    """What is kept of users' passwords, as a login asks for it."""

    def find(self, user: str, mechanism: str) -> ScramCredential | None:
        """A user's credential for a mechanism, or None."""
        ...

    def shapes(self, mechanism: str) -> Mapping[tuple[int, int], int]:
        """How many credentials of a mechanism have each (iterations, bytes of salt)."""
        ...

    def decoy_secret(self) -> bytes:
        """From which the answers about users who do not exist are made; the whole cluster's."""
        ...


def is_user_name(name: str) -> bool:
    """Whether a user can have this name: the names that certificates can give, and no others."""
    return _NAME.fullmatch(name) is not None


def credential(
    mechanism: str, salted_password: bytes, *, salt: bytes, iterations: int
) -> ScramCredential:
    """What is kept of a password that was salted with `salt` in so many `iterations`."""
    digest = DIGESTS[mechanism]
    client_key = hmac.digest(salted_password, b"Client Key", digest)
    return ScramCredential(
        iterations,
        salt,
        hashlib.new(digest, client_key).digest(),
        hmac.digest(salted_password, b"Server Key", digest),
    )


class ScramExchange:
    """One login; `step` twice."""

    def __init__(
        self,
        mechanism: str,
        credentials: Credentials,
        new_nonce: Callable[[], str],
    ) -> None:
        """Begins with nothing known.

        Args:
            mechanism: one of `DIGESTS`.
            credentials: of the users that there are.
            new_nonce: gives text that nobody can guess or has seen before.
        """
        self._mechanism = mechanism
        self._digest = DIGESTS[mechanism]
        self._credentials = credentials
        self._new_nonce = new_nonce
        self._name = ""
        self._credential: ScramCredential | None = None
        self._known = False
        self._header = b""
        self._nonces: tuple[str, ...] = ()
        """What the last message may give: this exchange's nonce, or that with the client's own part
        before it once more, as librdkafka did until 2.6 and Kafka accepts. Both are fresh."""
        self._signed = ""
        """client-first-message-bare and server-first-message, as the proof covers them."""

    def step(self, message: bytes) -> tuple[bytes, Proven | None]:
        """See `Exchange.step`."""
        if len(message) > MAX_SCRAM_MESSAGE_BYTES:
            raise AuthenticationFailed("a message is too long")
        try:
            text = message.decode()
        except UnicodeDecodeError:
            raise AuthenticationFailed("a message is not UTF-8") from None
        if self._credential is None:
            return self._first(text), None
        return self._final(text, self._credential)

    def _first(self, text: str) -> bytes:
        """The salt, the iterations and the nonce.

        1. The message is well formed, asks for no channel binding and knows no extension.
        2. It acts for nobody but the name that it gives.
        3. The name's credential is found, or one is made up that nothing can prove.
        """
        found = _FIRST.fullmatch(text)  # 1
        if found is None or _NONCE.fullmatch(found["nonce"]) is None:
            raise AuthenticationFailed("the first message is malformed")
        if found["authzid"] not in {None, "", found["name"]}:  # 2
            raise AuthenticationFailed("a login that would act for another")
        self._name = _saslname(found["name"])
        decoy = self._made_up(self._name)  # 3, for everyone: its cost would tell
        held = None
        if is_user_name(self._name):
            held = self._credentials.find(self._name, self._mechanism)
        self._known = held is not None
        self._credential = kept = held or decoy
        self._header = found["header"].encode()
        nonce = found["nonce"] + self._new_nonce()
        self._nonces = (nonce, found["nonce"] + nonce)
        salt = b64encode(kept.salt).decode()
        reply = f"r={nonce},s={salt},i={kept.iterations}"
        self._signed = f"{found['bare']},{reply}"
        return reply.encode()

    def _made_up(self, name: str) -> ScramCredential:
        """The same for the same name, as a real one would be; its keys are of no password."""
        secret = self._credentials.decoy_secret()
        bound = f"{self._mechanism}\0{name}".encode()
        iterations, salt_bytes = self._shape(secret, bound)
        salt = hashlib.shake_256(hmac.digest(secret, b"salt" + bound, "sha512")).digest(salt_bytes)
        size = hashlib.new(self._digest).digest_size
        key = hmac.digest(secret, b"key" + bound, "sha512")[:size]
        return ScramCredential(iterations, salt, key, key)

    def _shape(self, secret: bytes, bound: bytes) -> tuple[int, int]:
        """One of the commonest shapes, each as likely as it is common.

        Weighted rendezvous: each shape draws a number from the name, and the least in proportion
        to its users wins. So another user more or less changes the choice of few names.
        """
        shapes = self._credentials.shapes(self._mechanism)
        common = sorted(shapes.items(), key=lambda each: (-each[1], each[0]))[:_MAX_SHAPES]
        drawn = [
            (-math.log(_fraction(secret, b"%d %d" % shape + bound)) / count, shape)
            for shape, count in common
        ]
        return min(drawn, default=(0.0, (MIN_ITERATIONS, _SALT_BYTES)))[1]

    def _final(self, text: str, kept: ScramCredential) -> tuple[bytes, Proven]:
        """The server's own proof, and who the peer is.

        1. The message is well formed, and its header and nonce are this exchange's.
        2. The proof turns into the key whose digest is kept.
        3. The name is one that exists; this is asked last, so that nothing tells it.
        """
        found = _FINAL.fullmatch(text)  # 1
        if found is None:
            raise AuthenticationFailed("the last message is malformed")
        if not hmac.compare_digest(_octets(found["header"]), self._header):
            raise AuthenticationFailed("the messages' headers differ")
        if found["nonce"] not in self._nonces:
            raise AuthenticationFailed("a nonce of another exchange")
        signed = f"{self._signed},{found['bare']}".encode()
        signature = hmac.digest(kept.stored_key, signed, self._digest)  # 2
        proof = _octets(found["proof"])
        if len(proof) != len(signature):
            raise AuthenticationFailed(WRONG)
        client_key = bytes(one ^ other for one, other in zip(proof, signature, strict=True))
        digest = hashlib.new(self._digest, client_key).digest()
        proven = hmac.compare_digest(digest, kept.stored_key)
        if not (proven and self._known):  # 3
            raise AuthenticationFailed(WRONG)
        verifier = hmac.digest(kept.server_key, signed, self._digest)
        principal = Principal(PrincipalKind.USER, self._name)
        return b"v=" + b64encode(verifier), Proven(principal)


def _fraction(secret: bytes, text: bytes) -> float:
    """Above 0 and below 1, evenly drawn."""
    drawn = hmac.digest(secret, b"shape" + text, "sha256")
    return (int.from_bytes(drawn[:6]) + 0.5) / (1 << 48)


def _saslname(text: str) -> str:
    """A name with its commas and equals signs put back (RFC 5802, section 5.1)."""
    if re.search(r"=(?!2C|3D)", text) is not None:
        raise AuthenticationFailed("the name is malformed")
    return text.replace("=2C", ",").replace("=3D", "=")


def _octets(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise AuthenticationFailed("a field is not base64") from None
