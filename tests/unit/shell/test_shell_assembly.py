"""What a node reads before it starts, and how a fault of its own ends it."""

import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from appliance import assembly
from appliance.assembly import node
from appliance.cli.node_start import prepare
from appliance.config import NodeConfig, parse
from appliance.errors import ConfigurationError, KeysRefused

TEXT = """
[node]
id = 1
cluster = "7b0c3c54-5b8f-4c1e-9a74-0d3f0f6a0a55"
data = "data"
[listeners.kafka]
bind = "127.0.0.1:9093"
[listeners.native]
bind = "127.0.0.1:9193"
[tls]
certificate = "node.pem"
key = "node.key"
ca = "ca.pem"
trust_domain = "memorystreamer.local"
[keys]
provider = "local"
[keys.local]
keystore = "keystore"
[bootstrap]
policy = "policy.csv"
"""


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process under test is pytest's own: it keeps its dumps and its logging."""
    monkeypatch.setattr(node, "_keep_memory", lambda _: None)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(TEXT)
    return path


def config(tmp_path: Path) -> NodeConfig:
    return parse(TEXT, base=tmp_path)


def test_the_passphrase_comes_from_the_descriptor_without_its_line_end(file: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"correct horse\n")
    os.close(writer)
    assert prepare(file, reader, "info").passphrase == b"correct horse"


def test_the_passphrase_comes_from_the_configured_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_bytes(b"battery staple")
    file.write_text(TEXT.replace("[bootstrap]", 'passphrase_file = "passphrase"\n[bootstrap]'))
    assert prepare(file, None, "info").passphrase == b"battery staple"


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 1025])
def test_a_passphrase_has_bounds(file: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "passphrase").write_bytes(content)
    file.write_text(TEXT.replace("[bootstrap]", 'passphrase_file = "passphrase"\n[bootstrap]'))
    with pytest.raises(ConfigurationError, match="1 to 1024 bytes"):
        prepare(file, None, "info")


def test_no_passphrase_at_all_names_both_ways(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"passphrase_file or give --passphrase-fd"):
        prepare(file, None, "info")


def test_a_configuration_that_is_missing_or_no_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--config: cannot read"):
        prepare(tmp_path / "missing", None, "info")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        prepare(tmp_path / "binary", None, "info")


def test_an_unknown_log_level_is_refused(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="--log-level"):
        prepare(file, None, "trace")


def test_a_cluster_is_not_created_with_a_policy_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "policy.csv").write_text("p, someone\n")
    with pytest.raises(ConfigurationError):
        assembly.create(config(tmp_path), b"x")
    assert not (tmp_path / "data").exists()


def test_missing_certificates_are_named_before_keys_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"node\.pem"):
        assembly.run(config(tmp_path), b"x", announce=print)


def test_a_fault_is_logged_and_ends_the_process_with_its_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=stream))

    async def faulty(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(node, "_run", faulty)
    with pytest.raises(SystemExit) as ended:
        assembly.run(config(tmp_path), b"x", announce=print)
    assert ended.value.code == node.FAULT
    assert "ZeroDivisionError" in stream.getvalue()


def test_what_fails_on_purpose_keeps_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise ExceptionGroup("nursery", [KeysRefused("ask the custodian")])

    monkeypatch.setattr(node, "_run", refused)
    with pytest.raises(ExceptionGroup) as raised:
        assembly.run(config(tmp_path), b"x", announce=print)
    assert raised.group_contains(KeysRefused, match="custodian")
