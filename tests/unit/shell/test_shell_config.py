"""What a node's configuration accepts, and what each refusal says."""

from pathlib import Path

import pytest

from appliance.config import Endpoint, NodeConfig, parse
from appliance.errors import ConfigurationError

GOOD = """
[node]
id = 1
cluster = "7b0c3c54-5b8f-4c1e-9a74-0d3f0f6a0a55"
data = "data"
[listeners.kafka]
bind = "127.0.0.1:9093"
[listeners.native]
bind = "127.0.0.1:9193"
[tls]
certificate = "/etc/node.pem"
key = "/etc/node.key"
ca = "/etc/ca.pem"
trust_domain = "memorystreamer.local"
[keys]
provider = "vault"
[keys.vault]
address = "https://127.0.0.1:8200"
ca = "vault.pem"
[keys.vault.approle]
role_id = "role"
secret_id_file = "secret"
[bootstrap]
policy = "policy.csv"
"""
BASE = Path("/srv/node")


def read(text: str) -> NodeConfig:
    return parse(text, base=BASE)


def refusal(old: str, new: str) -> str:
    assert old in GOOD
    with pytest.raises(ConfigurationError) as raised:
        read(GOOD.replace(old, new, 1))
    return str(raised.value)


def test_paths_are_relative_to_the_file_unless_absolute() -> None:
    config = read(GOOD)
    assert config.node.data == BASE / "data"
    assert config.tls.certificate == Path("/etc/node.pem")


def test_defaults_are_the_safe_ones() -> None:
    config = read(GOOD)
    assert config.topics.auto_create is False
    assert config.tls.key_exchange == "preferred"
    assert config.keys.vault is not None
    assert config.keys.vault.key_exchange == "required"


def test_what_clients_are_told_is_the_bound_address_unless_said() -> None:
    assert read(GOOD).listeners.kafka.public == Endpoint("127.0.0.1", 9093)
    text = GOOD.replace('"127.0.0.1:9093"', '"0.0.0.0:9093"\nadvertised = "broker.example:19093"')
    assert str(read(text).listeners.kafka.public) == "broker.example:19093"


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("id = 1", "id = 1\nidd = 2", "node.idd: no such setting"),
        ("id = 1", "", "node.id: is missing"),
        ("id = 1", "id = 0", "node.id"),
        ("id = 1", 'id = "1"', "node.id"),
        ("id = 1", "id =", "not TOML"),
        ('"7b0c3c54-5b8f-4c1e-9a74-0d3f0f6a0a55"', '"mine"', "node.cluster"),
        ('"data"', '""', "node.data"),
        ("127.0.0.1:9193", "127.0.0.1", "listeners.native"),
        ("127.0.0.1:9193", "127.0.0.1:65536", "listeners.native"),
        ("127.0.0.1:9193", "127.0.0.1:0", "listeners.native: 'bind' names no port"),
        ("127.0.0.1:9193", "127.0.0.1:9093", "both bind port 9093"),
        ("127.0.0.1:9193", "0.0.0.0:9193", "listeners.native: 'bind'"),
        ("https://", "http://", "keys.vault: 'address' must be https"),
        ('provider = "vault"', 'provider = "local"', "add the table [keys.local]"),
        ("[bootstrap]", '[keys.local]\nkeystore = "k"\n[bootstrap]', "remove the other"),
        ("[bootstrap]", "[topics]\ndefault_replication = 99\n[bootstrap]", "topics.default_repl"),
        ("[bootstrap]", "[listeners.plaintext]\nbind='a:1'\n[bootstrap]", "listeners.plaintext"),
    ],
)
def test_a_refusal_names_the_setting(old: str, new: str, names: str) -> None:
    assert names in refusal(old, new)


@pytest.mark.parametrize("setting", ["tls = false", "plaintext = true", 'protocol = "PLAINTEXT"'])
def test_no_setting_makes_a_plaintext_listener(setting: str) -> None:
    assert "no such setting" in refusal("[listeners.native]", f"{setting}\n[listeners.native]")


def test_no_setting_names_code() -> None:
    """A dotted name, a class or a module is nowhere among the settings (CVE-2023-25194)."""
    words = {"class", "module", "factory", "import", "plugin", "callable", "handler"}
    for table in ("node", "tls", "keys", "topics"):
        assert words.isdisjoint(getattr(read(GOOD), table).__struct_fields__)


@pytest.mark.parametrize("text", ["[::1]:9093", "broker.example:1", "127.0.0.1:0"])
def test_endpoints_print_as_they_are_written(text: str) -> None:
    assert str(Endpoint.parse(text)) == text
