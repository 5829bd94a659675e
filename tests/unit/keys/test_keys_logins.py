"""The ways into Vault against a real OpenBao: wrapped secret ids, Kubernetes, TLS certificates.

Kubernetes is a small real HTTPS server that answers TokenReview requests, which is all that
OpenBao's Kubernetes login asks of a cluster.
"""

import base64
import json
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
import trio
from certs_tooling.authority import Authority

from appliance.errors import ConfigurationError, KeysRefused
from appliance.keys import vault_logins
from appliance.keys.vault import VaultProvider
from appliance.keys.vault_settings import (
    AppRoleLogin,
    CertificateLogin,
    KubernetesLogin,
    VaultLogin,
    VaultSettings,
)
from appliance.types import NodeId

from .conftest import HeldClock, Server, app_role, domain, place

ROLE = "auth/approle/role/memorystreamer-node-1"


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A directory in a file system that keeps nothing on a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def settings(server: Server, login: VaultLogin, **more: object) -> VaultSettings:
    return msgspec.structs.replace(server.nodes[NodeId(1)], login=login, **more)


def opens(provider: VaultProvider, number: int) -> bool:
    async def main() -> bool:
        await provider.create_domain(domain(number))
        made = await provider.new_data_key(place(number))
        again = await provider.unwrap(place(number), made.wrapped)
        return made.secret.reveal() == again.reveal()

    return trio.run(main)


# --- AppRole with a response-wrapped secret id ---


def wrapping_token(server: Server, path: str = f"{ROLE}/secret-id") -> str:
    with server.custodian() as call:
        content = call("POST", path, {}, wrap_ttl="300s")
    return msgspec.json.decode(content)["wrap_info"]["token"]


def wrapped(server: Server, folder: Path, token: str) -> AppRoleLogin:
    (folder / "token").write_text(token + "\n")
    held = app_role(server.nodes[NodeId(1)])
    return msgspec.structs.replace(
        held, secret_id_file=folder / "secret-id", wrapping_token_file=folder / "token"
    )


def test_a_wrapped_secret_id_is_unwrapped_once_and_found_again_by_a_restart(
    server: Server, clock: HeldClock, in_memory: Path
) -> None:
    login = wrapped(server, in_memory, wrapping_token(server))
    assert opens(VaultProvider(settings(server, login), clock), 200)
    assert login.secret_id_file.stat().st_mode & 0o777 == 0o600
    (in_memory / "token").unlink()
    assert opens(VaultProvider(settings(server, login), clock), 200)


def test_a_wrapping_token_that_was_used_is_an_alarm(
    server: Server, clock: HeldClock, in_memory: Path
) -> None:
    token = wrapping_token(server)
    thief = wrapped(server, in_memory, token)
    assert opens(VaultProvider(settings(server, thief), clock), 201)
    thief.secret_id_file.unlink()
    provider = VaultProvider(settings(server, thief), clock)
    health = trio.run(provider.health)
    assert (health.serving, health.alarm) == (False, True)
    assert "used before" in health.advice
    with pytest.raises(KeysRefused, match="ALARM"):
        trio.run(provider.new_data_key, place(201))
    assert token not in health.advice
    assert not thief.secret_id_file.exists()


def test_a_token_that_wraps_something_else_is_an_alarm_and_is_not_unwrapped(
    server: Server, clock: HeldClock, in_memory: Path
) -> None:
    for path in ("sys/wrapping/wrap", "auth/approle/role/memorystreamer-node-2/role-id"):
        if path.endswith("role-id"):
            with server.custodian() as call:
                content = call("GET", path, None, wrap_ttl="300s")
            token = msgspec.json.decode(content)["wrap_info"]["token"]
        else:
            token = wrapping_token(server, path)
        provider = VaultProvider(settings(server, wrapped(server, in_memory, token)), clock)
        health = trio.run(provider.health)
        assert health.alarm
        assert "does not wrap a secret id" in health.advice
        with server.custodian() as call:
            assert call("POST", "sys/wrapping/lookup", {"token": token}), "it is still unused"


