"""The key provider that the quickstart makes ready: OpenBao beside the nodes, or a local keystore.

OpenBao keeps the port that it got at first, so that a node which waits for it finds it again. A
keystore is made once; whether a passphrase opens it is for the node to say.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import trio
from certs_tooling.authority import Authority
from msgspec import Struct

from appliance import config
from appliance.cli.quickstart import preflight
from appliance.cli.quickstart.layout import Layout
from appliance.cli.quickstart.nodes import manner
from appliance.cli.quickstart.openbao import RunningOpenBao, running_openbao
from appliance.errors import ConfigurationError
from appliance.invariant import InvariantViolation
from appliance.keys.vault_settings import AppRoleLogin, VaultLogin, VaultSettings
from appliance.types import ClusterId, NodeId


class KeySource(Struct, frozen=True):
    """A provider that is ready: the nodes' `[keys]` table, and the passphrase if there is one."""

    settings: dict[str, str]
    """What `[keys.vault]` or `[keys.local]` says."""
    logins: dict[NodeId, dict[str, str]] = {}
    """What `[keys.vault.approle]` of each node says."""
    passphrase: bytes | None = None


@asynccontextmanager
async def trial_vault(
    layout: Layout,
    authority: Authority,
    cluster: ClusterId,
    nodes: Sequence[NodeId],
    stored: config.VaultKeys | None,
    report: Callable[[str], None],
) -> AsyncIterator[KeySource]:
    """Runs OpenBao as long as the context is open; says on stderr when it ends by itself."""
    async with (
        running_openbao(
            layout.openbao, authority, cluster=cluster, nodes=nodes, port=_port(stored)
        ) as server,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_watch, server, report)
        logins = {node: _login(layout, server.settings[node].login) for node in nodes}
        yield KeySource(_settings(layout, server.settings[nodes[0]]), logins)
        nursery.cancel_scope.cancel()


def local_keystore(layout: Layout, file: Path | None) -> KeySource:
    """Makes the keystore if it is missing. Raises ConfigurationError."""
    from appliance.keys.local import LocalKeystore  # noqa: PLC0415 - Argon2 only where it is used

    new = not layout.keystore.exists()
    passphrase = preflight.passphrase(file, new=new)
    if new:
        LocalKeystore.create(layout.keystore, passphrase)
    return KeySource({"keystore": f"../../{layout.keystore.name}"}, passphrase=passphrase)


async def _watch(server: RunningOpenBao, report: Callable[[str], None]) -> None:
    code = await server.wait_ended()
    report(
        f"OpenBao ended {manner(code)}: the node goes on with the keys that it holds;"
        " stop and start the quickstart to bring OpenBao back"
    )


def _settings(layout: Layout, vault: VaultSettings) -> dict[str, str]:
    return {
        "address": vault.address,
        "ca": _relative(layout, vault.ca_file),
        "transit_mount": vault.transit_mount,
        "key_prefix": vault.key_prefix,
        "key_exchange": vault.key_exchange,
    }


def _login(layout: Layout, login: VaultLogin) -> dict[str, str]:
    if not isinstance(login, AppRoleLogin):
        raise InvariantViolation("the trial OpenBao admits nodes by AppRole")
    return {
        "role_id": login.role_id,
        "secret_id_file": _relative(layout, login.secret_id_file),
        "mount": login.mount,
    }


def _relative(layout: Layout, path: Path) -> str:
    return f"../../{path.relative_to(layout.root)}"


def _port(stored: config.VaultKeys | None) -> int | None:
    """The port of an earlier start if it is free, else None for any."""
    port = urlsplit(stored.address).port if stored is not None else None
    if port is None:
        return None
    try:
        preflight.check_port("127.0.0.1", port, "")
    except ConfigurationError:
        return None
    return port
