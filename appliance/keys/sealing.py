"""Sealing one key under another, for the local keystore.

    sealed = salt, 16 bytes | nonce, 12 | AES-256-GCM(key, 32) and tag, 16

Rules: every seal has a key of its own, HKDF-SHA-256(parent, fresh salt, info = label and context),
so no nonce ever meets another under one key; the context is in that key, so a sealed key opens in
its own context only. Pure.
"""

from collections.abc import Callable

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.crypto.aead import (
    KEY_BYTES,
    NONCE_BYTES,
    NONCE_RANDOM_BYTES,
    TAG_BYTES,
    OpeningKey,
    SealingKey,
    TagMismatch,
)
from appliance.ports import SecretKey
from appliance.types import Buffer

SALT_BYTES = 16
SEALED_BYTES = SALT_BYTES + NONCE_BYTES + KEY_BYTES + TAG_BYTES

_LABEL = b"memorystreamer sealed key 1\x00"


def seal(
    parent: SecretKey, context: bytes, key: SecretKey, random_bytes: Callable[[int], bytes]
) -> bytes:
    """Seals `key` under `parent` for `context`; SEALED_BYTES long."""
    salt = random_bytes(SALT_BYTES)
    cipher = SealingKey(derived(parent, salt, _LABEL + context))
    nonce = cipher.spend(random_bytes(NONCE_RANDOM_BYTES))
    out = bytearray(KEY_BYTES + TAG_BYTES)
    cipher.seal_into(nonce, key.reveal(), salt, memoryview(out))
    return salt + nonce + bytes(out)


def unseal(parent: SecretKey, context: bytes, sealed: Buffer) -> SecretKey | None:
    """The key that was sealed; None when parent, context or a byte is another."""
    if len(sealed) != SEALED_BYTES:
        return None
    salt = bytes(sealed[:SALT_BYTES])
    nonce, rest = sealed[SALT_BYTES:][:NONCE_BYTES], sealed[SALT_BYTES + NONCE_BYTES :]
    out = bytearray(KEY_BYTES)
    cipher = OpeningKey(derived(parent, salt, _LABEL + context))
    try:
        cipher.open_into(nonce, rest, salt, memoryview(out))
    except TagMismatch:
        return None
    opened = SecretKey(out)
    out[:] = bytes(KEY_BYTES)
    return opened


def derived(parent: SecretKey, salt: bytes | None, info: bytes) -> bytes:
    """32 bytes that follow from `parent`, for one use that `info` names."""
    return HKDF(SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(parent.reveal())
