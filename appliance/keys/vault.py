"""Data keys from Vault's Transit, or OpenBao's; the only module that knows hvac.

Rules (DESIGN section 6):
- a wrap is bound to its place by Transit's derivation `context`, never by `associated_data`;
- host, mount and key name come from the settings and a UUID, never from bytes of a data directory;
- no exception of hvac, requests or urllib3 leaves this module, as text, cause or context: after a
  failed call it may hold a reply, and a reply may hold keys. A call in the worker thread therefore
  returns a `Failure` as a value, and what is raised is raised outside every `except`;
- causes are told apart by status and by reading the key, never by Vault's message;
- hvac blocks, so calls run in worker threads, a few at a time, and are bounded in time.

Each key passes through an immutable `str` in requests, JSON and hvac on its way here; those copies
cannot be wiped.
"""

import base64
import os
from collections.abc import Callable
from typing import TypeVar

import hvac
import msgspec
import requests
import trio
import urllib3

from appliance.errors import KeyGone, KeysRefused, KeysUnavailable, WrongKey
from appliance.keys import place as places
from appliance.keys.vault_login import Failure, Grant, Login, passing
from appliance.keys.vault_replies import (
    DataKeyReply,
    DecryptReply,
    KeyReply,
    LoginReply,
    wrap_text,
)
from appliance.keys.vault_settings import VaultSettings
from appliance.keys.vault_tls import pinned_session
from appliance.ports import Clock, DataKey, KeyHealth, KeyPlace, SecretKey, WrappedKey
from appliance.types import KeyDomainId

__all__ = ["VaultProvider", "VaultSettings"]

CALLS_AT_ONCE = 4
ATTEMPTS = 3
CONNECT_S, READ_S = 2.0, 5.0
FIRST_PAUSE_S = 0.05
KEY_CHECK_S = 600
"""How long a key's settings are taken for unchanged."""

Answer = TypeVar("Answer")


