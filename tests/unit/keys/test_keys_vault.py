"""VaultProvider against a real OpenBao: what opens, what is refused, and what is said."""

import logging
import traceback
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import msgspec
import pytest
import trio
from certs_tooling.authority import Authority

from appliance.errors import (
    ConfigurationError,
    KeyGone,
    KeyProviderError,
    KeysRefused,
    KeysUnavailable,
    WrongKey,
)
from appliance.keys import vault_tls
from appliance.keys.vault import VaultProvider
from appliance.keys.vault_settings import VaultSettings
from appliance.ports import DataKey, KeyPlace, WrappedKey
from appliance.types import ClusterId, NodeId

from .conftest import CLUSTER, HeldClock, Server, app_role, domain, place


@pytest.fixture
def provider(server: Server, clock: HeldClock) -> VaultProvider:
    held = server.provider(clock)
    trio.run(held.create_domain, domain(1))
    return held


S = TypeVar("S", bound=msgspec.Struct)


def changed(settings: S, **fields: object) -> S:
    return msgspec.structs.replace(settings, **fields)


def with_secret(settings: VaultSettings, file: Path) -> VaultSettings:
    return changed(settings, login=changed(settings.login, secret_id_file=file))


def assert_says_nothing(failure: KeyProviderError) -> None:
    """No library's exception hangs on it, as cause or context."""
    assert failure.__cause__ is None
    assert failure.__context__ is None


def test_a_data_key_unwraps_to_itself_at_its_place(provider: VaultProvider) -> None:
    made = trio.run(provider.new_data_key, place(1))
    again = trio.run(provider.unwrap, place(1), made.wrapped)
    assert len(made.secret.reveal()) == 32
    assert again.reveal() == made.secret.reveal()
    assert made.wrapped.provider == "vault"


def test_data_keys_differ(provider: VaultProvider) -> None:
    first, second = (trio.run(provider.new_data_key, place(1)) for _ in range(2))
    assert first.secret.reveal() != second.secret.reveal()


@pytest.mark.parametrize(
    "elsewhere",
    [
        place(1, partition=2),
        place(1, epoch=1),
        KeyPlace(CLUSTER, place(1).partition, domain(1), 0, 2),
        KeyPlace(ClusterId(UUID(int=9)), place(1).partition, domain(1), 0, 1),
    ],
    ids=["partition", "epoch", "format", "cluster"],
)
def test_a_wrap_opens_at_no_other_place(provider: VaultProvider, elsewhere: KeyPlace) -> None:
    made = trio.run(provider.new_data_key, place(1))
    with pytest.raises(WrongKey) as raised:
        trio.run(provider.unwrap, elsewhere, made.wrapped)
    assert_says_nothing(raised.value)


def test_a_wrap_opens_in_no_other_domain(provider: VaultProvider) -> None:
    trio.run(provider.create_domain, domain(2))
    made = trio.run(provider.new_data_key, place(1))
    with pytest.raises(WrongKey):
        trio.run(provider.unwrap, place(2), made.wrapped)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda wrap: wrap[:-6] + bytes([wrap[-6] ^ 1]) + wrap[-5:],
        lambda wrap: wrap.replace(b"vault:v1:", b"vault:v2:"),
        lambda wrap: wrap[:-8],
        lambda wrap: b"",
        lambda wrap: b"vault:v1:../../sys/seal",
        lambda wrap: wrap + b"\n",
        lambda wrap: wrap + b"A" * 4096,
        lambda wrap: "vault:v1:ключключключключ".encode(),
    ],
)
def test_a_changed_wrap_is_refused(provider: VaultProvider, spoil: object) -> None:
    made = trio.run(provider.new_data_key, place(1))
    assert callable(spoil)
    spoiled = WrappedKey("vault", spoil(made.wrapped.ciphertext))
    with pytest.raises(WrongKey) as raised:
        trio.run(provider.unwrap, place(1), spoiled)
    assert_says_nothing(raised.value)


