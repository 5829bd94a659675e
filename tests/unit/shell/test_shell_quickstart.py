"""What the quickstart writes, keeps and refuses, without starting a process."""

import socket
import stat
from pathlib import Path
from uuid import UUID

import pytest
from certs_tooling.authority import Authority
from msgspec import structs
from typer.testing import CliRunner

from appliance.cli.main import application
from appliance.cli.quickstart import banner, configuration, preflight, profiles
from appliance.cli.quickstart.layout import Layout
from appliance.client import profile
from appliance.config import Endpoint
from appliance.errors import ConfigurationError
from appliance.types import ClusterId

VAULT = {
    "address": "https://127.0.0.1:8200",
    "ca": "../../certs/ca/ca.pem",
}
LOGIN = {"role_id": "role", "secret_id_file": "../../openbao/nodes/1.secret"}
CLUSTER = ClusterId(UUID("7b0c3c54-5b8f-4c1e-9a74-0d3f0f6a0a55"))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "memorystreamer-data")
    with layout.claimed(1):
        pass
    return layout


def wanted(
    kafka: int | None = None, native: int | None = None, address: str = VAULT["address"]
) -> configuration.Wanted:
    return configuration.Wanted(
        cluster=CLUSTER,
        ports=configuration.Ports(kafka, native),
        trust_domain="memorystreamer.local",
        provider="vault",
        keys={**VAULT, "address": address},
        login=LOGIN,
    )


def test_every_folder_is_private(layout: Layout) -> None:
    folders = [layout.root, layout.client, layout.authority.parent, layout.node(1).root]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with (
        pytest.raises(ConfigurationError, match="holds other files"),
        Layout(tmp_path).claimed(1),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_directory_s_place_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--dir"), Layout(tmp_path / "file").claimed(1):
        pass


def test_one_quickstart_at_a_time_has_a_directory(layout: Layout) -> None:
    with (
        layout.claimed(1),
        pytest.raises(ConfigurationError, match="another quickstart"),
        layout.claimed(1),
    ):
        pass


def test_the_configuration_is_written_once_and_edits_are_kept(layout: Layout) -> None:
    node = layout.node(1)
    first = configuration.write(layout, node, wanted())
    assert first.topics.auto_create
    assert first.node.data == node.data
    assert first.keys.vault is not None
    assert first.keys.vault.ca.resolve() == (layout.authority / "ca.pem").resolve()
    node.config.write_text(
        node.config.read_text().replace("auto_create = true", "auto_create = false # no")
    )
    assert not configuration.write(layout, node, wanted()).topics.auto_create
    assert "# no" in node.config.read_text()


def test_ports_and_key_server_of_this_start_win_and_nothing_else_changes(layout: Layout) -> None:
    node = layout.node(1)
    configuration.write(layout, node, wanted(19093, 19193))
    before = node.config.read_text()
    changed = configuration.write(layout, node, wanted(29093, None, "https://127.0.0.1:8300"))
    assert changed.listeners.kafka.bound.port == 29093
    assert changed.listeners.native.bound.port == 19193
    assert changed.keys.vault is not None
    assert changed.keys.vault.address == "https://127.0.0.1:8300"
    undone = node.config.read_text().replace("29093", "19093").replace(":8300", ":8200")
    assert undone == before


def test_an_edited_policy_is_kept(layout: Layout) -> None:
    configuration.write(layout, layout.node(1), wanted())
    assert "role:producer" in layout.policy.read_text()
    layout.policy.write_text("# mine\n")
    configuration.write(layout, layout.node(1), wanted())
    assert layout.policy.read_text() == "# mine\n"


def test_profiles_name_absolute_paths_that_exist_and_certificates_are_issued_once(
    layout: Layout,
) -> None:
    authority = Authority.create(layout.authority)
    kafka, native = Endpoint("127.0.0.1", 19093), Endpoint("127.0.0.1", 19193)
    profiles.write_all(layout, authority, [kafka], [native])
    issued = len(authority.list())
    for user in profiles.USERS:
        lines = (layout.client / f"{user}.properties").read_text().splitlines()
        settings = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
        assert settings["security.protocol"] == "ssl"
        assert settings["bootstrap.servers"] == "127.0.0.1:19093"
        for place in ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location"):
            assert Path(settings[place]).is_absolute()
            assert Path(settings[place]).is_file()
        assert stat.S_IMODE((layout.client / f"{user}.key").stat().st_mode) == 0o600
        ours = profile.load(layout.client / f"{user}.toml")
        assert [str(address) for address in ours.bootstrap] == ["127.0.0.1:19193"]
    profiles.write_all(layout, authority, [kafka], [native])
    assert len(authority.list()) == issued == len(profiles.USERS)


def test_a_port_in_use_is_one_line_that_names_the_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as raised:
            preflight.check_port("127.0.0.1", port, "--kafka-port")
    assert str(port) in str(raised.value)
    assert "--kafka-port" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_passphrase_file_is_one_line_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_bytes(b"correct horse\nsecond line\n")
    file.chmod(0o600)
    assert preflight.passphrase(file, new=True) == b"correct horse"
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        preflight.passphrase(file, new=True)
    with pytest.raises(ConfigurationError, match="--passphrase-file"):
        preflight.passphrase(tmp_path / "missing", new=True)


def test_without_a_terminal_a_passphrase_must_come_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "empty").open("w+") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(ConfigurationError, match="--passphrase-file"):
            preflight.passphrase(None, new=False)


