"""AES-256-GCM, and the only place that calls it (NIST SP 800-38D).

Rules:

- A nonce is spent by sealing. A `SealingKey` hands out frame numbers in order and seals once under
  each; a number that was taken and never sealed is lost, not reused.
- The nonce is the 4-byte number and 8 fresh random bytes (DESIGN section 5): the number alone keeps
  nonces apart within a process, the random bytes keep them apart when a running machine was cloned.
- Opening into a buffer leaves plaintext behind when the tag is wrong, so the buffer is wiped before
  control returns: nobody ever sees a byte that was not verified.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import StorageError
from appliance.invariant import invariant
from appliance.types import Buffer

KEY_BYTES = 32
TAG_BYTES = 16
NONCE_RANDOM_BYTES = 8
NONCE_BYTES = 4 + NONCE_RANDOM_BYTES
MAX_FRAME_NUMBER = (1 << 32) - 2
"""The last number that a frame may take; the one above it means 'no frame'."""


class TagMismatch(StorageError):
    """Sealed bytes, their place or their key are not what they were when they were sealed."""


class SealingKey:
    """One extent's key for writing: numbers in order, each sealed under at most once."""

    __slots__ = ("_cipher", "_next", "_spent")

    def __init__(self, key: Buffer) -> None:
        """Takes 32 bytes that no other SealingKey has ever been given."""
        invariant(len(key) == KEY_BYTES, "a sealing key has 32 bytes")
        self._cipher = AESGCM(key)
        self._next = 0
        self._spent: bytes | None = None

    @property
    def next_number(self) -> int:
        """The number that the next nonce will carry."""
        return self._next

    def spend(self, random: bytes) -> bytes:
        """The next nonce, 12 bytes, for exactly one `seal_into`; `random` are 8 fresh bytes."""
        invariant(len(random) == NONCE_RANDOM_BYTES, "a nonce takes 8 random bytes")
        invariant(self._next <= MAX_FRAME_NUMBER, "an extent ends before its numbers do")
        self._spent = self._next.to_bytes(4, "big") + random
        self._next += 1
        return self._spent

    def seal_into(self, nonce: bytes, plaintext: Buffer, aad: bytes, out: memoryview) -> None:
        """Writes ciphertext and tag to `out`, which has 16 bytes more than `plaintext`.

        `nonce` must be what `spend` returned last, and not sealed under before.
        """
        invariant(nonce is self._spent, "a nonce seals once, in the order nonces were spent")
        self._spent = None
        self._cipher.encrypt_into(nonce, plaintext, aad, out)


class OpeningKey:
    """One extent's key for reading."""

    __slots__ = ("_cipher",)

    def __init__(self, key: Buffer) -> None:
        """Takes the 32 bytes that the extent was sealed with."""
        invariant(len(key) == KEY_BYTES, "an opening key has 32 bytes")
        self._cipher = AESGCM(key)

    def open_into(self, nonce: Buffer, sealed: Buffer, aad: bytes, out: memoryview) -> None:
        """Writes the plaintext to `out`, which has 16 bytes less than `sealed`.

        Raises TagMismatch when the tag is wrong; `out` then holds zeros.
        """
        try:
            self._cipher.decrypt_into(nonce, sealed, aad, out)
        except InvalidTag:
            out[:] = bytes(len(out))
            raise TagMismatch("a frame's tag does not match") from None
