"""Many wraps at once against a real OpenBao: partial failures, re-wrapping, retired versions."""

import base64
import logging
import traceback
from collections.abc import Iterator

import msgspec
import pytest
import trio

from appliance.crypto.keyring import check_commitment, commitment
from appliance.errors import KeyGone, KeyProviderError, KeysRefused, KeysUnavailable, WrongKey
from appliance.keys import place as places
from appliance.keys.vault import VaultProvider
from appliance.keys.vault_custodian import VaultCustodian
from appliance.keys.vault_transit import MAX_BATCH, _batch
from appliance.ports import DataKey, SecretKey, WrapAt, WrappedKey
from appliance.types import NodeId

from .conftest import HeldClock, Server, domain, place


@pytest.fixture
def provider(server: Server, clock: HeldClock) -> VaultProvider:
    held = server.provider(clock)
    trio.run(held.create_domain, domain(1))
    return held


@pytest.fixture
def custodian(server: Server) -> Iterator[VaultCustodian]:
    with server.custodian_token() as token:
        held = VaultCustodian(server.nodes[NodeId(1)], token)
        yield held
        held.close()


def made(provider: VaultProvider, number: int, count: int) -> list[DataKey]:
    async def main() -> list[DataKey]:
        return [
            await provider.new_data_key(place(number, partition=partition))
            for partition in range(count)
        ]

    return trio.run(main)


def wraps_of(number: int, keys: list[DataKey]) -> list[WrapAt]:
    return [WrapAt(place(number, partition=n), key.wrapped) for n, key in enumerate(keys)]


def test_a_bad_item_spoils_no_other(provider: VaultProvider) -> None:
    keys = made(provider, 1, 6)
    wraps = wraps_of(1, keys)
    wraps[1] = WrapAt(place(1, partition=99), keys[1].wrapped)
    wraps[3] = WrapAt(place(1, partition=3), WrappedKey("local", b"x"))
    wraps[4] = WrapAt(place(1, partition=4), WrappedKey("vault", b"vault:v1:" + b"A" * 80))
    wraps[5] = WrapAt(place(77, partition=5), keys[5].wrapped)
    opened = trio.run(provider.unwrap_all, wraps)
    assert [type(each) for each in opened] == [
        SecretKey, WrongKey, SecretKey, WrongKey, WrongKey, KeyGone,
    ]  # fmt: skip
    for number in (0, 2):
        secret = opened[number]
        assert isinstance(secret, SecretKey)
        assert secret.reveal() == keys[number].secret.reveal()


def test_a_batch_of_bad_items_only_names_each(provider: VaultProvider) -> None:
    keys = made(provider, 1, 2)
    wraps = [WrapAt(place(1, partition=50 + n), key.wrapped) for n, key in enumerate(keys)]
    opened = trio.run(provider.unwrap_all, wraps)
    assert [type(each) for each in opened] == [WrongKey, WrongKey]
    assert trio.run(provider.unwrap_all, []) == []


