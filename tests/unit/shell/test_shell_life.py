"""A node's life inside this process: real storage, TLS and broker, keys that come and go."""

import gc
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from certs_tooling.authority import Authority

from appliance import assembly
from appliance.assembly import node
from appliance.assembly.control import Control
from appliance.assembly.keys import NodeKeys
from appliance.assembly.settings import server_contexts
from appliance.config import NodeConfig, parse
from appliance.errors import ConfigurationError, KeyProviderError, KeysUnavailable
from appliance.keys.local import LocalKeystore
from appliance.ports import DataKey, KeyHealth, KeyPlace, SecretKey, WrapAt, WrappedKey
from appliance.types import KeyDomainId

PASSPHRASE = b"correct horse"
TEXT = """
[node]
id = 1
cluster = "7b0c3c54-5b8f-4c1e-9a74-0d3f0f6a0a55"
data = "data"
[listeners.kafka]
bind = "127.0.0.1:{kafka}"
[listeners.native]
bind = "127.0.0.1:{native}"
[tls]
certificate = "node.pem"
key = "node.key"
ca = "ca/ca.pem"
crl = "ca/crl.pem"
trust_domain = "memorystreamer.local"
[keys]
provider = "local"
[keys.local]
keystore = "keystore"
[bootstrap]
policy = "policy.csv"
"""


class AwayAtTimes:
    """A keystore that cannot be reached while `away`."""

    def __init__(self, store: LocalKeystore) -> None:
        self.store = store
        self.away = False

    def _reached(self) -> LocalKeystore:
        if self.away:
            raise KeysUnavailable("the key server is sealed: unseal it")
        return self.store

    async def create_domain(self, domain: KeyDomainId) -> None:
        await self._reached().create_domain(domain)

    async def new_data_key(self, place: KeyPlace) -> DataKey:
        return await self._reached().new_data_key(place)

    async def unwrap(self, place: KeyPlace, wrapped: WrappedKey) -> SecretKey:
        return await self._reached().unwrap(place, wrapped)

    async def unwrap_all(self, wraps: list[WrapAt]) -> list[SecretKey | KeyProviderError]:
        return await self._reached().unwrap_all(wraps)

    def epoch(self, domain: KeyDomainId) -> int:
        return self.store.epoch(domain)

    async def health(self) -> KeyHealth:
        return KeyHealth(serving=not self.away)


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = {"kafka": one.getsockname()[1], "native": other.getsockname()[1]}
    authority = Authority.create(tmp_path / "ca")
    issued = authority.issue_node(1, ["127.0.0.1"])
    issued.save(certificate=tmp_path / "node.pem", key=tmp_path / "node.key")
    (tmp_path / "policy.csv").write_text("p, User:admin, READ, TOPIC, *, allow\n")
    return parse(TEXT.format(**ports), base=tmp_path)


@pytest.fixture
def keys(config: NodeConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwayAtTimes]:
    monkeypatch.setattr(node, "_keep_memory", lambda _: None)
    monkeypatch.setattr(node, "RETRY_S", 0.0)
    assert config.keys.local is not None
    LocalKeystore.create(config.keys.local.keystore, PASSPHRASE)
    assembly.create(config, PASSPHRASE)
    yield AwayAtTimes(LocalKeystore.open(config.keys.local.keystore, PASSPHRASE))
    gc.unfreeze()


def live(
    config: NodeConfig,
    keys: AwayAtTimes,
    *,
    on_ready: Callable[[Control, trio.Event], None],
) -> bool:
    """One life of the node, which says whether it was ended by a stop.

    `on_ready` gets what stops it and what ends the lease.
    """
    control = Control()
    control.contexts = server_contexts(config)
    sealed = trio.Event()

    async def main() -> bool:
        with trio.fail_after(20):
            await node._live(
                config,
                NodeKeys(keys, sealed.wait),
                control,
                lambda line: on_ready(control, sealed),
            )
        return control.stopping.is_set()

    return trio.run(main)


def stop(control: Control, _: trio.Event) -> None:
    control.stopping.set()


def test_a_stopped_node_has_served_and_lives_again(config: NodeConfig, keys: AwayAtTimes) -> None:
    assert live(config, keys, on_ready=stop)
    assert live(config, keys, on_ready=stop)


def test_the_end_of_the_lease_closes_the_node_and_asks_for_another_try(
    config: NodeConfig, keys: AwayAtTimes
) -> None:
    assert not live(config, keys, on_ready=lambda _, sealed: sealed.set())
    assert live(config, keys, on_ready=stop)


def test_without_keys_nothing_listens_and_the_next_try_serves(
    config: NodeConfig, keys: AwayAtTimes
) -> None:
    def unexpected(*_: object) -> None:
        raise AssertionError("the node served without keys")

    keys.away = True
    assert not live(config, keys, on_ready=unexpected)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", config.listeners.kafka.bound.port)) != 0
    keys.away = False
    assert live(config, keys, on_ready=stop)


def test_a_directory_is_made_once(config: NodeConfig, keys: AwayAtTimes) -> None:
    with pytest.raises((ConfigurationError, ExceptionGroup)):
        assembly.create(config, PASSPHRASE)


def test_a_node_never_serves_another_node_s_directory(
    config: NodeConfig, keys: AwayAtTimes, tmp_path: Path
) -> None:
    ports = {
        "kafka": config.listeners.kafka.bound.port,
        "native": config.listeners.native.bound.port,
    }
    other = parse(TEXT.format(**ports).replace("id = 1", "id = 2"), base=tmp_path)
    with pytest.raises(ConfigurationError, match="belongs to node 1"):
        live(other, keys, on_ready=stop)
