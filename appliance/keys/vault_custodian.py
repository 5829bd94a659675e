"""What a key-custodian does in Vault, with a token of their own: rotate, retire, destroy.

Rules: the token is handed in, kept in this object only, and never a node's; every outcome is
checked by reading the key again, never believed because a call succeeded. Errors are ours, without
Vault's text, as everywhere in `keys`.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from appliance.errors import KeyGone, KeysRefused, KeysUnavailable
from appliance.keys.vault_calls import VaultClient
from appliance.keys.vault_failures import Failure, advice, passing
from appliance.keys.vault_replies import KeyState
from appliance.keys.vault_settings import VaultServer
from appliance.keys.vault_tls import pinned_session
from appliance.keys.vault_transit import Transit
from appliance.ports import DomainStatus
from appliance.types import KeyDomainId

Answer = TypeVar("Answer")


class VaultCustodian:
    """A `ports.KeyCustodian` on one Transit mount."""

    def __init__(self, server: VaultServer, token: str) -> None:
        """Calls nothing yet. Raises ConfigurationError when the authority's file is unusable."""
        session = pinned_session(server.ca_file, server.key_exchange, connections=1)
        self._server = server
        self._client = VaultClient(server, session, token)
        self._transit = Transit(self._client, server.transit_mount)

    def close(self) -> None:
        """Closes the connection to Vault."""
        self._client.close()

    async def status(self, domain: KeyDomainId) -> DomainStatus:
        """See `ports.KeyCustodian`."""
        return (await self._state(domain)).status

    async def rotate(self, domain: KeyDomainId) -> DomainStatus:
        """See `ports.KeyCustodian`."""
        before = await self.status(domain)
        await self._ask("rotate", domain, self._transit.rotate)
        after = await self.status(domain)
        if after.newest_version <= before.newest_version:
            raise KeysRefused(f"Vault still has version {after.newest_version} of domain {domain}")
        return after

    async def retire(self, domain: KeyDomainId, oldest_version: int) -> DomainStatus:
        """See `ports.KeyCustodian`."""
        settings: dict[str, object] = {"min_decryption_version": oldest_version}
        configure = partial(self._transit.configure, settings=settings)
        await self._ask("configure", domain, configure)
        after = await self.status(domain)
        if after.oldest_version < oldest_version:
            raise KeysRefused(f"Vault still opens version {after.oldest_version} of {domain}")
        return after

    async def destroy(self, domain: KeyDomainId) -> None:
        """See `ports.KeyCustodian`; a key that is gone already is gone."""
        try:
            await self._state(domain)
            allow: dict[str, object] = {"deletion_allowed": True}
            await self._ask("configure", domain, partial(self._transit.configure, settings=allow))
            await self._ask("delete", domain, self._transit.delete_key)
            await self._state(domain)
        except KeyGone:
            return
        raise KeysRefused(f"Vault still has the key of domain {domain}: delete it by hand")

    async def _state(self, domain: KeyDomainId) -> KeyState:
        return await self._ask("read", domain, self._transit.read_key)

    async def _ask(
        self, what: str, domain: KeyDomainId, call: Callable[[str], Answer | Failure]
    ) -> Answer:
        """One call, not tried again: a custodian sees what happened and decides."""
        outcome = await self._client.run(partial(call, self._server.key_name(domain)))
        if not isinstance(outcome, Failure):
            return outcome
        if passing(outcome):
            raise KeysUnavailable(advice(outcome, self._server.address))
        if outcome is Failure.MISSING:
            raise KeyGone(f"Vault has no key of domain {domain}")
        raise KeysRefused(
            f"Vault does not let this token {what} the key of domain {domain}: it needs a "
            "custodian's token whose policy allows it (deploy/vault-custodian-policy.hcl), and "
            "that has not expired"
        )