def test_another_providers_wrap_is_refused(provider: VaultProvider) -> None:
    made = trio.run(provider.new_data_key, place(1))
    with pytest.raises(WrongKey, match="another kind"):
        trio.run(provider.unwrap, place(1), WrappedKey("local", made.wrapped.ciphertext))


def test_making_a_domain_twice_keeps_its_key(provider: VaultProvider) -> None:
    made = trio.run(provider.new_data_key, place(1))
    trio.run(provider.create_domain, domain(1))
    again = trio.run(provider.unwrap, place(1), made.wrapped)
    assert again.reveal() == made.secret.reveal()


def test_a_domain_without_key_is_gone(provider: VaultProvider) -> None:
    with pytest.raises(KeyGone):
        trio.run(provider.new_data_key, place(77))
    with pytest.raises(KeyGone):
        trio.run(provider.unwrap, place(77), WrappedKey("vault", b"vault:v1:" + b"A" * 80))


def test_a_deleted_key_is_gone(server: Server, clock: HeldClock) -> None:
    provider, doomed = server.provider(clock), domain(30)
    trio.run(provider.create_domain, doomed)
    made = trio.run(provider.new_data_key, place(30))
    name = provider_key(server, 30)
    with server.custodian() as call:
        call("POST", f"transit/keys/{name}/config", {"deletion_allowed": True})
        call("DELETE", f"transit/keys/{name}")
    with pytest.raises(KeyGone):
        trio.run(provider.unwrap, place(30), made.wrapped)


def provider_key(server: Server, number: int) -> str:
    return server.nodes[NodeId(1)].key_name(domain(number))


@pytest.mark.parametrize(
    ("number", "settings", "complaint"),
    [
        (40, {"derived": False}, "not derived"),
        (41, {"derived": True, "exportable": True}, "exportable"),
        (42, {"derived": True, "allow_plaintext_backup": True}, "plaintext backup"),
    ],
)
def test_a_key_that_could_leave_vault_is_refused(
    server: Server, clock: HeldClock, number: int, settings: dict[str, object], complaint: str
) -> None:
    with server.custodian() as call:
        call("POST", f"transit/keys/{provider_key(server, number)}", settings)
    provider = server.provider(clock)
    with pytest.raises(KeysRefused, match=complaint):
        trio.run(provider.create_domain, domain(number))
    with pytest.raises(KeysRefused, match=complaint):
        trio.run(provider.new_data_key, place(number))


def test_the_role_may_do_nothing_but_what_the_provider_needs(
    server: Server, provider: VaultProvider
) -> None:
    trio.run(provider.new_data_key, place(1))
    client, name = provider._client._hvac, provider_key(server, 1)
    for method, path, body in (
        ("post", f"transit/keys/{name}-x", {}),
        ("post", f"transit/keys/{name}-x", {"derived": False}),
        ("post", f"transit/keys/{name}-x", {"derived": True, "exportable": True}),
        ("post", f"transit/keys/{name}/config", {"exportable": True}),
        ("post", f"transit/keys/{name}/rotate", {}),
        ("delete", f"transit/keys/{name}", None),
        ("get", f"transit/export/encryption-key/{name}", None),
        ("get", f"transit/backup/{name}", None),
        ("post", f"transit/encrypt/{name}", {"plaintext": "AAAA", "context": "AAAA"}),
        ("post", f"transit/datakey/plaintext/{name}/x", {"context": "AAAA"}),
        ("get", "sys/mounts", None),
        ("get", "transit/keys?list=true", None),
    ):
        response = client.adapter.request(method, f"/v1/{path}", json=body, raise_exception=False)
        assert getattr(response, "status_code", 200) in {403, 404}, path


def test_health_serves(provider: VaultProvider) -> None:
    assert trio.run(provider.health).serving


