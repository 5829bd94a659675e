"""Transit's calls, as far as this appliance makes them: each blocks and raises nothing.

Rules: mount and key name come from the settings and a UUID; a wrap is bound to its place by the
derivation `context`, never by `associated_data`, which `rewrap` cannot take; a batch has at most
MAX_BATCH items, and one bad item does not make the others' answer an error.
"""

import base64
from collections.abc import Sequence

import msgspec

from appliance.keys.vault_calls import BATCH_READ_S, VaultClient
from appliance.keys.vault_failures import Failure
from appliance.keys.vault_replies import (
    BatchReply,
    DataKeyReply,
    DecryptReply,
    KeyReply,
    KeyState,
)
from appliance.limits import MAX_REWRAPPED_AT_ONCE
from appliance.ports import DataKey, SecretKey, WrappedKey

MAX_BATCH = MAX_REWRAPPED_AT_ONCE
"""Vault takes more, but one request then holds its worker for long."""

PARTIAL_FAILURE = 200
"""The status that a batch with bad and good items is to be answered with."""

Wrap = tuple[bytes, str]
"""A derivation context, and a wrap's text."""


class Transit:
    """One Transit mount, through one client."""

    def __init__(self, client: VaultClient, mount: str) -> None:
        self._client = client
        self._mount = mount

    # What a node may do.

    def create_key(self, name: str) -> bool | Failure:
        """Makes a derived key unless it is there."""
        return self._client.write(self._path("keys", name), {"derived": True}, lambda _: True)

    def read_key(self, name: str) -> KeyState | Failure:
        """How a key may be used.

        `derived=true` in the query satisfies a policy that requires it of every request.
        """
        return self._client.read(
            self._path("keys", name),
            lambda reply: msgspec.convert(reply, KeyReply).data,
            {"derived": "true"},
        )

    def data_key(self, name: str, context: bytes) -> DataKey | Failure:
        """A fresh 256-bit key and its wrap."""
        return self._client.write(
            self._path("datakey/plaintext", name),
            {"context": _base64(context), "bits": 256},
            lambda reply: msgspec.convert(reply, DataKeyReply).data_key(),
        )

    def decrypt(self, name: str, context: bytes, ciphertext: str) -> SecretKey | Failure:
        """The key in a wrap."""
        return self._client.write(
            self._path("decrypt", name),
            {"context": _base64(context), "ciphertext": ciphertext},
            lambda reply: msgspec.convert(reply, DecryptReply).data.secret(),
        )

    def decrypt_batch(self, name: str, wraps: Sequence[Wrap]) -> list[SecretKey | None] | Failure:
        """The keys in up to MAX_BATCH wraps, in order; None for one that does not open."""
        return self._client.write(
            self._path("decrypt", name),
            _batch(wraps),
            lambda reply: msgspec.convert(reply, BatchReply).secrets(len(wraps)),
            read_s=BATCH_READ_S,
        )

    def rewrap_batch(self, name: str, wraps: Sequence[Wrap]) -> list[WrappedKey | None] | Failure:
        """The same keys wrapped under the newest version; None for one that does not open."""
        return self._client.write(
            self._path("rewrap", name),
            _batch(wraps),
            lambda reply: msgspec.convert(reply, BatchReply).wraps(len(wraps)),
            read_s=BATCH_READ_S,
        )

    # What only a custodian may do.

    def rotate(self, name: str) -> bool | Failure:
        """Gives a key a new version, which new wraps are made under."""
        return self._client.write(self._path("keys", f"{name}/rotate"), {}, lambda _: True)

    def configure(self, name: str, settings: dict[str, object]) -> bool | Failure:
        """Changes how a key may be used."""
        return self._client.write(self._path("keys", f"{name}/config"), settings, lambda _: True)

    def delete_key(self, name: str) -> bool | Failure:
        """Deletes a key for good, which its configuration must allow."""
        return self._client.delete(self._path("keys", name))

    def _path(self, what: str, name: str) -> str:
        return f"{self._mount}/{what}/{name}"


def _batch(wraps: Sequence[Wrap]) -> dict[str, object]:
    return {
        "batch_input": [
            {"context": _base64(context), "ciphertext": text} for context, text in wraps
        ],
        "partial_failure_response_code": PARTIAL_FAILURE,
    }


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
