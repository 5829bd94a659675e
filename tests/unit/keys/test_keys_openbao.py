"""The OpenBao of the quickstart: what it leaves on disk, and how it comes back."""

import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from certs_tooling.authority import Authority

from appliance.cli.quickstart import openbao
from appliance.cli.quickstart.openbao import running_openbao
from appliance.errors import ConfigurationError
from appliance.keys.vault import VaultProvider
from appliance.keys.vault_settings import VaultSettings
from appliance.types import NodeId

from .conftest import CLUSTER, HeldClock, Server, app_role


def secrets_of(server: Server) -> list[bytes]:
    held = [app_role(settings).secret_id_file.read_bytes() for settings in server.nodes.values()]
    return [*held, server._material().unseal_key.encode()]


def test_only_its_owner_can_read_what_it_leaves(server: Server) -> None:
    root = server.directory / "openbao"
    for path in (root, *root.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0 or path.name == "tls.pem", path


def test_no_secret_is_in_arguments_environment_or_log(server: Server) -> None:
    root = server.directory / "openbao"
    process = Path("/proc") / (root / "pid").read_text()
    seen = b"".join((process / name).read_bytes() for name in ("cmdline", "environ"))
    seen += (root / "openbao.log").read_bytes() + (root / "config.json").read_bytes()
    assert b"config.json" in seen
    for secret in secrets_of(server):
        assert secret not in seen


def test_no_root_token_is_left(server: Server) -> None:
    with server.custodian() as call:
        listed = call("GET", "auth/token/accessors?list=true")
        assert listed.count(b'"') > 0
        own = [
            accessor
            for accessor in listed.decode().split('"')
            if accessor.isalnum() and len(accessor) == 24
        ]
        policies = [
            call("POST", "auth/token/lookup-accessor", {"accessor": accessor}) for accessor in own
        ]
    assert sum(b'"policies":["root"]' in reply for reply in policies) == 1


def test_it_listens_on_this_machine_only(server: Server) -> None:
    assert server.address.startswith("https://127.0.0.1:")


def started(server: Server, directory: Path, port: int | None) -> None:
    async def main() -> None:
        async with running_openbao(
            directory, server.authority, cluster=CLUSTER, nodes=[], port=port
        ):
            raise AssertionError("it must not start")

    trio.run(main)


def test_a_port_in_use_is_named(server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} .* choose another"):
            started(server, tmp_path / "openbao", port)


def test_a_directory_in_use_is_named_and_its_server_left_alone(server: Server) -> None:
    with pytest.raises(ConfigurationError, match="in use by another quickstart"):
        started(server, server.directory / "openbao", None)
    assert trio.run(server.provider(HeldClock()).health).serving


def test_a_missing_binary_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openbao, "find_spec", lambda _: None)
    monkeypatch.setattr(openbao.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ConfigurationError, match="--keys local"):
        started(server, tmp_path / "openbao", None)


@contextmanager
def left_running(directory: Path, authority: Authority) -> Iterator[subprocess.Popen[bytes]]:
    """The server as a killed quickstart leaves it behind."""
    openbao._prepare(directory, authority, None)
    command = [str(openbao.find_binary()), "server", "-config", str(directory / "config.json")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (directory / "pid").write_text(str(process.pid))
    until = time.monotonic() + 10
    while not openbao._is_ours(process.pid, directory):  # its arguments come with its program
        assert time.monotonic() < until, "the server did not begin"
        time.sleep(0.005)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_it_comes_back_after_being_left_running_and_admits_more_nodes(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "authority")
    directory, clock = tmp_path / "openbao", HeldClock()

    async def start(*nodes: int) -> dict[NodeId, VaultSettings]:
        async with running_openbao(
            directory, authority, cluster=CLUSTER, nodes=[NodeId(n) for n in nodes]
        ) as server:
            for settings in server.settings.values():
                assert (await VaultProvider(settings, clock).health()).serving
            return server.settings

    first = trio.run(start, 1)
    with left_running(directory, authority) as left_over:
        second = trio.run(start, 1, 2)
        assert left_over.poll() is not None
    assert second[NodeId(1)].login == first[NodeId(1)].login
    (directory / "unseal.json").unlink()
    with pytest.raises(ConfigurationError, match=r"unseal\.json is missing"):
        trio.run(start, 1)
    assert not (directory / "pid").exists()
