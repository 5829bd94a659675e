"""A key provider of one process, whose keys follow from its seed; it outlives every machine."""

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import KeyGone, KeyProviderError, KeysRefused
from appliance.ports import DataKey, DomainStatus, KeyHealth, SecretKey, WrappedKey


class SeededEntropy:
    """Random bytes that follow from a seed."""

    def __init__(self, source):
        self._source = source

    def random_bytes(self, count):
        return self._source.randbytes(count)


class SeededKeys:
    """Wraps with AES-GCM under a key that only this object has; `version` is raised by rotating."""

    def __init__(self, source):
        self._source = source
        self._cipher = AESGCM(source.randbytes(32))
        self.version = 1
        self.destroyed = set()

    async def create_domain(self, domain):
        pass

    def epoch(self, domain):
        return self.version

    async def status(self, domain):
        return DomainStatus(self.version, 1)

    def version_of(self, wrapped):
        return wrapped.ciphertext[0]

    def lease_left_s(self, domain):
        return None

    def forget(self, domain):
        pass

    async def new_data_key(self, place):
        material = self._source.randbytes(32)
        return DataKey(SecretKey(material), self.wrap(place, material))

    def wrap(self, place, material):
        nonce = self._source.randbytes(12)
        sealed = self._cipher.encrypt(nonce, bytes(material), _aad(place))
        return WrappedKey("seeded", bytes([self.version]) + nonce + sealed)

    async def unwrap(self, place, wrapped):
        if place.domain in self.destroyed:
            raise KeyGone("the domain's key was destroyed")
        nonce, sealed = wrapped.ciphertext[1:13], wrapped.ciphertext[13:]
        try:
            return SecretKey(self._cipher.decrypt(nonce, sealed, _aad(place)))
        except InvalidTag:
            raise KeysRefused("a wrap for another place") from None

    async def unwrap_all(self, wraps):
        outcomes = []
        for wrap in wraps:
            try:
                outcomes.append(await self.unwrap(wrap.place, wrap.wrapped))
            except KeyProviderError as error:
                outcomes.append(error)
        return outcomes

    async def rewrap_all(self, wraps):
        opened = await self.unwrap_all(wraps)
        return [
            self.wrap(wrap.place, secret.reveal()) if isinstance(secret, SecretKey) else secret
            for wrap, secret in zip(wraps, opened, strict=True)
        ]

    async def health(self):
        return KeyHealth(serving=True)


def _aad(place):
    return hashlib.sha256(repr(place).encode()).digest()
