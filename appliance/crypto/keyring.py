"""How keys follow from one another: HKDF-SHA-256 (RFC 5869), fixed-width info, one label a purpose.

    data key (from the provider) -> file key (by place) -> extent key (by salt and extent)

A data key seals nothing by itself, so rolling to a new file takes no call to the key provider. The
commitment beside a wrapped key tells a wrong key from damaged data: it covers every field that
re-wrapping does not change (DESIGN section 5), and it is compared in constant time.
"""

import struct

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.crypto.aead import KEY_BYTES
from appliance.errors import WrongKey
from appliance.invariant import invariant
from appliance.ports import KeyPlace, SecretKey

SALT_BYTES = 32
COMMITMENT_BYTES = 32

_FILE_LABEL = b"memorystreamer file key\x00"
_COMMITMENT_LABEL = b"memorystreamer commitment\x00"
_COMMITTED = struct.Struct(">BI16s16s16s")


def _derive(material: bytes | bytearray, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(material)


def file_key(data_key: SecretKey, place: bytes) -> SecretKey:
    """The key of one file; `place` is the file's fixed-width place (`sealed.Place.encoded`)."""
    return SecretKey(_derive(data_key.reveal(), None, _FILE_LABEL + place))


def extent_key(key: SecretKey, salt: bytes, info: bytes) -> bytes:
    """The 32 bytes that one extent is sealed with.

    Args:
        key: the file's key.
        salt: 32 random bytes, fresh for each extent.
        info: the extent's fixed-width info (`sealed.Place.extent_info`).
    """
    invariant(len(salt) == SALT_BYTES, "an extent's salt has 32 bytes")
    return _derive(key.reveal(), salt, info)


def commitment(data_key: SecretKey, place: KeyPlace) -> bytes:
    """32 bytes that only this key at this place yields, and that tell nothing of the key."""
    fields = _COMMITTED.pack(
        place.format, place.epoch, place.cluster.bytes, place.partition.bytes, place.domain.bytes
    )
    return _derive(data_key.reveal(), None, _COMMITMENT_LABEL + fields)


def check_commitment(data_key: SecretKey, place: KeyPlace, expected: bytes) -> None:
    """Raises WrongKey unless `expected` was made from this key for this place."""
    if not bytes_eq(commitment(data_key, place), expected):
        raise WrongKey("the key that was unwrapped is not the one that this data was sealed with")