def test_a_token_that_was_revoked_costs_one_login(server: Server, provider: VaultProvider) -> None:
    made = trio.run(provider.new_data_key, place(1))
    before = provider._login.generation
    with server.custodian() as call:
        call("POST", "auth/token/revoke", {"token": provider._client._hvac.token})
    trio.run(provider.unwrap, place(1), made.wrapped)
    assert provider._login.generation == before + 1


def test_a_token_is_renewed_before_it_ends_and_replaced_after(
    provider: VaultProvider, clock: HeldClock
) -> None:
    trio.run(provider.new_data_key, place(1))
    generation = provider._login.generation
    clock.seconds += 2500
    trio.run(provider.new_data_key, place(1))
    assert provider._login.generation == generation
    assert provider._login._ends_at > 1000 + 3600
    clock.seconds += 10_000
    trio.run(provider.new_data_key, place(1))
    assert provider._login.generation == generation + 1


def test_tasks_that_start_together_log_in_once(server: Server, clock: HeldClock) -> None:
    provider = server.provider(clock)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(provider.health)

    trio.run(main)
    assert provider._login.generation == 1


def test_a_wrong_secret_id_is_refused(server: Server, clock: HeldClock, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("00000000-canary-0000")
    settings = with_secret(server.nodes[NodeId(1)], secret)
    provider = VaultProvider(settings, clock)
    with pytest.raises(KeysRefused) as raised:
        trio.run(provider.new_data_key, place(1))
    assert_says_nothing(raised.value)
    assert "canary" not in str(raised.value)
    health = trio.run(provider.health)
    assert not health.serving
    assert "custodian" in health.advice


def test_a_missing_secret_id_file_is_named(server: Server, clock: HeldClock) -> None:
    settings = with_secret(server.nodes[NodeId(1)], Path("/nonexistent/secret"))
    with pytest.raises(KeysRefused, match="secret_id_file"):
        trio.run(VaultProvider(settings, clock).new_data_key, place(1))


def test_a_revoked_role_is_refused(server: Server, clock: HeldClock) -> None:
    provider = server.provider(clock, node=2)
    trio.run(provider.create_domain, domain(1))
    made = trio.run(provider.new_data_key, place(1))
    with server.custodian() as call:
        call("DELETE", "auth/approle/role/memorystreamer-node-2")
        call("POST", "auth/token/revoke", {"token": provider._client._hvac.token})
    with pytest.raises(KeysRefused) as raised:
        trio.run(provider.unwrap, place(1), made.wrapped)
    assert_says_nothing(raised.value)


def test_sealed_is_unavailable_and_said(server: Server, provider: VaultProvider) -> None:
    made = trio.run(provider.new_data_key, place(1))
    with server.sealed():
        with pytest.raises(KeysUnavailable, match="sealed") as raised:
            trio.run(provider.unwrap, place(1), made.wrapped)
        assert_says_nothing(raised.value)
        assert "unseal it" in trio.run(provider.health).advice
    assert trio.run(provider.unwrap, place(1), made.wrapped).reveal() == made.secret.reveal()


def test_stopped_is_unavailable_and_a_restart_serves(
    server: Server, provider: VaultProvider
) -> None:
    made = trio.run(provider.new_data_key, place(1))
    server.stop()
    try:
        with pytest.raises(KeysUnavailable, match="does not answer") as raised:
            trio.run(provider.unwrap, place(1), made.wrapped)
        assert_says_nothing(raised.value)
        assert not trio.run(provider.health).serving
    finally:
        server.start()
    assert trio.run(provider.unwrap, place(1), made.wrapped).reveal() == made.secret.reveal()


def test_the_key_exchange_is_hybrid(
    provider: VaultProvider, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    negotiated = vault_tls.negotiated_group

    def note(wrapped: object) -> str | None:
        seen.append(negotiated(wrapped))
        return seen[-1]

    monkeypatch.setattr(vault_tls, "negotiated_group", note)
    session = vault_tls.pinned_session(server.authority.certificate_file, "required")
    assert session.get(f"{server.address}/v1/sys/health").status_code == 200
    session.close()
    assert seen == ["X25519MLKEM768"]


def test_another_group_is_refused_where_hybrid_is_required(
    server: Server, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_tls, "negotiated_group", lambda _: "X25519")
    with pytest.raises(KeysUnavailable, match="key_exchange"):
        trio.run(server.provider(clock).new_data_key, place(1))
    preferred = changed(server.nodes[NodeId(1)], key_exchange="preferred")
    assert trio.run(VaultProvider(preferred, clock).health).serving


def test_another_authority_is_refused(server: Server, clock: HeldClock, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other")
    settings = changed(server.nodes[NodeId(1)], ca_file=other.certificate_file)
    with pytest.raises(KeysUnavailable, match="ca_file") as raised:
        trio.run(VaultProvider(settings, clock).new_data_key, place(1))
    assert_says_nothing(raised.value)


def test_another_host_name_is_refused(server: Server, clock: HeldClock) -> None:
    port = server.address.rsplit(":", 1)[1]
    settings = changed(server.nodes[NodeId(1)], address=f"https://localhost:{port}")
    with pytest.raises(KeysUnavailable, match="host name"):
        trio.run(VaultProvider(settings, clock).new_data_key, place(1))


def test_the_environment_chooses_nothing(
    server: Server, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY", "VAULT_ADDR"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "VAULT_CACERT"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("VAULT_TOKEN", "canary")
    assert trio.run(server.provider(clock).health).serving


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("address", "http://127.0.0.1:8200"),
        ("address", "https://a@b:1"),
        ("address", "https://host:1/path"),
        ("address", "https://host\n"),
        ("transit_mount", "../sys"),
        ("transit_mount", "transit/"),
        ("namespace", "a/../b"),
        ("key_prefix", "a/b"),
        ("key_prefix", "A"),
    ],
)
def test_settings_that_could_lead_elsewhere_are_refused(
    server: Server, setting: str, value: str
) -> None:
    fields = {
        name: getattr(server.nodes[NodeId(1)], name)
        for name in server.nodes[NodeId(1)].__struct_fields__
    }
    with pytest.raises(ConfigurationError, match=setting):
        VaultSettings(**{**fields, setting: value})


def test_an_unusable_authority_file_is_named(
    server: Server, clock: HeldClock, tmp_path: Path
) -> None:
    for content in (None, b"", b"not PEM"):
        path = tmp_path / "ca.pem"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="ca_file"):
            VaultProvider(changed(server.nodes[NodeId(1)], ca_file=path), clock)


def test_no_secret_is_said_anywhere(
    server: Server, clock: HeldClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []

    async def exercise() -> DataKey:
        provider = server.provider(clock)
        await provider.create_domain(domain(50))
        made = await provider.new_data_key(place(50))
        said.extend((repr(made), str(made), repr(provider), str(provider.__dict__)))
        for attempt in (
            (place(50, partition=9), made.wrapped),
            (place(51), made.wrapped),
            (place(50), WrappedKey("vault", made.wrapped.ciphertext[:-4])),
        ):
            try:
                await provider.unwrap(*attempt)
            except KeyProviderError as failure:
                trace = traceback.TracebackException.from_exception(failure, capture_locals=True)
                trace.stack = traceback.StackSummary.from_list(
                    [frame for frame in trace.stack if "/appliance/" in frame.filename]
                )
                said.extend(trace.format())
        secrets.append(provider._client._hvac.token)
        return made

    secrets: list[str] = [app_role(server.nodes[NodeId(1)]).secret_id_file.read_text()]
    made = trio.run(exercise)
    secrets.append(made.secret.reveal().hex())
    secrets.append(repr(bytes(made.secret.reveal())))
    text = "\n".join([*said, caplog.text])
    assert "Traceback" in text
    for secret in secrets:
        assert secret not in text
