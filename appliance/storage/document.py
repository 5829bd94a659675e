"""Small sealed documents, replaced whole: the identity of a directory, the manifest of a partition.

    document = clear length 4 | clear bytes | extent header | one frame

What must be readable before any key is there (which key it is) stands in the clear in front and is
bound by the frame's chain; for all other documents that part is empty. Each replacement has a salt
of its own, so no key seals two of them.
"""

import struct
from typing import Final

from appliance.crypto import chain
from appliance.crypto.aead import NONCE_RANDOM_BYTES, TagMismatch
from appliance.crypto.chain import TagChain
from appliance.crypto.keyring import SALT_BYTES
from appliance.crypto.sealed import (
    EXTENT_HEADER_BYTES,
    FRAME_HEADER_BYTES,
    NO_FRAME,
    PREAMBLE_BYTES,
    ExtentReader,
    ExtentWriter,
    FrameKind,
    Place,
    Preamble,
    read_extent_header,
    read_frame_header,
    read_preamble,
    sealed_bytes,
)
from appliance.errors import DamageDetected
from appliance.limits import MAX_DOCUMENT_BYTES
from appliance.ports import Entropy, SecretKey

_LENGTH: Final = struct.Struct(">I")
_MAX_CLEAR_BYTES: Final = 8192


def seal_document(
    content: bytes, *, clear: bytes, place: Place, key: SecretKey, entropy: Entropy
) -> bytes:
    """The bytes of a document; `key` is the file key of `place`."""
    plaintext = bytearray(PREAMBLE_BYTES) + content
    plaintext[:PREAMBLE_BYTES] = Preamble(FrameKind.DOCUMENT, 1, NO_FRAME).encode()
    writer = ExtentWriter(
        place=place,
        key=key,
        number=0,
        salt=entropy.random_bytes(SALT_BYTES),
        chain=TagChain(chain.anchor(clear)),
    )
    sealed = bytearray(sealed_bytes(len(plaintext)))
    random = entropy.random_bytes(NONCE_RANDOM_BYTES)
    writer.seal_frame(plaintext, random, memoryview(sealed), 0)
    return _LENGTH.pack(len(clear)) + clear + writer.header.encode() + bytes(sealed)


def clear_part(document: bytes) -> bytes:
    """The part in front, not verified yet; raises DamageDetected if there cannot be one."""
    if len(document) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(document)
        if length <= min(_MAX_CLEAR_BYTES, len(document) - _LENGTH.size):
            return document[_LENGTH.size : _LENGTH.size + length]
    raise DamageDetected("a sealed document is cut short")


def open_document(document: bytes, *, place: Place, key: SecretKey) -> bytes:
    """The content of a document; raises DamageDetected if anything in it was changed."""
    clear = clear_part(document)
    at = _LENGTH.size + len(clear)
    extent = read_extent_header(document, at)
    body = at + EXTENT_HEADER_BYTES + FRAME_HEADER_BYTES
    frame = read_frame_header(document, at + EXTENT_HEADER_BYTES)
    if extent is None or frame is None or body + frame.length != len(document):
        raise DamageDetected("a sealed document is cut short, or longer than it says")
    if frame.length > MAX_DOCUMENT_BYTES:
        raise DamageDetected("a sealed document is larger than any")
    reader = ExtentReader(place=place, key=key, header=extent)
    plaintext = bytearray(frame.plaintext_bytes)
    try:
        reader.open_frame(frame, document[body:], chain.anchor(clear), memoryview(plaintext))
        preamble = read_preamble(plaintext)
    except (TagMismatch, ValueError):
        raise DamageDetected("a sealed document was changed") from None
    if preamble.kind is not FrameKind.DOCUMENT or frame.number != 0:
        raise DamageDetected("a sealed document is of another kind")
    return bytes(plaintext[PREAMBLE_BYTES:])
