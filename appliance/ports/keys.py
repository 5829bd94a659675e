"""Where data keys come from, and what they look like on their way (DESIGN section 6)."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from appliance.errors import KeyProviderError, KeyWiped
from appliance.types import (
    Buffer,
    ClusterId,
    KeyDomainId,
    PartitionId,
)


class KeyPlace(msgspec.Struct, frozen=True):
    """What one data key is for; a wrap opens only at its own place (DESIGN section 6)."""

    cluster: ClusterId
    partition: PartitionId
    domain: KeyDomainId
    epoch: int
    format: int


class WrappedKey(msgspec.Struct, frozen=True):
    """A data key as the provider wrapped it: opaque, safe to store, bounded to 4 KiB."""

    provider: str
    ciphertext: bytes


class SecretKey:
    """32 bytes of key material whose repr, str and pickle never show them.

    The material is overwritten when it is told to be, and when the last reference goes. A key that
    was wiped is refused to whoever comes late: nothing is ever sealed under 32 zeros.
    """

    __slots__ = ("_material", "_wiped")

    def __init__(self, material: Buffer) -> None:
        """Takes a copy of exactly 32 bytes; raises ValueError otherwise."""
        if len(material) != 32:
            raise ValueError("a key has 32 bytes")
        self._material = bytearray(material)
        self._wiped = False

    def reveal(self) -> bytearray:
        """The material itself, to be handed to a cipher or a derivation and nowhere else.

        Raises KeyWiped after `wipe`.
        """
        if self._wiped:
            raise KeyWiped("the key was wiped: what it opens is closed")
        return self._material

    def wipe(self) -> None:
        """Overwrites the material; the key is of no use after this."""
        self._wiped = True
        self._material[:] = bytes(32)

    def __del__(self) -> None:
        """Overwrites the material before its memory is given back."""
        material = getattr(self, "_material", None)
        if material is not None:
            material[:] = bytes(32)

    def __repr__(self) -> str:
        """Shows that there is a key, never which."""
        return "SecretKey(…)"

    def __reduce__(self) -> str:
        """Refuses to be pickled or copied."""
        raise TypeError("a SecretKey does not leave its process")


class DataKey(msgspec.Struct, frozen=True):
    """A fresh data key and its wrap."""

    secret: SecretKey
    wrapped: WrappedKey


class WrapAt(msgspec.Struct, frozen=True):
    """A wrap and the place that it was made for."""

    place: KeyPlace
    wrapped: WrappedKey


class DomainStatus(msgspec.Struct, frozen=True):
    """A domain's key: wraps are made under its newest version, and opened from the oldest on."""

    newest_version: int
    oldest_version: int


class DomainStanding(msgspec.Struct, frozen=True):
    """How a node stands with one key domain that it holds; a lease of 0 s has ended."""

    domain: KeyDomainId
    lease_left_s: float
    spares: int


class KeyHealth(msgspec.Struct, frozen=True):
    """Whether the provider serves now, and if not, what an operator should do, without secrets.

    An alarm is a failure that means that somebody else may hold what was meant for this node.
    """

    serving: bool
    advice: str = ""
    alarm: bool = False


class KeyProvider(Protocol):
    """Where data keys come from: Vault's Transit, OpenBao's, or a local keystore.

    Raises KeysUnavailable (try again), KeysRefused (a custodian must act); never a library's error.
    """

    async def create_domain(self, domain: KeyDomainId) -> None:
        """Makes the key of a domain if it is not there.

        Refuses one that is exportable or not derived.
        """
        ...

    async def new_data_key(self, place: KeyPlace) -> DataKey:
        """A fresh 256-bit key, wrapped for this place."""
        ...

    async def unwrap(self, place: KeyPlace, wrapped: WrappedKey) -> SecretKey:
        """The key in a wrap made for this very place."""
        ...

    async def unwrap_all(self, wraps: Sequence[WrapAt]) -> list[SecretKey | KeyProviderError]:
        """The keys in many wraps, in order; one that does not open is an error among the others.

        Raises KeysUnavailable, KeysRefused when the provider answers for none.
        """
        ...

    async def rewrap_all(self, wraps: Sequence[WrapAt]) -> list[WrappedKey | KeyProviderError]:
        """The same keys, wrapped under the newest version of their domain's key; as `unwrap_all`.

        Who keeps a new wrap opens it and compares the commitment first.
        """
        ...

    async def status(self, domain: KeyDomainId) -> DomainStatus:
        """The versions of a domain's key, asked of the provider now. Raises KeyGone."""
        ...

    def epoch(self, domain: KeyDomainId) -> int:
        """The key epoch that new data keys of a domain belong to, as last heard; makes no call."""
        ...

    def version_of(self, wrapped: WrappedKey) -> int:
        """The version of the key that a wrap was made under. Raises WrongKey."""
        ...

    def lease_left_s(self, domain: KeyDomainId) -> float | None:
        """Seconds that this node can go on without the provider; None where it needs no lease."""
        ...

    @property
    def lease_s(self) -> float:
        """For how long keys that are held are used after the provider was last heard; 0 for none.

        It is the same on all nodes of a cluster.
        """
        ...

    def forget(self, domain: KeyDomainId) -> None:
        """Wipes every key of a domain that is held, spares included."""
        ...

    async def health(self) -> KeyHealth:
        """Whether keys can be made and unwrapped now."""
        ...


class KeyCustodian(Protocol):
    """What a key-custodian's own, short-lived token may do, and a node's login never."""

    async def status(self, domain: KeyDomainId) -> DomainStatus:
        """The versions of a domain's key. Raises KeyGone."""
        ...

    async def rotate(self, domain: KeyDomainId) -> DomainStatus:
        """Gives a domain's key a new version, which new wraps are made under."""
        ...

    async def retire(self, domain: KeyDomainId, oldest_version: int) -> DomainStatus:
        """Has wraps of versions before `oldest_version` refused from here on."""
        ...

    async def destroy(self, domain: KeyDomainId) -> None:
        """Deletes a domain's key for good; returns when reading it says that it is gone."""
        ...


class Signer(Protocol):
    """What signs statements in this node's name."""

    async def sign(self, statement: str) -> str:
        """The signed document (`crypto.statement`). Raises RequestError when it cannot be."""
        ...
