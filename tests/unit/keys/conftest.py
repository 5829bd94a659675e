"""A real OpenBao for a module's tests, and the clock that they hold still."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
import trio
from certs_tooling.authority import Authority

from appliance.cli.quickstart.openbao import RunningOpenBao, running_openbao
from appliance.cli.quickstart.openbao_setup import OpenBaoAPI, UnsealMaterial
from appliance.keys.vault import VaultProvider
from appliance.keys.vault_settings import AppRoleLogin, VaultSettings
from appliance.keys.vault_tls import pinned_session
from appliance.ports import KeyPlace
from appliance.types import ClusterId, KeyDomainId, NodeId, PartitionId, TimestampMs

ROOT = Path(__file__).parents[3]
CLUSTER = ClusterId(UUID("6a1b1c70-5a0e-4a54-8a53-64b9ef6e2a01"))


def domain(number: int) -> KeyDomainId:
    return KeyDomainId(UUID(int=0xD0_0000 + number))


def place(number: int, *, partition: int = 1, epoch: int = 0) -> KeyPlace:
    return KeyPlace(CLUSTER, PartitionId(UUID(int=partition)), domain(number), epoch, 1)


def app_role(settings: VaultSettings) -> AppRoleLogin:
    assert isinstance(settings.login, AppRoleLogin)
    return settings.login


class HeldClock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_ms(self) -> TimestampMs:
        return TimestampMs(int(self.seconds * 1000))

    def monotonic(self) -> float:
        return self.seconds


class Server:
    """OpenBao on one directory and one port, to be stopped and started between requests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority.create(directory / "authority")
        self.address = ""
        self.nodes: dict[NodeId, VaultSettings] = {}
        self._stop: Callable[[], object] = lambda: None
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._running: Future[None] = Future()

    def start(self) -> None:
        started = threading.Event()
        port = int(self.address.rsplit(":", 1)[1]) if self.address else None

        async def main() -> None:
            async with running_openbao(
                self.directory / "openbao",
                self.authority,
                cluster=CLUSTER,
                nodes=[NodeId(1), NodeId(2), NodeId(3)],
                port=port,
            ) as server:
                self._publish(server)
                started.set()
                await self._until_stopped()

        self._running = self._executor.submit(trio.run, main)
        self._running.add_done_callback(lambda _: started.set())
        started.wait()
        if self._running.done():
            self._running.result()

    def stop(self) -> None:
        if not self._running.done():
            self._stop()
        self._running.result()

    def close(self) -> None:
        self.stop()
        self._executor.shutdown()

    def provider(self, clock: HeldClock, node: int = 1) -> VaultProvider:
        return VaultProvider(self.nodes[NodeId(node)], clock)

    @contextmanager
    def custodian(self) -> Iterator[Callable[..., bytes]]:
        """Calls with a root token that ends with the context."""
        session = pinned_session(self.authority.certificate_file, "required")
        api = OpenBaoAPI(self.address, session)
        token = api.generate_root(self._material())
        try:

            def call(
                method: str,
                path: str,
                body: dict[str, object] | None = None,
                *,
                wrap_ttl: str | None = None,
                namespace: str | None = None,
            ) -> bytes:
                session.headers = {
                    **({"X-Vault-Wrap-TTL": wrap_ttl} if wrap_ttl else {}),
                    **({"X-Vault-Namespace": namespace} if namespace else {}),
                }
                try:
                    return api.call(method, path, body, token)
                finally:
                    session.headers = {}

            yield call
        finally:
            api.revoke(token)
            api.close()

    @contextmanager
    def custodian_token(self) -> Iterator[str]:
        """A short-lived token with the policy that is deployed for custodians."""
        policy = (ROOT / "deploy/vault-custodian-policy.hcl").read_text()
        with self.custodian() as call:
            call("PUT", "sys/policies/acl/memorystreamer-custodian", {"policy": policy})
            made = call(
                "POST",
                "auth/token/create",
                {"policies": ["memorystreamer-custodian"], "no_default_policy": True, "ttl": "5m"},
            )
            yield msgspec.json.decode(made)["auth"]["client_token"]

    @contextmanager
    def sealed(self) -> Iterator[None]:
        session = pinned_session(self.authority.certificate_file, "required")
        api = OpenBaoAPI(self.address, session)
        token = api.generate_root(self._material())
        api.call("PUT", "sys/seal", {}, token)
        try:
            yield
        finally:
            api.unseal(self._material())
            while api.health() != 200:
                pass
            api.revoke(token)
            api.close()

    def _publish(self, server: RunningOpenBao) -> None:
        self.address, self.nodes = server.address, server.settings

    async def _until_stopped(self) -> None:
        stop, token = trio.Event(), trio.lowlevel.current_trio_token()
        self._stop = lambda: token.run_sync_soon(stop.set)
        await stop.wait()

    def _material(self) -> UnsealMaterial:
        content = (self.directory / "openbao" / "unseal.json").read_bytes()
        return msgspec.json.decode(content, type=UnsealMaterial)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("vault"))
    running.start()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()
