"""Staying logged in to Vault: one token, renewed before it ends, replaced when it is refused.

Rules: tasks that find the token refused at the same time cause one login, not one each; a renewal
that Vault does not answer is no harm while the token lasts; a token that Vault no longer prolongs
is replaced by a fresh login before it ends.
"""

import math
from collections.abc import Awaitable
from typing import Protocol

import msgspec
import trio

from appliance.keys.vault_failures import Failure, passing
from appliance.ports import Clock


class Grant(msgspec.Struct, frozen=True):
    """A token that is in use: how long it lasts (0: for ever), and whether it can be renewed."""

    lease_duration: int
    renewable: bool


class LoginCalls(Protocol):
    """The two calls that put a token in place; neither raises."""

    def login(self) -> Awaitable[Grant | Failure]:
        """A new token."""
        ...

    def renew(self) -> Awaitable[Grant | Failure]:
        """More time for the token."""
        ...


class Login:
    """The state of one node's login."""

    def __init__(self, calls: LoginCalls, clock: Clock) -> None:
        """Not logged in; nothing is called before it is needed."""
        self._calls = calls
        self._clock = clock
        self._lock = trio.Lock()
        self._generation = 0
        self._full_s = 0
        self._renew_at = -math.inf
        self._ends_at = -math.inf

    @property
    def generation(self) -> int:
        """Grows with each fresh login; names the token that a call was made with."""
        return self._generation

    async def ensure(self) -> Failure | None:
        """Makes sure that a token is in place; None when there is one."""
        if self._clock.monotonic() < self._renew_at:
            return None
        async with self._lock:
            now = self._clock.monotonic()
            if now < self._renew_at:
                return None
            if now < self._ends_at:
                renewed = await self._renewed(now)
                if renewed:
                    return None
            return await self._log_in()

    async def replace(self, generation: int) -> Failure | None:
        """A fresh login, unless another task has replaced that token already."""
        async with self._lock:
            if self._generation != generation:
                return None
            return await self._log_in()

    async def _renewed(self, now: float) -> bool:
        """Whether the token goes on to be used; asked again soon when Vault is away."""
        grant = await self._calls.renew()
        if isinstance(grant, Grant):
            if grant.lease_duration * 2 < self._full_s:
                return False
            self._take(grant, now)
            return True
        if passing(grant):
            self._renew_at = now + (self._ends_at - now) / 3
            return True
        return False

    async def _log_in(self) -> Failure | None:
        now = self._clock.monotonic()
        grant = await self._calls.login()
        if isinstance(grant, Failure):
            return grant
        self._generation += 1
        self._full_s = grant.lease_duration
        self._take(grant, now)
        return None

    def _take(self, grant: Grant, since: float) -> None:
        if grant.lease_duration == 0:
            self._renew_at = self._ends_at = math.inf
            return
        self._ends_at = since + grant.lease_duration
        lead = 2 / 3 if grant.renewable else 9 / 10
        self._renew_at = since + grant.lease_duration * lead
