"""Notes every (key, nonce) pair that anything in this process seals under, and each that repeats.

It stands in for the AES-GCM of `crypto.aead`, in front of the real one.
"""

import contextlib
import hashlib

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.crypto import aead


class SealRecorder:
    """The pairs that were used, as digests, and how often one was used again."""

    def __init__(self) -> None:
        """Begins with none."""
        self._used: set[bytes] = set()
        self.seals = 0
        self.repeated = 0

    def note(self, key: bytes, nonce: bytes) -> None:
        """Takes in one seal."""
        pair = hashlib.blake2b(key + nonce, digest_size=16).digest()
        self.seals += 1
        self.repeated += pair in self._used
        self._used.add(pair)

    @contextlib.contextmanager
    def watching(self):
        """While this lasts, every key that is made notes what it seals."""
        recorder = self

        class Recorded:
            def __init__(self, key):
                self._key = bytes(key)
                self._cipher = AESGCM(key)
                self.decrypt_into = self._cipher.decrypt_into

            def encrypt_into(self, nonce, data, associated_data, buf):
                recorder.note(self._key, bytes(nonce))
                return self._cipher.encrypt_into(nonce, data, associated_data, buf)

        aead.AESGCM = Recorded
        try:
            yield self
        finally:
            aead.AESGCM = AESGCM
