"""Data keys from Vault's Transit, or OpenBao's.

Rules (DESIGN section 6):
- a wrap is bound to its place by Transit's derivation `context`;
- host, mount and key name come from the settings and a UUID, never from bytes of a data directory;
- causes are told apart by status and by reading the key, never by Vault's message; nothing that a
  library raised leaves `vault_calls`;
- a call is tried again, jittered, while Vault is away, and after one fresh login when refused.

Each key passes through an immutable `str` in requests, JSON and hvac on its way here; those copies
cannot be wiped.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import trio

from appliance.errors import KeyGone, KeyProviderError, KeysRefused, KeysUnavailable, WrongKey
from appliance.keys import place as places
from appliance.keys import vault_logins
from appliance.keys.vault_calls import CALLS_AT_ONCE, VaultClient
from appliance.keys.vault_failures import ALARMS, Failure, advice, passing, refused
from appliance.keys.vault_login import Grant, Login
from appliance.keys.vault_replies import KeyState, version_of, wrap_text
from appliance.keys.vault_settings import CertificateLogin, VaultSettings
from appliance.keys.vault_tls import pinned_session
from appliance.keys.vault_transit import MAX_BATCH, Transit, Wrap
from appliance.ports import (
    Clock,
    DataKey,
    DomainStatus,
    KeyHealth,
    KeyPlace,
    SecretKey,
    WrapAt,
    WrappedKey,
)
from appliance.types import KeyDomainId

ATTEMPTS = 3
FIRST_PAUSE_S = 0.05
KEY_CHECK_S = 600
"""How long a key's settings are taken for unchanged."""

Answer = TypeVar("Answer")
Batch = Callable[[str, Sequence[Wrap]], list[Answer | None] | Failure]
"""A call for up to MAX_BATCH wraps of one key."""