def test_a_pid_file_of_some_other_process_stops_nobody(layout: Layout) -> None:
    node = layout.node(1)
    for content in ("1\n", "4194305\n", "nonsense"):
        node.pid.write_text(content)
        preflight.check_stopped(node)


def test_the_banner_s_commands_survive_spaces_in_paths(tmp_path: Path) -> None:
    shown = dict(banner.commands(Layout(tmp_path / "my data")))
    assert "my data/client/producer.properties'" in shown["write lines with any Kafka client"]


def test_a_local_keystore_serves_one_node_alone(tmp_path: Path) -> None:
    arguments = ["quickstart", "--dir", str(tmp_path / "d"), "--nodes", "3", "--keys", "local"]
    ports = ["--kafka-port", "31093", "--native-port", "31193", "--peer-port", "31293"]
    result = CliRunner().invoke(application(arguments), [*arguments, *ports])
    assert isinstance(result.exception, ConfigurationError | BaseExceptionGroup)


def test_each_node_has_ports_of_its_own_and_only_the_first_founds_the_cluster(
    layout: Layout,
) -> None:
    ports = configuration.Ports(19093, 19193, 19293)
    configs = []
    for number in (1, 2, 3):
        folder = layout.node(number)
        folder.root.mkdir(exist_ok=True)
        mine = structs.replace(wanted(), ports=ports.of(number), with_peers=True)
        configs.append(configuration.write(layout, folder, mine))
    bound = {str(each.bound) for config in configs for each in config.listeners.all.values()}
    assert len(bound) == 9
    assert [config.bootstrap.join for config in configs] == [False, True, True]
    assert len({config.node.host for config in configs}) == 3


def test_a_node_that_was_alone_gets_a_listener_for_the_others(layout: Layout) -> None:
    folder = layout.node(1)
    assert configuration.write(layout, folder, wanted()).listeners.peers is None
    mine = structs.replace(wanted(), with_peers=True)
    assert configuration.write(layout, folder, mine).listeners.peers is not None


def test_a_cluster_is_not_made_smaller_by_leaving_nodes_out(layout: Layout) -> None:
    for number in (1, 2):
        folder = layout.node(number)
        folder.root.mkdir(exist_ok=True)
        configuration.write(layout, folder, structs.replace(wanted(), with_peers=True))
    arguments = ["quickstart", "--dir", str(layout.root), "--nodes", "1"]
    result = CliRunner().invoke(application(arguments), arguments)
    assert "cluster remove" in str(result.exception)
