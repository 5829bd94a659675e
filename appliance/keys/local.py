"""Data keys from a keystore that a passphrase seals: for one node without Vault.

    keystore = magic 4 | format 1 | memory cost 4 | time cost 4 | lanes 4 | salt 16 | commitment 32
    wrap     = random 32 | masked key 32 | tag 32

The passphrase goes through Argon2id (RFC 9106) to a root key, and the root key seals nothing twice:
each wrap derives a mask and a tag key of its own from 32 fresh random bytes and the key's place
(HKDF-SHA-256, encrypt-then-MAC). The commitment tells a wrong passphrase from a damaged file.
A keystore serves one node; a cluster takes its keys from Vault.
"""

import hmac
import os
import secrets
import struct
from pathlib import Path
from typing import Final

import trio
from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.errors import ConfigurationError, KeysRefused
from appliance.keys.place import encoded
from appliance.ports import DataKey, KeyHealth, KeyPlace, SecretKey, WrappedKey
from appliance.types import KeyDomainId

PROVIDER: Final = "local"
MEMORY_KIB: Final = 256 * 1024
TIME_COST: Final = 3
LANES: Final = 4

_HEADER: Final = struct.Struct(">4sBIII16s")
_MAGIC: Final = b"MSKS"
_FORMAT: Final = 1
_KEY_BYTES: Final = 32
_MAX_MEMORY_KIB: Final = 4 * 1024 * 1024
_FILE_BYTES: Final = _HEADER.size + _KEY_BYTES
_WRAP_BYTES: Final = 3 * _KEY_BYTES


class LocalKeystore:
    """See `ports.KeyProvider`."""

    def __init__(self, root: SecretKey) -> None:
        """For `create` and `open`."""
        self._root = root

    @classmethod
    def create(cls, path: Path, passphrase: bytes) -> "LocalKeystore":
        """Makes a keystore, 0600 and durable. Blocks about a second.

        Raises ConfigurationError if there is one, or it cannot be written.
        """
        salt = secrets.token_bytes(16)
        header = _HEADER.pack(_MAGIC, _FORMAT, MEMORY_KIB, TIME_COST, LANES, salt)
        root = _root_key(passphrase, header)
        _write_new(path, header + _derived(root, b"commitment", header))
        return cls(root)

    @classmethod
    def open(cls, path: Path, passphrase: bytes) -> "LocalKeystore":
        """Opens a keystore. Blocks about a second.

        Raises ConfigurationError if it cannot be read, or the passphrase is not its own.
        """
        try:
            with path.open("rb") as file:
                content = file.read(_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(f"keystore {path}: {error.strerror}") from None
        header, commitment = content[: _HEADER.size], content[_HEADER.size :]
        _check_header(path, content, header)
        root = _root_key(passphrase, header)
        if not hmac.compare_digest(_derived(root, b"commitment", header), commitment):
            raise ConfigurationError(
                f"the passphrase does not open keystore {path}: type it again, or bring back the"
                " keystore that belongs to it"
            )
        return cls(root)

    async def create_domain(self, domain: KeyDomainId) -> None:
        """Nothing to make: every domain's wraps derive from the root key by their place."""
        await trio.lowlevel.checkpoint()

    async def new_data_key(self, place: KeyPlace) -> DataKey:
        """See `ports.KeyProvider.new_data_key`."""
        await trio.lowlevel.checkpoint()
        secret = SecretKey(secrets.token_bytes(_KEY_BYTES))
        random = secrets.token_bytes(_KEY_BYTES)
        mask, tag_key = self._wrapping_keys(random, place)
        masked = _xor(secret.reveal(), mask)
        tag = hmac.digest(tag_key, random + masked, "sha256")
        return DataKey(secret, WrappedKey(PROVIDER, random + masked + tag))

    async def unwrap(self, place: KeyPlace, wrapped: WrappedKey) -> SecretKey:
        """See `ports.KeyProvider.unwrap`; raises KeysRefused for a wrap of another place."""
        await trio.lowlevel.checkpoint()
        text = wrapped.ciphertext
        if wrapped.provider != PROVIDER or len(text) != _WRAP_BYTES:
            raise KeysRefused("this key was not wrapped by a local keystore")
        random, masked = text[:_KEY_BYTES], text[_KEY_BYTES : 2 * _KEY_BYTES]
        mask, tag_key = self._wrapping_keys(random, place)
        tag = hmac.digest(tag_key, random + masked, "sha256")
        if not hmac.compare_digest(tag, text[2 * _KEY_BYTES :]):
            raise KeysRefused("this key was not wrapped for this place by this keystore")
        return SecretKey(_xor(masked, mask))

    async def health(self) -> KeyHealth:
        """An open keystore serves."""
        await trio.lowlevel.checkpoint()
        return KeyHealth(serving=True)

    def _wrapping_keys(self, random: bytes, place: KeyPlace) -> tuple[bytes, bytes]:
        both = _expanded(self._root, b"wrap" + random + encoded(place), 2 * _KEY_BYTES)
        return both[:_KEY_BYTES], both[_KEY_BYTES:]


def _check_header(path: Path, content: bytes, header: bytes) -> None:
    """Bounds what the file asks for before anything is computed from it."""
    if len(content) == _FILE_BYTES:
        magic, version, memory, time, lanes, _ = _HEADER.unpack(header)
        bounded = 8 * lanes <= memory <= _MAX_MEMORY_KIB and 1 <= time <= 64 and 1 <= lanes <= 64
        if (magic, version) == (_MAGIC, _FORMAT) and bounded:
            return
    raise ConfigurationError(f"{path} is not a keystore, or is damaged: bring back its backup")


def _root_key(passphrase: bytes, header: bytes) -> SecretKey:
    _, _, memory, time, lanes, salt = _HEADER.unpack(header)
    return SecretKey(
        hash_secret_raw(
            secret=passphrase,
            salt=salt,
            time_cost=time,
            memory_cost=memory,
            parallelism=lanes,
            hash_len=_KEY_BYTES,
            type=Type.ID,
        )
    )


def _derived(root: SecretKey, label: bytes, header: bytes) -> bytes:
    return _expanded(root, label + header, _KEY_BYTES)


def _expanded(root: SecretKey, info: bytes, length: int) -> bytes:
    hkdf = HKDF(
        algorithm=SHA256(), length=length, salt=None, info=b"memorystreamer keystore" + info
    )
    return hkdf.derive(root.reveal())


def _xor(left: bytes | bytearray, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))


def _write_new(path: Path, content: bytes) -> None:
    """A whole new file, durable, or none."""
    fresh = path.with_name(path.name + ".new")
    try:
        if path.exists():
            raise ConfigurationError(f"{path} exists already")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"cannot write keystore {path}: {error.strerror}") from None