class VaultProvider:
    """A `ports.KeyProvider` on one Transit mount, for one cluster, logged in by AppRole."""

    def __init__(
        self,
        settings: VaultSettings,
        clock: Clock,
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Calls nothing yet. Raises ConfigurationError when the authority's file is unusable."""
        session = pinned_session(settings.ca_file, settings.key_exchange, connections=CALLS_AT_ONCE)
        self._settings = settings
        self._clock = clock
        self._random_bytes = random_bytes
        self._calls = _Calls(settings, session)
        self._login = Login(self._calls, clock)
        self._checked: dict[KeyDomainId, float] = {}

    async def create_domain(self, domain: KeyDomainId) -> None:
        """See `ports.KeyProvider`; the key that was there before is checked like a new one."""
        name = self._settings.key_name(domain)
        outcome = await self._ask(lambda: self._calls.create_key(name))
        if isinstance(outcome, Failure):
            raise KeysRefused(f"Vault does not make the key of domain {domain}: see the policy")
        await self._check_key(domain)

    async def new_data_key(self, place: KeyPlace) -> DataKey:
        """See `ports.KeyProvider`. Raises KeyGone when the domain has no key."""
        self._check_cluster(place)
        await self._check_key_once(place.domain)
        name, context = self._settings.key_name(place.domain), places.context(place)
        outcome = await self._ask(lambda: self._calls.data_key(name, context))
        if isinstance(outcome, Failure):
            await self._check_key(place.domain)
            raise KeysRefused(f"Vault makes no data key in domain {place.domain}")
        return outcome

    async def unwrap(self, place: KeyPlace, wrapped: WrappedKey) -> SecretKey:
        """See `ports.KeyProvider`.

        Raises KeyGone when the domain has no key, and WrongKey when the wrap is not of this place,
        not of this Vault, or was changed.
        """
        self._check_cluster(place)
        text = wrap_text(wrapped)
        await self._check_key_once(place.domain)
        name, context = self._settings.key_name(place.domain), places.context(place)
        outcome = await self._ask(lambda: self._calls.decrypt(name, context, text))
        if isinstance(outcome, Failure):
            await self._check_key(place.domain)
            raise WrongKey(f"a wrapped key of partition {place.partition} does not open here")
        return outcome

    async def health(self) -> KeyHealth:
        """Whether Vault serves and this node can log in; the advice is for an operator."""
        failure = await self._calls.health()
        if failure is None:
            failure = await self._login.ensure()
        if failure is None:
            return KeyHealth(serving=True)
        return KeyHealth(serving=False, advice=self._advice(failure))

    def close(self) -> None:
        """Closes the connections to Vault."""
        self._calls.close()

    def _check_cluster(self, place: KeyPlace) -> None:
        if place.cluster != self._settings.cluster:
            raise WrongKey("this key belongs to another cluster than the one configured")

    async def _check_key_once(self, domain: KeyDomainId) -> None:
        if self._clock.monotonic() >= self._checked.get(domain, 0.0):
            await self._check_key(domain)

    async def _check_key(self, domain: KeyDomainId) -> None:
        """Raises KeyGone or KeysRefused unless the domain's key is there and as it must be."""
        self._checked.pop(domain, None)
        name = self._settings.key_name(domain)
        outcome = await self._ask(lambda: self._calls.read_key(name))
        if outcome is Failure.MISSING:
            raise KeyGone(f"Vault has no key of domain {domain}")
        if isinstance(outcome, Failure):
            raise KeysRefused(f"Vault does not let this node read the key of domain {domain}")
        outcome.data.check(domain)
        self._checked[domain] = self._clock.monotonic() + KEY_CHECK_S

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
            raise KeysUnavailable(self._advice(outcome))
        if outcome is Failure.REFUSED or outcome is Failure.LOGIN_UNREADABLE:
            raise KeysRefused(self._advice(outcome))
        return outcome

    async def _ask_logged_in(self, call: Callable[[], Answer | Failure]) -> Answer | Failure:
        failure = await self._login.ensure()
        if failure is not None:
            return failure
        generation = self._login.generation
        outcome = await self._calls.run(call)
        if outcome is not Failure.REFUSED:
            return outcome
        failure = await self._login.replace(generation)
        return failure if failure is not None else await self._calls.run(call)

    def _advice(self, failure: Failure) -> str:
        """What an operator should do; MISSING and INVALID are the callers' to explain."""
        return _ADVICE.get(failure, _ADVICE[Failure.AWAY]).format(address=self._settings.address)

    def _pause_s(self, attempt: int) -> float:
        """Doubles, and is jittered between a half and one and a half."""
        share = int.from_bytes(self._random_bytes(2), "big") / 0xFFFF
        return FIRST_PAUSE_S * 2.0 ** (attempt - 1) * (0.5 + share)


_ADVICE: dict[Failure, str] = {
    Failure.AWAY: "Vault at {address} does not answer: start it, or check address and network",
    Failure.SEALED: "Vault at {address} is sealed: unseal it",
    Failure.UNTRUSTED: "Vault at {address} could not be connected to safely: check ca_file, the "
    "host name in its certificate, and that it offers TLS 1.3 with the configured key_exchange",
    Failure.REFUSED: "Vault at {address} refuses this node: have a custodian check its AppRole, "
    "secret id and policy",
    Failure.LOGIN_UNREADABLE: "secret_id_file cannot be read: restore it to log in to Vault at "
    "{address}",
}


class _Calls:
    """The blocking calls: each returns its answer or a Failure, and raises nothing."""

    def __init__(self, settings: VaultSettings, session: requests.Session) -> None:
        self._settings = settings
        self._limiter = trio.CapacityLimiter(CALLS_AT_ONCE)
        self._session = session
        # An empty token and an explicit `verify` keep hvac from looking into the environment.
        self._client = hvac.Client(
            url=settings.address,
            token="",  # nosec B106 - none, until the login
            verify=True,
            timeout=(CONNECT_S, READ_S),
            allow_redirects=False,
            session=session,
            namespace=settings.namespace,
        )
        self._transit = self._client.secrets.transit
        self._mount = settings.transit_mount

    async def run(self, call: Callable[[], Answer | Failure]) -> Answer | Failure:
        """Runs one of the calls below in a worker thread; leaves it behind when cancelled."""
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)

    def close(self) -> None:
        self._session.close()

    # Login: the calls of `vault_login.LoginCalls`, with their thread.

    async def login(self) -> Grant | Failure:
        return _login_failure(await self.run(self._log_in))

    async def renew(self) -> Grant | Failure:
        return await self.run(lambda: _attempt(self._client.auth.token.renew_self, _grant))

    def _log_in(self) -> Grant | Failure:
        try:
            secret_id = self._settings.secret_id_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return Failure.LOGIN_UNREADABLE
        return _attempt(
            lambda: self._client.auth.approle.login(
                role_id=self._settings.role_id,
                secret_id=secret_id,
                mount_point=self._settings.login_mount,
            ),
            _grant,
        )

    # Transit. `_attempt` reads each reply within its `try`.

    def create_key(self, name: str) -> bool | Failure:
        return _attempt(
            lambda: self._transit.create_key(name=name, derived=True, mount_point=self._mount),
            lambda _: True,
        )

    def read_key(self, name: str) -> KeyReply | Failure:
        """`derived=true` in the query satisfies a policy that requires it of every request."""
        return _attempt(
            lambda: self._client.adapter.get(
                f"/v1/{self._mount}/keys/{name}", params={"derived": "true"}
            ),
            lambda reply: msgspec.convert(reply, KeyReply),
        )

    def data_key(self, name: str, context: bytes) -> DataKey | Failure:
        return _attempt(
            lambda: self._transit.generate_data_key(
                name=name,
                key_type="plaintext",
                context=_base64(context),
                bits=256,
                mount_point=self._mount,
            ),
            lambda reply: msgspec.convert(reply, DataKeyReply).data_key(),
        )

    def decrypt(self, name: str, context: bytes, ciphertext: str) -> SecretKey | Failure:
        return _attempt(
            lambda: self._transit.decrypt_data(
                name=name,
                ciphertext=ciphertext,
                context=_base64(context),
                mount_point=self._mount,
            ),
            lambda reply: msgspec.convert(reply, DecryptReply).secret(),
        )

    async def health(self) -> Failure | None:
        """None when Vault is unsealed and answers, be it as a standby."""
        outcome = await self.run(
            lambda: _attempt(
                lambda: self._client.sys.read_health_status(method="GET", standby_ok=True),
                lambda reply: not isinstance(reply, requests.Response),
            )
        )
        if isinstance(outcome, Failure):
            return outcome
        return None if outcome else Failure.SEALED


def _attempt(call: Callable[[], object], read: Callable[[object], Answer]) -> Answer | Failure:
    """Calls, reads the reply, and turns whatever a library raises into a Failure."""
    try:
        return read(call())
    except (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized):
        return Failure.REFUSED
    except hvac.exceptions.InvalidPath:
        return Failure.MISSING
    except hvac.exceptions.InvalidRequest:
        return Failure.INVALID
    except (hvac.exceptions.VaultDown, hvac.exceptions.VaultNotInitialized):
        return Failure.SEALED
    except requests.exceptions.SSLError:
        return Failure.UNTRUSTED
    except (
        hvac.exceptions.VaultError,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        msgspec.MsgspecError,
        LookupError,
        TypeError,
        ValueError,
        OSError,
    ):
        return Failure.AWAY


def _grant(reply: object) -> Grant:
    state = msgspec.convert(reply, LoginReply).auth
    return Grant(lease_duration=state.lease_duration, renewable=state.renewable)


def _login_failure(outcome: Grant | Failure) -> Grant | Failure:
    """AppRole answers a wrong secret id with 400, and an unknown mount with 404."""
    if outcome is Failure.INVALID or outcome is Failure.MISSING:
        return Failure.REFUSED
    return outcome


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
