"""What Transit answers, as far as it is read, and what a key must be to be used.

Rules: replies are checked before anything of them is used; a wrap is text of one strict shape,
so what a data directory holds can become neither a path nor a parameter of another kind.
"""

import base64
import re

import msgspec

from appliance.errors import KeyGone, KeysRefused, WrongKey
from appliance.ports import DataKey, SecretKey, WrappedKey
from appliance.types import KeyDomainId

PROVIDER = "vault"
_WRAP = re.compile(rb"vault:v[1-9][0-9]{0,8}:[A-Za-z0-9+/]{16,2000}={0,2}\Z")
_KEY_TYPES = frozenset({"aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"})


class _DataKey(msgspec.Struct):
    ciphertext: str
    plaintext: str


class DataKeyReply(msgspec.Struct):
    """Of `datakey/plaintext`."""

    data: _DataKey

    def data_key(self) -> DataKey:
        """Raises ValueError when it is not a 256-bit key and a wrap."""
        ciphertext = self.data.ciphertext.encode("ascii")
        if not _WRAP.match(ciphertext):
            raise ValueError("not a wrap")
        return DataKey(_secret(self.data.plaintext), WrappedKey(PROVIDER, ciphertext))


class _Plaintext(msgspec.Struct):
    plaintext: str


class DecryptReply(msgspec.Struct):
    """Of `decrypt`."""

    data: _Plaintext

    def secret(self) -> SecretKey:
        """Raises ValueError when it is not a 256-bit key."""
        return _secret(self.data.plaintext)


class KeyReply(msgspec.Struct):
    """Of reading a key: how it may be used. A setting that is not named counts as the bad one."""

    data: "KeyState"


class KeyState(msgspec.Struct):
    """The settings of a Transit key that matter here."""

    type: str = ""
    derived: bool = False
    exportable: bool = True
    allow_plaintext_backup: bool = True
    soft_deleted: bool = False

    def check(self, domain: KeyDomainId) -> None:
        """Raises KeyGone or KeysRefused unless data keys may rest on this key."""
        if self.soft_deleted:
            raise KeyGone(f"the key of domain {domain} is deleted in Vault")
        wrong = [
            complaint
            for complaint, holds in (
                ("it is not derived", not self.derived),
                ("it is exportable", self.exportable),
                ("it allows plaintext backup", self.allow_plaintext_backup),
                (f"its type is {self.type[:32]!r}", self.type not in _KEY_TYPES),
            )
            if holds
        ]
        if wrong:
            raise KeysRefused(
                f"the key of domain {domain} cannot be used, because {', '.join(wrong)}: have a "
                "custodian replace it"
            )


class LoginReply(msgspec.Struct):
    """Of a login, or of a token's renewal."""

    auth: "TokenState"


class TokenState(msgspec.Struct):
    """How long a token lasts."""

    lease_duration: int
    renewable: bool


def wrap_text(wrapped: WrappedKey) -> str:
    """A wrap as Transit takes it. Raises WrongKey for anything else."""
    if wrapped.provider != PROVIDER:
        raise WrongKey("this key was wrapped by another kind of key provider")
    if not _WRAP.match(wrapped.ciphertext):
        raise WrongKey("this is not a key that Vault wrapped")
    return wrapped.ciphertext.decode("ascii")


def _secret(plaintext: str) -> SecretKey:
    return SecretKey(base64.b64decode(plaintext, validate=True))
