"""A keystore sealed by a passphrase, for one air-gapped node without Vault.

    passphrase --Argon2id, salt--> key encryption key --seals--> domain keys (in the file)
    domain key --seals, with the place--> data keys (their wraps, wherever the caller keeps them)

Rules:
- a commitment, derived from the key encryption key, tells a wrong passphrase from a damaged file;
- a wrap opens at its place only, because the place is part of the key that seals it;
- Argon2's parameters are read from the file and bounded before Argon2 gets them;
- the file is replaced atomically; losing it, or the passphrase, loses every key.

A passphrase that a person can remember is weaker than Vault. Argon2id with the second choice of
RFC 9106, section 4 (64 MiB, 3 passes, 4 lanes) makes guessing slow, not impossible. And who has the
file and the passphrase has the keys for ever: nothing here can be revoked.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import msgspec
import trio
from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.constant_time import bytes_eq

from appliance.errors import (
    ConfigurationError,
    KeyGone,
    KeyProviderError,
    KeysRefused,
    WrongKey,
)
from appliance.keys import place as places
from appliance.keys import sealing
from appliance.keys.keystore_file import KeystoreFile, PathKeystoreFile
from appliance.ports import (
    DataKey,
    DomainStatus,
    KeyHealth,
    KeyPlace,
    SecretKey,
    WrapAt,
    WrappedKey,
)
from appliance.types import KeyDomainId

PROVIDER = "local"
SALT_BYTES = 16
_COMMITMENT_LABEL = b"memorystreamer keystore commitment 1\x00"
_DOMAIN_LABEL = b"memorystreamer keystore domain 1\x00"

RandomBytes = Callable[[int], bytes]
Sealed = Annotated[bytes, msgspec.Meta(min_length=sealing.SEALED_BYTES)]


class Argon2Parameters(msgspec.Struct, frozen=True):
    """What a passphrase becomes a key with; the bounds are what a hostile file may ask for."""

    salt: Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
    passes: Annotated[int, msgspec.Meta(ge=1, le=16)] = 3
    memory_kib: Annotated[int, msgspec.Meta(ge=19 * 1024, le=1024 * 1024)] = 64 * 1024
    lanes: Annotated[int, msgspec.Meta(ge=1, le=16)] = 4


class Contents(msgspec.Struct, frozen=True):
    """The file: JSON, byte strings in Base64."""

    argon2id: Argon2Parameters
    commitment: bytes
    domains: dict[UUID, Sealed] = {}
    version: Literal[1] = 1


class LocalKeystore:
    """A `ports.KeyProvider` whose keys are in one file under one passphrase."""

    def __init__(
        self, file: KeystoreFile, contents: Contents, key: SecretKey, random_bytes: RandomBytes
    ) -> None:
        """Use `create` or `open`."""
        self._file = file
        self._contents = contents
        self._key = key
        self._random_bytes = random_bytes
        self._writing = trio.Lock()
        self._domains: dict[KeyDomainId, SecretKey] = {}

    @classmethod
    def create(
        cls,
        file: Path | KeystoreFile,
        passphrase: bytes,
        *,
        random_bytes: RandomBytes = os.urandom,
    ) -> "LocalKeystore":
        """Makes an empty keystore; takes a tenth of a second or more, so call it in a thread.

        Raises ConfigurationError when one is there, or the passphrase is empty.
        """
        if not passphrase:
            raise ConfigurationError("the passphrase of a keystore must not be empty")
        kept = PathKeystoreFile(file) if isinstance(file, Path) else file
        parameters = Argon2Parameters(salt=random_bytes(SALT_BYTES))
        key = _stretched(passphrase, parameters)
        contents = Contents(parameters, _commitment(key))
        kept.create(_encoded(contents))
        return cls(kept, contents, key, random_bytes)

    @classmethod
    def open(
        cls,
        file: Path | KeystoreFile,
        passphrase: bytes,
        *,
        random_bytes: RandomBytes = os.urandom,
    ) -> "LocalKeystore":
        """Opens a keystore; as slow as `create`.

        Raises ConfigurationError, which tells a wrong passphrase from an unusable file.
        """
        kept = PathKeystoreFile(file) if isinstance(file, Path) else file
        contents = _decoded(kept)
        key = _stretched(passphrase, contents.argon2id)
        if not bytes_eq(_commitment(key), contents.commitment):
            raise ConfigurationError(f"wrong passphrase for keystore {kept}")
        return cls(kept, contents, key, random_bytes)

    async def create_domain(self, domain: KeyDomainId) -> None:
        """See `ports.KeyProvider`; the new key is durable when this returns."""
        async with self._writing:
            if domain in self._contents.domains:
                return
            fresh = SecretKey(self._random_bytes(32))
            sealed = sealing.seal(
                self._key, _DOMAIN_LABEL + domain.bytes, fresh, self._random_bytes
            )
            changed = msgspec.structs.replace(
                self._contents, domains={**self._contents.domains, domain: sealed}
            )
            await trio.to_thread.run_sync(self._file.replace, _encoded(changed))
            self._contents = changed
            self._domains[domain] = fresh

    async def new_data_key(self, place: KeyPlace) -> DataKey:
        """See `ports.KeyProvider`. Raises KeyGone when the domain has no key."""
        await trio.lowlevel.checkpoint()
        fresh = SecretKey(self._random_bytes(32))
        sealed = sealing.seal(
            self._domain(place.domain), places.encoded(place), fresh, self._random_bytes
        )
        return DataKey(fresh, WrappedKey(PROVIDER, sealed))

    async def unwrap(self, place: KeyPlace, wrapped: WrappedKey) -> SecretKey:
        """See `ports.KeyProvider`. Raises KeyGone, and WrongKey at another place."""
        await trio.lowlevel.checkpoint()
        if wrapped.provider != PROVIDER:
            raise WrongKey("this key was wrapped by another kind of key provider")
        domain_key = self._domain(place.domain)
        opened = sealing.unseal(domain_key, places.encoded(place), wrapped.ciphertext)
        if opened is None:
            raise WrongKey(f"a wrapped key of partition {place.partition} does not open here")
        return opened

    async def unwrap_all(self, wraps: Sequence[WrapAt]) -> list[SecretKey | KeyProviderError]:
        """See `ports.KeyProvider`."""
        outcomes: list[SecretKey | KeyProviderError] = []
        for wrap in wraps:
            try:
                outcomes.append(await self.unwrap(wrap.place, wrap.wrapped))
            except KeyProviderError as error:
                outcomes.append(error)
        return outcomes

    async def rewrap_all(self, wraps: Sequence[WrapAt]) -> list[WrappedKey | KeyProviderError]:
        """Refused: a domain's key has one version here."""
        await trio.lowlevel.checkpoint()
        raise KeysRefused(
            "a local keystore has one version of each key, so there is nothing to re-wrap under: "
            "use Vault or OpenBao to rotate keys"
        )

    async def status(self, domain: KeyDomainId) -> DomainStatus:
        """See `ports.KeyProvider`: always the first version."""
        await trio.lowlevel.checkpoint()
        self._domain(domain)
        return DomainStatus(1, 1)

    def epoch(self, domain: KeyDomainId) -> int:
        """See `ports.KeyProvider`."""
        return 1

    def version_of(self, wrapped: WrappedKey) -> int:
        """See `ports.KeyProvider`."""
        return 1

    def lease_left_s(self, domain: KeyDomainId) -> float | None:
        """See `ports.KeyProvider`: nothing is held here."""
        return None

    @property
    def lease_s(self) -> float:
        """See `ports.KeyProvider`: nothing is held here."""
        return 0.0

    def forget(self, domain: KeyDomainId) -> None:
        """See `ports.KeyProvider`; the file and the passphrase still open it."""
        held = self._domains.pop(domain, None)
        if held is not None:
            held.wipe()

    async def health(self) -> KeyHealth:
        """An open keystore serves."""
        await trio.lowlevel.checkpoint()
        return KeyHealth(serving=True)

    def _domain(self, domain: KeyDomainId) -> SecretKey:
        held = self._domains.get(domain)
        if held is not None:
            return held
        sealed = self._contents.domains.get(domain)
        if sealed is None:
            raise KeyGone(f"keystore {self._file} has no key of domain {domain}")
        opened = sealing.unseal(self._key, _DOMAIN_LABEL + domain.bytes, sealed)
        if opened is None:
            raise KeysRefused(
                f"keystore {self._file} is damaged at domain {domain}: restore it from a backup"
            )
        self._domains[domain] = opened
        return opened


def _stretched(passphrase: bytes, parameters: Argon2Parameters) -> SecretKey:
    return SecretKey(
        hash_secret_raw(
            passphrase,
            parameters.salt,
            time_cost=parameters.passes,
            memory_cost=parameters.memory_kib,
            parallelism=parameters.lanes,
            hash_len=32,
            type=Type.ID,
        )
    )


def _commitment(key: SecretKey) -> bytes:
    return sealing.derived(key, None, _COMMITMENT_LABEL)


def _encoded(contents: Contents) -> bytes:
    return msgspec.json.format(msgspec.json.encode(contents), indent=2)


def _decoded(file: KeystoreFile) -> Contents:
    content = file.read()
    try:
        return msgspec.json.decode(content, type=Contents)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigurationError(f"keystore {file} is damaged: restore it from a backup") from None