def test_a_wrapped_secret_id_never_comes_to_lie_on_a_disk(
    server: Server, clock: HeldClock, tmp_path: Path
) -> None:
    if vault_logins.in_memory(tmp_path):
        pytest.skip("temporary files are in memory here")
    token = wrapping_token(server)
    provider = VaultProvider(settings(server, wrapped(server, tmp_path, token)), clock)
    with pytest.raises(KeysRefused, match="tmpfs"):
        trio.run(provider.new_data_key, place(1))
    assert not (tmp_path / "secret-id").exists()


def test_file_systems_are_told_apart(tmp_path: Path, in_memory: Path) -> None:
    assert vault_logins.in_memory(in_memory)
    assert not vault_logins.in_memory(Path("/proc/self"))
    assert not vault_logins.in_memory(tmp_path / "missing")


# --- Kubernetes ---


def jwt(name: str) -> str:
    """Shaped as a service account's token; only TokenReview judges it, so it bears no signature."""
    claims = {
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": "streams",
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": "0001",
        "sub": f"system:serviceaccount:streams:{name}",
    }
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in parts]
    return b".".join([*encoded, base64.urlsafe_b64encode(b"signature").rstrip(b"=")]).decode()


class Reviews(BaseHTTPRequestHandler):
    """`POST /apis/authentication.k8s.io/v1/tokenreviews`: knows one token."""

    known = jwt("broker")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.endswith("/tokenreviews"):
            self.send_error(404)
            return
        status: dict[str, object] = {"authenticated": False}
        if body["spec"]["token"] == self.known:
            user = {"username": "system:serviceaccount:streams:broker", "uid": "0001"}
            groups = ["system:serviceaccounts", "system:serviceaccounts:streams"]
            status = {"authenticated": True, "user": {**user, "groups": groups}}
        content = json.dumps(
            {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}
        ).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def token_reviews(authority: Authority, folder: Path) -> Iterator[str]:
    issued = authority.issue_server("kubernetes", ["127.0.0.1"])
    issued.save(certificate=folder / "k8s.pem", key=folder / "k8s.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "k8s.pem", folder / "k8s.key")
    with ThreadingHTTPServer(("127.0.0.1", 0), Reviews) as http:
        http.socket = context.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def kubernetes(server: Server, tmp_path: Path) -> Iterator[KubernetesLogin]:
    with token_reviews(server.authority, tmp_path) as address, server.custodian() as call:
        if b"kubernetes/" not in call("GET", "sys/auth"):
            call("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
        ca = server.authority.certificate_file.read_text()
        call(
            "POST",
            "auth/kubernetes/config",
            {
                "kubernetes_host": address,
                "kubernetes_ca_cert": ca,
                "disable_local_ca_jwt": True,
                "token_reviewer_jwt": jwt("reviewer"),
            },
        )
        call(
            "POST",
            "auth/kubernetes/role/memorystreamer",
            {
                "bound_service_account_names": ["broker"],
                "bound_service_account_namespaces": ["streams"],
                "token_policies": ["memorystreamer-node"],
                "token_ttl": 3600,
            },
        )
        token = tmp_path / "jwt"
        token.write_text(Reviews.known)
        yield KubernetesLogin(role="memorystreamer", token_file=token)


def test_a_service_account_logs_in(
    server: Server, clock: HeldClock, kubernetes: KubernetesLogin
) -> None:
    assert opens(VaultProvider(settings(server, kubernetes), clock), 210)


def test_a_service_account_token_is_read_anew_at_each_login(
    server: Server, clock: HeldClock, kubernetes: KubernetesLogin
) -> None:
    kubernetes.token_file.write_text(jwt("stranger"))
    provider = VaultProvider(settings(server, kubernetes), clock)
    with pytest.raises(KeysRefused) as raised:
        trio.run(provider.new_data_key, place(210))
    assert "service account" in str(raised.value)
    assert jwt("stranger") not in str(raised.value)
    kubernetes.token_file.unlink()
    with pytest.raises(KeysRefused, match="token_file"):
        trio.run(provider.new_data_key, place(210))
    kubernetes.token_file.write_text(Reviews.known)
    assert opens(provider, 210)


# --- TLS certificates ---


@pytest.fixture
def certificate(server: Server, tmp_path: Path) -> CertificateLogin:
    with server.custodian() as call:
        if b"cert/" not in call("GET", "sys/auth"):
            call("POST", "sys/auth/cert", {"type": "cert"})
        call(
            "POST",
            "auth/cert/certs/memorystreamer-node",
            {
                "certificate": server.authority.certificate_file.read_text(),
                "allowed_uri_sans": ["spiffe://memorystreamer.local/node/*"],
                "token_policies": ["memorystreamer-node"],
                "token_ttl": 3600,
            },
        )
    issued = server.authority.issue_node(1, ["127.0.0.1"])
    issued.save(certificate=tmp_path / "node.pem", key=tmp_path / "node.key")
    return CertificateLogin(
        certificate=tmp_path / "node.pem", key=tmp_path / "node.key", role="memorystreamer-node"
    )


def test_a_nodes_certificate_logs_in(
    server: Server, clock: HeldClock, certificate: CertificateLogin
) -> None:
    assert opens(VaultProvider(settings(server, certificate), clock), 220)


def test_a_users_certificate_does_not(
    server: Server, clock: HeldClock, certificate: CertificateLogin, tmp_path: Path
) -> None:
    issued = server.authority.issue_client("eve")
    issued.save(certificate=tmp_path / "eve.pem", key=tmp_path / "eve.key")
    login = msgspec.structs.replace(
        certificate, certificate=tmp_path / "eve.pem", key=tmp_path / "eve.key"
    )
    with pytest.raises(KeysRefused):
        trio.run(VaultProvider(settings(server, login), clock).new_data_key, place(220))


def test_a_key_of_another_certificate_is_named(
    server: Server, clock: HeldClock, certificate: CertificateLogin, tmp_path: Path
) -> None:
    other = server.authority.issue_node(2, ["127.0.0.1"])
    other.save(certificate=tmp_path / "other.pem", key=tmp_path / "other.key")
    for key in (tmp_path / "other.key", tmp_path / "missing"):
        login = msgspec.structs.replace(certificate, key=key)
        with pytest.raises(ConfigurationError, match="its own key"):
            VaultProvider(settings(server, login), clock)


# --- namespaces ---


def test_keys_of_a_namespace_are_apart(server: Server, clock: HeldClock) -> None:
    with server.custodian() as call:
        call("POST", "sys/namespaces/streams", {})
        call("POST", "sys/mounts/transit", {"type": "transit"}, namespace="streams")
        call("POST", "sys/auth/approle", {"type": "approle"}, namespace="streams")
        policy = call("GET", "sys/policies/acl/memorystreamer-node")
        text = msgspec.json.decode(policy)["data"]["policy"]
        call("PUT", "sys/policies/acl/node", {"policy": text}, namespace="streams")
        call(
            "POST",
            "auth/approle/role/one",
            {"token_policies": ["node"], "token_ttl": 600},
            namespace="streams",
        )
        role = call("GET", "auth/approle/role/one/role-id", namespace="streams")
        secret = call("POST", "auth/approle/role/one/secret-id", {}, namespace="streams")
    file = server.directory / "streams.secret"
    file.write_text(msgspec.json.decode(secret)["data"]["secret_id"])
    login = AppRoleLogin(role_id=msgspec.json.decode(role)["data"]["role_id"], secret_id_file=file)
    provider = VaultProvider(settings(server, login, namespace="streams"), clock)
    assert opens(provider, 230)
    made = trio.run(provider.new_data_key, place(230))
    outside = server.provider(clock)
    with pytest.raises(KeysRefused, match="no key"):
        trio.run(outside.unwrap, place(230), made.wrapped)
    strangers = VaultProvider(settings(server, login), clock)
    with pytest.raises(KeysRefused):
        trio.run(strangers.unwrap, place(230), made.wrapped)
