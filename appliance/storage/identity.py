"""A directory's identity: which cluster and node it is, and the wrapped key that opens the rest.

What must be known before any key is there stands in the clear, and is bound by the seal behind it.
"""

from uuid import UUID

import msgspec

from appliance.crypto.keyring import file_key
from appliance.crypto.sealed import FORMAT, Place, Purpose
from appliance.errors import DamageDetected
from appliance.ports import Entropy, KeyPlace, SecretKey, WrappedKey
from appliance.storage.disk import Disk
from appliance.storage.document import clear_part, open_document, seal_document
from appliance.types import ClusterId, KeyDomainId, NodeId, PartitionId

IDENTITY = "identity"
CONTROL = PartitionId(UUID(int=0))
"""Stands where a partition does for what is the node's own."""

FIRST_EPOCH = 1


class Identity(msgspec.Struct, frozen=True):
    """What stands in the clear before any key is there; bound by the seal behind it."""

    cluster: ClusterId
    node: NodeId
    domain: KeyDomainId
    wrapped: WrappedKey
    commitment: bytes

    def key_place(self) -> KeyPlace:
        """Where the cluster's data key of this node is bound to."""
        return KeyPlace(self.cluster, CONTROL, self.domain, FIRST_EPOCH, FORMAT)


class Private(msgspec.Struct, frozen=True):
    """What of the identity is sealed.

    `sequence` is what the node journal had reached at the last clean stop: one that is found with a
    smaller one was rolled back.
    """

    journal: UUID
    sequence: int = 0

    def check(self, sequence: int) -> None:
        """Raises DamageDetected if a node journal that has come to `sequence` was rolled back."""
        if sequence < self.sequence:
            raise DamageDetected(
                "the node journal was rolled back: the identity knows a later one; this node must "
                "not return under its id"
            )


def identity_in(document: bytes) -> Identity:
    """What stands in the clear, not verified yet. Raises DamageDetected if it is malformed."""
    try:
        return msgspec.msgpack.decode(clear_part(document), type=Identity)
    except msgspec.MsgspecError:
        raise DamageDetected("the identity of this directory is malformed") from None


def _identity_place(identity: Identity) -> Place:
    return Place(Purpose.IDENTITY, identity.cluster, CONTROL, UUID(int=identity.node))


def private_in(document: bytes, identity: Identity, key: SecretKey) -> Private:
    """The sealed part. Raises DamageDetected if anything, the clear part included, was changed."""
    place = _identity_place(identity)
    content = open_document(document, place=place, key=file_key(key, place.encoded()))
    return msgspec.msgpack.decode(content, type=Private)


def save_identity(
    disk: Disk, identity: Identity, key: SecretKey, private: Private, entropy: Entropy
) -> None:
    """Replaces the document. Blocks until it is durable."""
    place = _identity_place(identity)
    document = seal_document(
        msgspec.msgpack.encode(private),
        clear=msgspec.msgpack.encode(identity),
        place=place,
        key=file_key(key, place.encoded()),
        entropy=entropy,
    )
    disk.replace(IDENTITY, document)
