"""AES-256-GCM as NIST's vectors have it, and nothing left behind by bytes that do not verify."""

import os
from pathlib import PurePosixPath

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.crypto.aead import (
    MAX_FRAME_NUMBER,
    NONCE_BYTES,
    TAG_BYTES,
    OpeningKey,
    SealingKey,
    TagMismatch,
)
from appliance.invariant import InvariantViolation

KEY = bytes(range(32))
FOLDER = PurePosixPath("ciphers/AES/GCM")


def vectors(name):
    """Vectors with our lengths of nonce and tag, from NIST's CAVS files."""
    sizes, vector = {}, {}
    with cryptography_vectors.open_vector_file(str(FOLDER / name), "r") as file:
        for line in [*map(str.strip, file), ""]:
            if line.startswith("["):
                field, value = line.strip("[]").split(" = ")
                sizes[field] = int(value)
            elif " = " in line or line.endswith("="):
                field, _, value = line.partition("=")
                vector[field.strip()] = value.strip()
            elif line == "FAIL":
                vector["FAIL"] = True
            elif vector:
                if (sizes["IVlen"], sizes["Taglen"]) == (96, 128):
                    yield vector
                vector = {}


def bytes_of(vector, *fields):
    return [bytes.fromhex(vector[field]) for field in fields]


def sealing_at(key, nonce):
    """A sealing key whose next nonce is this one, spent."""
    sealing = SealingKey(key)
    sealing._next = int.from_bytes(nonce[:4], "big")
    spent = sealing.spend(nonce[4:])
    assert spent == nonce
    return sealing, spent


def test_nist_vectors_seal_to_their_ciphertext_and_tag():
    count = 0
    for vector in vectors("gcmEncryptExtIV256.rsp"):
        key, nonce, plaintext, aad, sealed, tag = bytes_of(
            vector, "Key", "IV", "PT", "AAD", "CT", "Tag"
        )
        sealing, spent = sealing_at(key, nonce)
        out = bytearray(len(plaintext) + TAG_BYTES)
        sealing.seal_into(spent, plaintext, aad, memoryview(out))
        assert bytes(out) == sealed + tag
        count += 1
    assert count == 375


def test_nist_vectors_open_or_are_refused_and_wiped():
    opened = refused = 0
    for vector in vectors("gcmDecrypt256.rsp"):
        key, nonce, aad, sealed, tag = bytes_of(vector, "Key", "IV", "AAD", "CT", "Tag")
        out = bytearray(b"\xff" * len(sealed))
        opening = OpeningKey(key)
        if "FAIL" in vector:
            with pytest.raises(TagMismatch):
                opening.open_into(nonce, sealed + tag, aad, memoryview(out))
            assert out == bytes(len(sealed))
            refused += 1
        else:
            opening.open_into(nonce, sealed + tag, aad, memoryview(out))
            assert bytes(out) == bytes.fromhex(vector["PT"])
            opened += 1
    assert (opened, refused) == (184, 191)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 4096, 70_000])
@pytest.mark.parametrize("changed", ["first byte", "last byte", "tag", "nonce", "aad", "key"])
def test_a_buffer_that_did_not_verify_holds_zeros(size, changed):
    """The primitive below leaves plaintext in the buffer; whoever looks must find none."""
    plaintext = os.urandom(size)
    sealing = SealingKey(KEY)
    nonce = sealing.spend(bytes(8))
    sealed = bytearray(size + TAG_BYTES)
    sealing.seal_into(nonce, plaintext, b"place", memoryview(sealed))
    key, aad = KEY, b"place"
    match changed:
        case "first byte":
            sealed[0] ^= 1
        case "last byte":
            sealed[size - 1] ^= 128
        case "tag":
            sealed[-1] ^= 1
        case "nonce":
            nonce = bytes([nonce[0] ^ 1]) + nonce[1:]
        case "aad":
            aad = b"plac3"
        case "key":
            key = KEY[::-1]
    out = bytearray(os.urandom(size))
    with pytest.raises(TagMismatch):
        OpeningKey(key).open_into(nonce, bytes(sealed), aad, memoryview(out))
    assert out == bytes(size)


def test_the_primitive_below_does_leave_plaintext_behind():
    """Why wiping is needed; if this ever fails, wiping has become harmless, not wrong."""
    cipher = AESGCM(KEY)
    sealed = bytearray(cipher.encrypt(bytes(12), b"secret" * 100, b""))
    sealed[-1] ^= 1
    out = bytearray(600)
    with pytest.raises(InvalidTag):
        cipher.decrypt_into(bytes(12), bytes(sealed), b"", out)
    assert out.count(b"secret") == 100


def test_a_nonce_seals_once_and_only_the_one_spent_last():
    sealing = SealingKey(KEY)
    first = sealing.spend(bytes(8))
    second = sealing.spend(bytes(8))
    out = memoryview(bytearray(TAG_BYTES + 1))
    with pytest.raises(InvariantViolation):
        sealing.seal_into(first, b"x", b"", out)
    sealing.seal_into(second, b"x", b"", out)
    with pytest.raises(InvariantViolation):
        sealing.seal_into(second, b"x", b"", out)


def test_numbers_grow_by_one_and_end_before_they_wrap():
    sealing = SealingKey(KEY)
    assert [sealing.spend(bytes(8))[:4] for _ in range(3)] == [
        number.to_bytes(4, "big") for number in range(3)
    ]
    sealing._next = MAX_FRAME_NUMBER
    assert len(sealing.spend(bytes(8))) == NONCE_BYTES
    with pytest.raises(InvariantViolation):
        sealing.spend(bytes(8))


@pytest.mark.parametrize("random", [b"", bytes(7), bytes(9)])
def test_a_nonce_takes_exactly_eight_random_bytes(random):
    with pytest.raises(InvariantViolation):
        SealingKey(KEY).spend(random)
