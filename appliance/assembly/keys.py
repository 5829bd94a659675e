"""Where a node's keys come from: the local keystore, or Vault's keys on lease."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import trio
from msgspec import Struct

from appliance.assembly.control import Control
from appliance.config import NodeConfig, VaultKeys
from appliance.invariant import InvariantViolation
from appliance.keys.lease import LeasedKeys
from appliance.observe.system import SystemClock
from appliance.ports import KeyProvider
from appliance.types import ClusterId, KeyDomainId

if TYPE_CHECKING:
    from appliance.keys.vault_settings import VaultLogin
    from appliance.observe.metrics import Metrics


class NodeKeys(Struct, frozen=True):
    """Where a node's keys come from, and what returns when it must do without them."""

    provider: KeyProvider
    until_sealed: Callable[[], Awaitable[None]]
    next_sealed: Callable[[], Awaitable[KeyDomainId]] = trio.sleep_forever
    """The next domain whose keys may not be used any more."""
    show: "Callable[[Metrics], None]" = lambda _: None
    """Has the metrics follow how the node stands with its keys."""


async def reach_keys(
    config: NodeConfig, passphrase: bytes | None, nursery: trio.Nursery, control: Control
) -> NodeKeys:
    """Step 2: the provider; Vault's with leases that are renewed in `nursery`.

    Only the chosen provider's libraries are loaded: they are a good part of idle memory.
    """
    keys = config.keys
    if keys.local is not None:
        from appliance.keys.local import LocalKeystore  # noqa: PLC0415 - see above

        path = keys.local.keystore
        store = await trio.to_thread.run_sync(LocalKeystore.open, path, passphrase or b"")
        return NodeKeys(store, trio.sleep_forever)
    if keys.vault is None:
        raise InvariantViolation("a configuration has the table of its provider")
    provider = _vault(keys.vault, config.node.cluster)
    leased = LeasedKeys(
        provider,
        SystemClock(),
        lease_s=keys.vault.lease_s,
        spares=keys.vault.spare_data_keys,
        report=control.on_keys,
    )
    await nursery.start(leased.run)
    until_sealed = partial(leased.until_sealed, config.node.domain)

    def show(metrics: "Metrics") -> None:
        metrics.follow_keys(leased.standings, leased.refusals)

    return NodeKeys(leased, until_sealed, leased.next_sealed, show)


def _vault(vault: VaultKeys, cluster: ClusterId) -> KeyProvider:
    from appliance.keys.vault import VaultProvider  # noqa: PLC0415 - see `reach_keys`
    from appliance.keys.vault_settings import VaultSettings  # noqa: PLC0415 - see `reach_keys`

    settings = VaultSettings(
        address=vault.address,
        ca_file=vault.ca,
        cluster=cluster,
        login=_login(vault),
        transit_mount=vault.transit_mount,
        key_prefix=vault.key_prefix,
        namespace=vault.namespace,
        key_exchange=vault.key_exchange,
    )
    return VaultProvider(settings, SystemClock())


def _login(vault: VaultKeys) -> "VaultLogin":
    from appliance.keys import vault_settings as logins  # noqa: PLC0415 - see `reach_keys`

    if (role := vault.approle) is not None:
        return logins.AppRoleLogin(
            role_id=role.role_id,
            secret_id_file=role.secret_id_file,
            wrapping_token_file=role.wrapping_token_file,
            mount=role.mount,
        )
    if (account := vault.kubernetes) is not None:
        return logins.KubernetesLogin(
            role=account.role, token_file=account.token_file, mount=account.mount
        )
    if (pair := vault.certificate) is not None:
        return logins.CertificateLogin(
            certificate=pair.certificate, key=pair.key, role=pair.role, mount=pair.mount
        )
    raise InvariantViolation("a configuration has one login to Vault")