def test_calls_take_at_most_so_many_at_once(
    provider: VaultProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    call = provider._transit.decrypt_batch

    def counted(name: str, wraps: list[tuple[bytes, str]]) -> object:
        sizes.append(len(wraps))
        return call(name, wraps)

    monkeypatch.setattr(provider._transit, "decrypt_batch", counted)
    (key,) = made(provider, 1, 1)
    opened = trio.run(
        provider.unwrap_all, [WrapAt(place(1, partition=0), key.wrapped)] * (2 * MAX_BATCH + 3)
    )
    assert sizes == [MAX_BATCH, MAX_BATCH, 3]
    assert {bytes(each.reveal()) for each in opened if isinstance(each, SecretKey)} == {
        bytes(key.secret.reveal())
    }


def test_rewrapping_keeps_the_key_and_old_versions_can_then_be_retired(
    provider: VaultProvider, custodian: VaultCustodian
) -> None:
    trio.run(provider.create_domain, domain(80))
    keys = made(provider, 80, 5)
    wraps = wraps_of(80, keys)
    commitments = [
        commitment(key.secret, wrap.place) for key, wrap in zip(keys, wraps, strict=True)
    ]
    assert trio.run(custodian.rotate, domain(80)).newest_version == 2
    assert trio.run(provider.status, domain(80)).newest_version == 2
    assert provider.epoch(domain(80)) == 2
    new = trio.run(provider.rewrap_all, [*wraps, WrapAt(place(80, partition=9), keys[0].wrapped)])
    assert isinstance(new[-1], WrongKey)
    assert [provider.version_of(each) for each in new[:-1] if isinstance(each, WrappedKey)] == [
        2
    ] * 5
    trio.run(custodian.retire, domain(80), 2)
    fresh = [
        WrapAt(wrap.place, each)
        for wrap, each in zip(wraps, new[:-1], strict=True)
        if isinstance(each, WrappedKey)
    ]
    for secret, wrap, kept in zip(
        trio.run(provider.unwrap_all, fresh), fresh, commitments, strict=True
    ):
        assert isinstance(secret, SecretKey)
        check_commitment(secret, wrap.place, kept)
    with pytest.raises(KeysRefused, match="min_decryption_version") as raised:
        trio.run(provider.unwrap, wraps[0].place, wraps[0].wrapped)
    assert not isinstance(raised.value, KeyGone)
    (late,) = trio.run(provider.unwrap_all, wraps[:1])
    assert isinstance(late, KeysRefused)


def test_a_wrap_of_a_version_that_vault_never_had_is_another_vaults(
    provider: VaultProvider,
) -> None:
    (key,) = made(provider, 1, 1)
    newer = WrappedKey("vault", key.wrapped.ciphertext.replace(b"vault:v1:", b"vault:v9:"))
    with pytest.raises(WrongKey, match="another Vault, or one restored"):
        trio.run(provider.unwrap, place(1, partition=0), newer)


def test_destroying_a_key_is_checked_and_may_be_repeated(
    provider: VaultProvider, custodian: VaultCustodian
) -> None:
    trio.run(provider.create_domain, domain(81))
    keys = made(provider, 81, 2)
    trio.run(custodian.destroy, domain(81))
    trio.run(custodian.destroy, domain(81))
    with pytest.raises(KeyGone):
        trio.run(custodian.status, domain(81))
    opened = trio.run(provider.unwrap_all, wraps_of(81, keys))
    assert [type(each) for each in opened] == [KeyGone, KeyGone]


def test_a_custodians_token_opens_nothing_and_a_nodes_rotates_nothing(
    server: Server, provider: VaultProvider, custodian: VaultCustodian
) -> None:
    (key,) = made(provider, 1, 1)
    name = server.nodes[NodeId(1)].key_name(domain(1))
    wrap = (b"", key.wrapped.ciphertext.decode())
    for call in (
        lambda: custodian._transit.decrypt(name, *wrap),
        lambda: custodian._transit.data_key(name, b""),
        lambda: custodian._transit.rewrap_batch(name, [wrap]),
        lambda: custodian._transit.configure(name, {"exportable": True}),
        lambda: provider._transit.rotate(name),
        lambda: provider._transit.configure(name, {"deletion_allowed": True}),
        lambda: provider._transit.delete_key(name),
    ):
        assert call().name in {"REFUSED", "INVALID"}


def test_a_token_that_has_ended_is_refused_and_not_said(server: Server) -> None:
    with server.custodian_token() as token:
        custodian = VaultCustodian(server.nodes[NodeId(1)], token)
    with pytest.raises(KeysRefused, match="custodian's token") as raised:
        trio.run(custodian.rotate, domain(1))
    assert token not in str(raised.value)
    assert raised.value.__context__ is None


def test_after_a_half_bad_batch_no_key_is_in_a_log_or_a_traceback(
    server: Server, clock: HeldClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider = server.provider(clock)
    trio.run(provider.create_domain, domain(1))
    keys = made(provider, 1, 4)
    wraps = wraps_of(1, keys)
    wraps[1] = WrapAt(place(1, partition=98), keys[1].wrapped)
    said: list[str] = []
    opened = trio.run(provider.unwrap_all, wraps)
    assert sum(isinstance(each, SecretKey) for each in opened) == 3
    said.append(repr(opened))
    # Without the partial response code the server answers 400, and hvac's exception holds a body
    # with the good items' keys in it; the same for a reply that cannot be read.
    name = server.nodes[NodeId(1)].key_name(domain(1))
    broken = server.provider(clock)
    trio.run(broken.health)
    for spoil in ({"partial_failure_response_code": 400}, {"partial_failure_response_code": 503}):
        body = msgspec.json.decode(msgspec.json.encode(_batch_of(wraps)), type=dict[str, object])
        outcome = broken._client.write(f"transit/decrypt/{name}", {**body, **spoil}, lambda r: r)
        said.append(repr(outcome))

    def unreadable(reply: object) -> object:
        raise ValueError(repr(reply))

    said.append(repr(broken._client.write(f"transit/decrypt/{name}", _batch_of(wraps), unreadable)))

    async def fail() -> None:
        broken._transit.decrypt_batch = lambda n, w: broken._client.write(  # type: ignore[method-assign]
            f"transit/decrypt/{n}", _batch_of(wraps), unreadable
        )
        await broken.unwrap_all(wraps)

    with pytest.raises(KeysUnavailable) as raised:
        trio.run(fail)
    trace = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    trace.stack = traceback.StackSummary.from_list(
        [frame for frame in trace.stack if "/appliance/" in frame.filename]
    )
    said.extend(trace.format())
    text = "\n".join([*said, caplog.text])
    assert "Traceback" in text
    canaries = [form for key in keys for form in _forms(key.secret)]
    for canary in canaries:
        assert canary not in text
    assert isinstance(raised.value, KeyProviderError)
    assert raised.value.__context__ is None


def _batch_of(wraps: list[WrapAt]) -> dict[str, object]:
    return _batch([(places.context(w.place), w.wrapped.ciphertext.decode()) for w in wraps])


def _forms(secret: SecretKey) -> list[str]:
    material = bytes(secret.reveal())
    return [
        material.hex(),
        base64.b64encode(material).decode(),
        repr(material),
        repr(material)[2:-1],
    ]