class VaultProvider:
    """A `ports.KeyProvider` on one Transit mount, for one cluster."""

    def __init__(
        self,
        settings: VaultSettings,
        clock: Clock,
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Calls nothing yet. Raises ConfigurationError when a TLS file is unusable."""
        login = settings.login
        pair = (login.certificate, login.key) if isinstance(login, CertificateLogin) else None
        session = pinned_session(
            settings.ca_file, settings.key_exchange, connections=CALLS_AT_ONCE, certificate=pair
        )
        self._settings = settings
        self._clock = clock
        self._random_bytes = random_bytes
        self._client = VaultClient(settings, session)
        self._transit = Transit(self._client, settings.transit_mount)
        self._login = Login(_LoginCalls(self._client, settings), clock)
        self._checked: dict[KeyDomainId, float] = {}
        self._versions: dict[KeyDomainId, int] = {}

    async def create_domain(self, domain: KeyDomainId) -> None:
        """See `ports.KeyProvider`; the key that was there before is checked like a new one."""
        outcome = await self._ask(partial(self._transit.create_key, self._name(domain)))
        if isinstance(outcome, Failure):
            raise KeysRefused(f"Vault does not make the key of domain {domain}: see the policy")
        await self._check_key(domain)

    async def new_data_key(self, place: KeyPlace) -> DataKey:
        """See `ports.KeyProvider`. Raises KeyGone when the domain has no key."""
        self._check_cluster(place)
        await self._check_key_once(place.domain)
        name, context = self._name(place.domain), places.context(place)
        outcome = await self._ask(partial(self._transit.data_key, name, context))
        if isinstance(outcome, Failure):
            await self._check_key(place.domain)
            raise KeysRefused(f"Vault makes no data key in domain {place.domain}")
        return outcome

    async def unwrap(self, place: KeyPlace, wrapped: WrappedKey) -> SecretKey:
        """See `ports.KeyProvider`.

        Raises KeyGone when the domain has no key, KeysRefused when the wrap's version is retired,
        and WrongKey when the wrap is not of this place, not of this Vault, or was changed.
        """
        self._check_cluster(place)
        text = wrap_text(wrapped)
        await self._check_key_once(place.domain)
        name, context = self._name(place.domain), places.context(place)
        outcome = await self._ask(partial(self._transit.decrypt, name, context, text))
        if isinstance(outcome, Failure):
            state = await self._check_key(place.domain)
            raise state.explain(place, version_of(wrapped))
        return outcome

    async def unwrap_all(self, wraps: Sequence[WrapAt]) -> list[SecretKey | KeyProviderError]:
        """See `ports.KeyProvider`; one call for each domain and MAX_BATCH wraps."""
        return await self._in_batches(wraps, self._transit.decrypt_batch)

    async def rewrap_all(self, wraps: Sequence[WrapAt]) -> list[WrappedKey | KeyProviderError]:
        """See `ports.KeyProvider`; one call for each domain and MAX_BATCH wraps."""
        return await self._in_batches(wraps, self._transit.rewrap_batch)

    async def status(self, domain: KeyDomainId) -> DomainStatus:
        """See `ports.KeyProvider`."""
        return (await self._check_key(domain)).status

    def epoch(self, domain: KeyDomainId) -> int:
        """See `ports.KeyProvider`: a key epoch is the version that the domain's key had then."""
        return self._versions.get(domain, 1)

    def version_of(self, wrapped: WrappedKey) -> int:
        """See `ports.KeyProvider`."""
        return version_of(wrapped)

    def lease_left_s(self, domain: KeyDomainId) -> float | None:
        """See `ports.KeyProvider`: nothing is held here."""
        return None

    @property
    def lease_s(self) -> float:
        """See `ports.KeyProvider`: nothing is held here."""
        return 0.0

    def forget(self, domain: KeyDomainId) -> None:
        """See `ports.KeyProvider`; nothing is held here but what is known of the key."""
        self._checked.pop(domain, None)
        self._versions.pop(domain, None)

    async def health(self) -> KeyHealth:
        """Whether Vault serves and this node can log in; the advice is for an operator."""
        failure = await self._client.run(self._client.health)
        if failure is None:
            failure = await self._login.ensure()
        if failure is None:
            return KeyHealth(serving=True)
        return KeyHealth(False, advice(failure, self._settings.address), failure in ALARMS)

    def close(self) -> None:
        """Closes the connections to Vault."""
        self._client.close()

    def _name(self, domain: KeyDomainId) -> str:
        return self._settings.key_name(domain)

    def _check_cluster(self, place: KeyPlace) -> None:
        if place.cluster != self._settings.cluster:
            raise WrongKey("this key belongs to another cluster than the one configured")

    async def _check_key_once(self, domain: KeyDomainId) -> None:
        if self._clock.monotonic() >= self._checked.get(domain, 0.0):
            await self._check_key(domain)

    async def _check_key(self, domain: KeyDomainId) -> KeyState:
        """Raises KeyGone or KeysRefused unless the domain's key is there and as it must be."""
        self._checked.pop(domain, None)
        outcome = await self._ask(partial(self._transit.read_key, self._name(domain)))
        if outcome is Failure.MISSING:
            raise KeyGone(
                f"Vault has no key of domain {domain}: it was deleted, or this is another "
                "cluster's Vault"
            )
        if isinstance(outcome, Failure):
            raise KeysRefused(f"Vault does not let this node read the key of domain {domain}")
        outcome.check(domain)
        self._checked[domain] = self._clock.monotonic() + KEY_CHECK_S
        self._versions[domain] = outcome.latest_version
        return outcome

    async def _in_batches(
        self, wraps: Sequence[WrapAt], call: Batch[Answer]
    ) -> list[Answer | KeyProviderError]:
        """Every wrap's answer or error, in order, however the calls were put together."""
        outcomes: dict[int, Answer | KeyProviderError] = {}
        waiting: dict[KeyDomainId, list[tuple[int, WrapAt]]] = {}
        for number, wrap in enumerate(wraps):
            try:
                self._check_cluster(wrap.place)
                wrap_text(wrap.wrapped)
            except WrongKey as error:
                outcomes[number] = error
            else:
                waiting.setdefault(wrap.place.domain, []).append((number, wrap))
        for domain, numbered in waiting.items():
            for start in range(0, len(numbered), MAX_BATCH):
                part = numbered[start : start + MAX_BATCH]
                answers = await self._batch(domain, [wrap for _, wrap in part], call)
                outcomes.update(zip((number for number, _ in part), answers, strict=True))
        return [outcomes[number] for number in range(len(wraps))]

    async def _batch(
        self, domain: KeyDomainId, wraps: Sequence[WrapAt], call: Batch[Answer]
    ) -> list[Answer | KeyProviderError]:
        """One call; what does not open is explained by the state of the key."""
        gone: KeyProviderError | None = None
        try:
            await self._check_key_once(domain)
        except KeyGone as error:
            gone = error
        if gone is not None:
            return [gone for _ in wraps]
        texts = [(places.context(wrap.place), wrap_text(wrap.wrapped)) for wrap in wraps]
        outcome = await self._ask(partial(call, self._name(domain), texts))
        answers = [None for _ in wraps] if isinstance(outcome, Failure) else outcome
        if all(answer is not None for answer in answers):
            return [answer for answer in answers if answer is not None]
        return await self._explained(domain, wraps, answers)

    async def _explained(
        self, domain: KeyDomainId, wraps: Sequence[WrapAt], answers: Sequence[Answer | None]
    ) -> list[Answer | KeyProviderError]:
        gone: KeyProviderError | None = None
        state = KeyState()
        try:
            state = await self._check_key(domain)
        except KeyGone as error:
            gone = error
        return [
            answer
            if answer is not None
            else gone or state.explain(wrap.place, version_of(wrap.wrapped))
            for wrap, answer in zip(wraps, answers, strict=True)
        ]

    async def _ask(self, call: Callable[[], Answer | Failure]) -> Answer | Failure:
        """One call, tried again while Vault is away, and after one fresh login when refused.

        Returns MISSING or INVALID for the caller to explain; raises KeysUnavailable, KeysRefused.
        """
        outcome: Answer | Failure = Failure.AWAY
        for attempt in range(ATTEMPTS):
            if attempt:
                await trio.sleep(self._pause_s(attempt))
            outcome = await self._ask_logged_in(call)
            if not passing(outcome):
                break
        if passing(outcome):
            raise KeysUnavailable(advice(outcome, self._settings.address))
        if refused(outcome):
            raise KeysRefused(advice(outcome, self._settings.address))
        return outcome

    async def _ask_logged_in(self, call: Callable[[], Answer | Failure]) -> Answer | Failure:
        failure = await self._login.ensure()
        if failure is not None:
            return failure
        generation = self._login.generation
        outcome = await self._client.run(call)
        if outcome is not Failure.REFUSED:
            return outcome
        failure = await self._login.replace(generation)
        return failure if failure is not None else await self._client.run(call)

    def _pause_s(self, attempt: int) -> float:
        """Doubles, and is jittered between a half and one and a half."""
        share = int.from_bytes(self._random_bytes(2), "big") / 0xFFFF
        return FIRST_PAUSE_S * 2.0 ** (attempt - 1) * (0.5 + share)


class _LoginCalls:
    """The calls of `vault_login.LoginCalls`, with their thread."""

    def __init__(self, client: VaultClient, settings: VaultSettings) -> None:
        self._client = client
        self._settings = settings

    async def login(self) -> Grant | Failure:
        return await self._client.run(
            partial(vault_logins.log_in, self._client, self._settings.login)
        )

    async def renew(self) -> Grant | Failure:
        return await self._client.run(partial(vault_logins.renew, self._client))
