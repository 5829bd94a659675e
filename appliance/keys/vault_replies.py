"""What Transit answers, as far as it is read, and what a key must be to be used.

Rules: replies are checked before anything of them is used; a wrap is text of one strict shape,
so what a data directory holds can become neither a path nor a parameter of another kind.
"""

import base64
import re
from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec

from appliance.errors import KeyGone, KeyProviderError, KeysRefused, WrongKey
from appliance.ports import DataKey, DomainStatus, KeyPlace, SecretKey, WrappedKey
from appliance.types import KeyDomainId

PROVIDER = "vault"
_WRAP = re.compile(rb"vault:v[1-9][0-9]{0,8}:[A-Za-z0-9+/]{16,2000}={0,2}\Z")
Value = TypeVar("Value")
_KEY_TYPES = frozenset({"aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305"})


class DataKeyReply(msgspec.Struct):
    """Of `datakey/plaintext`."""

    data: "_Item"

    def data_key(self) -> DataKey:
        """Raises ValueError when it is not a 256-bit key and a wrap."""
        return DataKey(self.data.secret(), self.data.wrap())


class DecryptReply(msgspec.Struct):
    """Of `decrypt`."""

    data: "_Item"


class BatchReply(msgspec.Struct):
    """Of `decrypt` or `rewrap` with a batch, in its order. Items' error texts are not read."""

    data: "_Batch"

    def secrets(self, count: int) -> list[SecretKey | None]:
        """`count` keys; None where there is none. Raises ValueError for another count."""
        return [_or_none(item.secret) for item in self.data.items(count)]

    def wraps(self, count: int) -> list[WrappedKey | None]:
        """`count` wraps; None where there is none. Raises ValueError for another count."""
        return [_or_none(item.wrap) for item in self.data.items(count)]


def _or_none(read: Callable[[], Value]) -> Value | None:
    """What one item of a batch holds; a bad one does not spoil the others."""
    try:
        return read()
    except ValueError:
        return None


class _Item(msgspec.Struct):
    ciphertext: str = ""
    plaintext: str = ""

    def secret(self) -> SecretKey:
        """Raises ValueError when it is not a 256-bit key."""
        return SecretKey(base64.b64decode(self.plaintext, validate=True))

    def wrap(self) -> WrappedKey:
        """Raises ValueError when it is not a wrap."""
        ciphertext = self.ciphertext.encode("ascii")
        if not _WRAP.match(ciphertext):
            raise ValueError("not a wrap")
        return WrappedKey(PROVIDER, ciphertext)


class _Batch(msgspec.Struct):
    batch_results: list[_Item]

    def items(self, count: int) -> list[_Item]:
        if len(self.batch_results) != count:
            raise ValueError("not an answer to that batch")
        return self.batch_results


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
    latest_version: int = 1
    min_decryption_version: int = 1

    @property
    def status(self) -> DomainStatus:
        """The key's versions."""
        return DomainStatus(self.latest_version, self.min_decryption_version)

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

    def explain(self, place: KeyPlace, version: int) -> KeyProviderError:
        """Why a wrap of some version does not open, which Vault itself is never believed about."""
        what = f"a wrapped key of partition {place.partition}"
        if version > self.latest_version:
            return WrongKey(
                f"{what} is of version {version}, and Vault has only {self.latest_version} of the "
                f"key of domain {place.domain}: this is another Vault, or one restored from an old "
                "backup"
            )
        if version < self.min_decryption_version:
            return KeysRefused(
                f"{what} is of version {version}, and Vault opens the key of domain {place.domain} "
                f"from version {self.min_decryption_version} on: have a custodian lower "
                "min_decryption_version, run `memorystreamer key rewrap`, and raise it again"
            )
        return WrongKey(
            f"{what} does not open here: it was changed, it belongs to another place, or this is "
            "another cluster's Vault"
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


def version_of(wrapped: WrappedKey) -> int:
    """The version of the key that a wrap was made under. Raises WrongKey for anything else."""
    return int(wrap_text(wrapped).split(":", 2)[1].removeprefix("v"))


class LookupReply(msgspec.Struct):
    """Of looking a wrapping token up: what path made it."""

    data: "_Lookup"


class _Lookup(msgspec.Struct):
    creation_path: str


class SecretIdReply(msgspec.Struct):
    """Of unwrapping an AppRole's secret id."""

    data: "_SecretId"


class _SecretId(msgspec.Struct):
    secret_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{8,256}$")]
