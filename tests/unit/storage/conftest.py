"""A node directory with a real key provider of one process, and entries to put into it."""

import hashlib
import os
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.errors import KeyProviderError, KeysRefused
from appliance.ports import DataKey, DomainStatus, KeyHealth, SecretKey, WrappedKey
from appliance.storage.blockfile import PosixDisk
from appliance.storage.node import NodeDirectory
from appliance.types import (
    ClusterId,
    Entry,
    EntryHeader,
    EntryKind,
    Index,
    KeyDomainId,
    NodeId,
    Offset,
    PartitionId,
    Term,
    TimestampMs,
)

CLUSTER = ClusterId(UUID(int=11))
DOMAIN = KeyDomainId(UUID(int=12))
PARTITION = PartitionId(UUID(int=13))


class SystemEntropy:
    """The operating system's."""

    def random_bytes(self, count):
        return os.urandom(count)


class MemoryKeys:
    """Wraps with AES-GCM under a key that only this object has; counts what it is asked."""

    def __init__(self):
        self._cipher = AESGCM(os.urandom(32))
        self.calls = 0
        self.version = 1

    def epoch(self, domain):
        return self.version

    def version_of(self, wrapped):
        return wrapped.ciphertext[0]

    async def status(self, domain):
        return DomainStatus(self.version, 1)

    def forget(self, domain):
        pass

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
            self.wrap(wrap.place, bytes(secret.reveal()))
            if isinstance(secret, SecretKey)
            else secret
            for wrap, secret in zip(wraps, opened, strict=True)
        ]

    async def create_domain(self, domain):
        self.calls += 1

    async def new_data_key(self, place):
        self.calls += 1
        material = os.urandom(32)
        return DataKey(SecretKey(material), self.wrap(place, material))

    def wrap(self, place, material):
        nonce = os.urandom(12)
        sealed = self._cipher.encrypt(nonce, material, self._aad(place))
        return WrappedKey("memory", bytes([self.version]) + nonce + sealed)

    async def unwrap(self, place, wrapped):
        self.calls += 1
        nonce, sealed = wrapped.ciphertext[1:13], wrapped.ciphertext[13:]
        try:
            return SecretKey(self._cipher.decrypt(nonce, sealed, self._aad(place)))
        except InvalidTag:
            raise KeysRefused("a wrap for another place") from None

    async def health(self):
        return KeyHealth(serving=True)

    @staticmethod
    def _aad(place):
        return hashlib.sha256(repr(place).encode()).digest()


def stamp(payload, header):
    """As a batch's base offset is written: its first 8 bytes."""
    payload[:8] = header.base_offset.to_bytes(8, "big")


def batch_after(log, payload=b"", records=1, term=1):
    """The next entry of a log: a batch of `records` whose bytes end in `payload`."""
    body = bytes(8) + payload
    header = EntryHeader(
        EntryKind.BATCH,
        Index(log.last.index + 1),
        Term(term),
        TimestampMs(1_000),
        Offset(log.end_offset),
        records - 1,
        len(body),
    )
    return Entry(header, body)


class Home:
    """A directory, and how to open it again."""

    def __init__(self, path):
        self.path = path
        self.keys = MemoryKeys()

    async def create(self):
        return await NodeDirectory.create(
            PosixDisk(self.path),
            cluster=CLUSTER,
            node=NodeId(1),
            domain=DOMAIN,
            keys=self.keys,
            entropy=SystemEntropy(),
            stamp=stamp,
        )

    async def open(self):
        return await NodeDirectory.open(
            PosixDisk(self.path), keys=self.keys, entropy=SystemEntropy(), stamp=stamp
        )

    def abandon(self, node):
        """As a kill would: nothing is flushed, the lock is gone."""
        node._disk.unlock()


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "node")
