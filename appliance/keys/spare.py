"""Spare data keys: fetched while the key provider is there, used while it is away.

A wrap is bound to its place, and nobody knows the places of tomorrow. So a spare is wrapped for a
slot: the same cluster, domain, epoch and format, and a random id where the partition stands. When
it is used, the data key of the partition is derived from the spare, with the partition's whole
place as the derivation's info:

    data key = HKDF-SHA-256(spare, info = label, encoded place)
    wrap     = version 1 | slot, 16 bytes | commitment, 32 bytes | the provider's wrap of the spare

Rules:
- a spare serves one place and is wiped; a second place would not see the first one's key, but two
  wraps would rest on one secret;
- the slot is input to the provider's context and to nothing else, so bytes from disk still choose
  neither host nor path nor key name: a false slot is a false context, and the wrap does not open;
- the commitment (over the derived key and its place) makes a wrap that is shown at another place
  an error, as the provider's own wraps do: WrongKey, never another key.

A key used this way is protected like any other: nothing but the provider's wrap of the spare holds
the secret, under the same Vault key.
"""

from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.crypto.keyring import COMMITMENT_BYTES, check_commitment, commitment
from appliance.errors import WrongKey
from appliance.keys import place as places
from appliance.ports import DataKey, KeyPlace, SecretKey, WrapAt, WrappedKey
from appliance.types import PartitionId

_VERSION = b"\x01"
_LABEL = b"memorystreamer spare key 1\x00"
_PREFIX = "spare:"
_HEAD_BYTES = 1 + 16 + COMMITMENT_BYTES


class SpareWrap(msgspec.Struct, frozen=True):
    """A spare's wrap, taken apart: where it was wrapped, and by whom."""

    slot: KeyPlace
    inner: WrappedKey
    commitment: bytes


def is_spare(wrapped: WrappedKey) -> bool:
    """Whether the key in this wrap is derived from a spare."""
    return wrapped.provider.startswith(_PREFIX)


def spend(spare: DataKey, slot: KeyPlace, place: KeyPlace) -> DataKey:
    """The data key of `place` from a spare of `slot`; the spare is wiped."""
    secret = _derived(spare.secret, place)
    spare.secret.wipe()
    head = _VERSION + slot.partition.bytes + commitment(secret, place)
    wrapped = WrappedKey(_PREFIX + spare.wrapped.provider, head + spare.wrapped.ciphertext)
    return DataKey(secret, wrapped)


def parse(place: KeyPlace, wrapped: WrappedKey) -> SpareWrap:
    """Takes a spare's wrap apart. Raises WrongKey when it is not one."""
    head, inner = wrapped.ciphertext[:_HEAD_BYTES], wrapped.ciphertext[_HEAD_BYTES:]
    if not is_spare(wrapped) or head[:1] != _VERSION or not inner:
        raise WrongKey("this is not a spare key's wrap")
    slot = msgspec.structs.replace(place, partition=PartitionId(UUID(bytes=head[1:17])))
    return SpareWrap(slot, WrappedKey(wrapped.provider.removeprefix(_PREFIX), inner), head[17:])


def inner_of(wrapped: WrappedKey) -> WrappedKey:
    """The provider's own wrap in a spare's; any other as it is."""
    if not is_spare(wrapped):
        return wrapped
    return WrappedKey(wrapped.provider.removeprefix(_PREFIX), wrapped.ciphertext[_HEAD_BYTES:])


def inner_at(wrap: WrapAt) -> WrapAt:
    """What the provider itself wrapped: of a spare's wrap, the spare at its slot.

    A wrap that is no spare's, or a malformed one, stays as it is: the provider refuses it.
    """
    if not is_spare(wrap.wrapped) or len(wrap.wrapped.ciphertext) <= _HEAD_BYTES:
        return wrap
    slot = PartitionId(UUID(bytes=wrap.wrapped.ciphertext[1:17]))
    place = msgspec.structs.replace(wrap.place, partition=slot)
    return WrapAt(place, inner_of(wrap.wrapped))


def reopened(opened: SecretKey, wrap: WrapAt) -> SecretKey | WrongKey:
    """The data key itself, derived from a spare where the wrap is a spare's."""
    if not is_spare(wrap.wrapped):
        return opened
    try:
        return reopen(opened, parse(wrap.place, wrap.wrapped), wrap.place)
    except WrongKey as error:
        return error


def rewrapped(wrapped: WrappedKey, inner: WrappedKey) -> WrappedKey:
    """The same spare's wrap around another wrap of the same spare."""
    return WrappedKey(_PREFIX + inner.provider, wrapped.ciphertext[:_HEAD_BYTES] + inner.ciphertext)


def reopen(opened: SecretKey, spare: SpareWrap, place: KeyPlace) -> SecretKey:
    """The data key of `place` from the unwrapped spare, which is wiped.

    Raises WrongKey when the spare was spent on another place.
    """
    secret = _derived(opened, place)
    opened.wipe()
    check_commitment(secret, place, spare.commitment)
    return secret


def _derived(spare: SecretKey, place: KeyPlace) -> SecretKey:
    info = _LABEL + places.encoded(place)
    return SecretKey(HKDF(SHA256(), length=32, salt=None, info=info).derive(spare.reveal()))
