"""Living through a key provider's absence: leases, cached keys and spares around a provider.

Rules (DESIGN section 6):
- a lease belongs to a key domain; every answer of the provider for the domain earns it anew, and
  `run` unwraps the domain's canary often enough that an idle node keeps it;
- provider away or sealed: unwrapped keys are served from the cache and new ones made from spares
  until the lease ends; then secrets are wiped and calls raise KeysUnavailable until it is back;
- provider refuses: nothing new, and the lease runs out. Key gone: the domain is wiped at once;
- a canary that does not open, or to something else, means that another Vault answers: the lease
  runs out, and no new key is made there;
- time is the clock port's `monotonic`, CLOCK_BOOTTIME, so a machine that slept has used up its
  lease.

Who holds a key that came from here (a log, a journal) keeps its copy: the node waits for
`until_sealed` and then closes them.
"""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from enum import Enum
from functools import partial
from typing import TypeVar
from uuid import UUID

import msgspec
import trio

from appliance.errors import KeyGone, KeyProviderError, KeysRefused, KeysUnavailable, WrongKey
from appliance.keys import spare
from appliance.keys.held import Canary, HeldDomain
from appliance.ports import (
    Clock,
    DataKey,
    DomainStanding,
    DomainStatus,
    KeyHealth,
    KeyPlace,
    KeyProvider,
    SecretKey,
    WrapAt,
    WrappedKey,
)
from appliance.types import KeyDomainId, PartitionId

LEASE_S = 3600.0
"""How long a node goes on without its provider; also how long a revoked node may go on."""
RENEW_S = 20.0
"""Between looks at each domain's key: so soon is a rotation noticed, and a key that is gone."""
RETRY_S = 5.0
SPARES = 64
"""Data keys held ahead for each domain: so many partitions can be made while Vault is away."""

_CANARY = PartitionId(UUID("00000000-0000-8000-8000-0000000000ca"))
"""An id of version 8 (RFC 9562), which no random partition id can be."""


class Standing(Enum):
    """How this node stands with its key provider."""

    SERVING = "serving"
    LEASED = "leased"
    SEALED = "sealed"


Result = TypeVar("Result")


class Report(msgspec.Struct, frozen=True):
    """A change of standing, for the log; `left_s` is what remains of the shortest lease."""

    standing: Standing
    reason: str = ""
    left_s: float = 0.0


def _say_nothing(report: Report) -> None:
    """For callers without a log."""


def _cause(failure: KeyProviderError) -> str:
    """What a failure is counted as; the more special kinds first."""
    kinds = ((KeyGone, "gone"), (KeysRefused, "refused"), (WrongKey, "wrong_key"))
    return next((name for kind, name in kinds if isinstance(failure, kind)), "unavailable")


class LeasedKeys:
    """A `ports.KeyProvider` that outlives its provider's absence for the length of a lease."""

    def __init__(
        self,
        provider: KeyProvider,
        clock: Clock,
        *,
        lease_s: float = LEASE_S,
        renew_s: float = RENEW_S,
        spares: int = SPARES,
        report: Callable[[Report], None] = _say_nothing,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Holds nothing yet; `run` has to be running for leases to be renewed."""
        self._provider = provider
        self._clock = clock
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._wanted_spares = spares
        self._report = report
        self._random_bytes = random_bytes
        self._domains: dict[KeyDomainId, HeldDomain] = {}
        self._reported = Report(Standing.SERVING)
        self._away = False
        self._sealed: set[KeyDomainId] = set()
        self.refusals: Counter[str] = Counter()
        """Keys that could not be had since the start, by cause."""
        self._changed = trio.Event()
        self._work = trio.Event()

    # The port.

    async def create_domain(self, domain: KeyDomainId) -> None:
        """See `ports.KeyProvider`. While the provider is away, a domain that is held exists."""
        held = self._domains.get(domain)
        if self._away and held is not None and held.leased(self._now()):
            return
        await self._provider.create_domain(domain)

    async def new_data_key(self, place: KeyPlace) -> DataKey:
        """See `ports.KeyProvider`; from a spare while the provider is away."""
        held = self._held(place)
        if self._away:
            made = self._from_spare(held, place)
            if made is not None:
                return made
        try:
            self._check_not_estranged(held)
            made = await self._earning(held, partial(self._provider.new_data_key, place))
        except KeysUnavailable as failure:
            self._away = True
            self._tell(str(failure))
            spared = self._from_spare(held, place)
            if spared is None:
                raise
            return spared
        held.remember(place, made.wrapped, made.secret)
        return made

    async def unwrap(self, place: KeyPlace, wrapped: WrappedKey) -> SecretKey:
        """See `ports.KeyProvider`; a key that was unwrapped under this lease costs no call."""
        held = self._held(place)
        if held.leased(self._now()):
            known = held.recall(place, wrapped)
            if known is not None:
                return known
        secret = await self._earning(held, partial(self._open, place, wrapped))
        held.remember(place, wrapped, secret)
        return secret

    async def unwrap_all(self, wraps: Sequence[WrapAt]) -> list[SecretKey | KeyProviderError]:
        """See `ports.KeyProvider`; only what is not held costs a call."""
        outcomes: list[SecretKey | KeyProviderError | None] = []
        for wrap in wraps:
            held = self._held(wrap.place)
            leased = held.leased(self._now())
            outcomes.append(held.recall(wrap.place, wrap.wrapped) if leased else None)
        missing = [number for number, outcome in enumerate(outcomes) if outcome is None]
        if missing:
            opened = await self._open_all([wraps[number] for number in missing])
            for number, outcome in zip(missing, opened, strict=True):
                outcomes[number] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    async def rewrap_all(self, wraps: Sequence[WrapAt]) -> list[WrappedKey | KeyProviderError]:
        """See `ports.KeyProvider`; of a spare's wrap, the spare is wrapped anew."""
        inner = await self._provider.rewrap_all([spare.inner_at(wrap) for wrap in wraps])
        return [
            spare.rewrapped(wrap.wrapped, outcome)
            if isinstance(outcome, WrappedKey) and spare.is_spare(wrap.wrapped)
            else outcome
            for wrap, outcome in zip(wraps, inner, strict=True)
        ]

    async def status(self, domain: KeyDomainId) -> DomainStatus:
        """See `ports.KeyProvider`; a newer version is followed from here on.

        It earns no lease: only a wrap that opens proves that this is the Vault that made it.
        """
        held = self._domains.get(domain)
        try:
            status = await self._provider.status(domain)
        except KeyGone:
            if held is not None:
                self._seal(held)
            raise
        if held is not None:
            held.follow(self._provider.epoch(domain))
        return status

    def epoch(self, domain: KeyDomainId) -> int:
        """See `ports.KeyProvider`."""
        held = self._domains.get(domain)
        return self._provider.epoch(domain) if held is None else held.model.epoch

    def version_of(self, wrapped: WrappedKey) -> int:
        """See `ports.KeyProvider`."""
        return self._provider.version_of(spare.inner_of(wrapped))

    @property
    def lease_s(self) -> float:
        """See `ports.KeyProvider`."""
        return self._lease_s

    def forget(self, domain: KeyDomainId) -> None:
        """See `ports.KeyProvider`."""
        held = self._domains.pop(domain, None)
        if held is not None:
            held.wipe()
        self._sealed.discard(domain)
        self._provider.forget(domain)

    def lease_left_s(self, domain: KeyDomainId) -> float | None:
        """See `ports.KeyProvider`; 0 when the lease has ended."""
        held = self._domains.get(domain)
        return max(0.0, held.lease_end - self._now()) if held is not None else 0.0

    async def health(self) -> KeyHealth:
        """The provider's own health: a node that lives on its lease is told so by `report`."""
        return await self._provider.health()

    # Leases.

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renews leases and fetches spares until cancelled; raises nothing of the provider's."""
        task_status.started()
        while True:
            self._work = trio.Event()
            settled = await self._pass()
            with trio.move_on_after(self._renew_s if settled else self._retry_s()):
                await self._work.wait()

    async def until_sealed(self, domain: KeyDomainId) -> None:
        """Returns when the lease of a domain that was held has ended and its keys are wiped."""
        while True:
            changed = self._changed
            held = self._domains.get(domain)
            left_s = self._renew_s
            if held is not None:
                if not held.leased(self._now()):
                    self._tell("the lease of its keys has ended")
                    return
                left_s = min(left_s, held.lease_end - self._now())
            with trio.move_on_after(max(left_s, 0.0)):
                await changed.wait()

    async def next_sealed(self) -> KeyDomainId:
        """The next domain whose lease has ended, or whose key is gone: its keys are wiped."""
        while not self._sealed:
            await self._changed.wait()
        return self._sealed.pop()

    async def _pass(self) -> bool:
        """Renews what is due; False when something is to be tried again soon."""
        settled, reason = True, ""
        for held in list(self._domains.values()):
            self._watch(held)
            try:
                await self._renew(held)
            except KeyGone as failure:
                reason = str(failure)
            except KeyProviderError as failure:
                settled, reason = False, str(failure)
                self._away = isinstance(failure, KeysUnavailable)
                if self._away:
                    break
        self._tell(reason)
        return settled

    def _watch(self, held: HeldDomain) -> None:
        """Notes the end of a lease."""
        was_leased = held.lease_end != -math.inf
        if was_leased and not held.leased(self._now()):
            self._seal(held)

    def _seal(self, held: HeldDomain) -> None:
        held.wipe()
        self._sealed.add(held.model.domain)
        self._notify()

    async def _renew(self, held: HeldDomain) -> None:
        """Makes or unwraps the canary, if that is due, and fetches the spares that are missing."""
        due = held.lease_end - self._now() <= self._lease_s - self._renew_s
        if due or self._away or held.estranged:
            await self.status(held.model.domain)
        if held.canary is None:
            held.canary = await self._new_canary(held)
        elif due or self._away or held.estranged:
            await self._earning(held, partial(self._sing, held, held.canary))
        while held.spares < self._wanted_spares and held.leased(self._now()):
            slot = self._slot(held)
            made = await self._earning(held, partial(self._provider.new_data_key, slot))
            held.add_spare(slot, made)

    async def _new_canary(self, held: HeldDomain) -> Canary:
        place = msgspec.structs.replace(held.model, partition=_CANARY)
        made = await self._earning(held, partial(self._provider.new_data_key, place))
        digest = hashlib.sha256(made.secret.reveal()).digest()
        made.secret.wipe()
        return Canary(place, made.wrapped, digest)

    async def _sing(self, held: HeldDomain, canary: Canary) -> None:
        """Unwraps the canary. Raises WrongKey when nothing, or something else, comes out."""
        try:
            opened = await self._provider.unwrap(canary.place, canary.wrapped)
        except WrongKey:
            held.estranged = True
            raise
        held.estranged = not canary.check(opened)
        if held.estranged:
            raise WrongKey("the key provider opens keys to something else than before")

    async def _earning(self, held: HeldDomain, call: Callable[[], Awaitable[Result]]) -> Result:
        """A call of the provider which, answered, prolongs the lease from when it was asked."""
        asked_at = self._now()
        try:
            result = await call()
        except KeyProviderError as failure:
            self.refusals[_cause(failure)] += 1
            if isinstance(failure, KeyGone):
                self._seal(held)
            raise
        if held.lease_end == -math.inf:
            self._work.set()
        held.lease_end = max(held.lease_end, asked_at + self._lease_s)
        held.follow(self._provider.epoch(held.model.domain))
        self._notify()
        if self._away:
            self._away = False
            self._tell()
        return result

    def standings(self) -> Iterator[DomainStanding]:
        """Every domain that is held, as it stands now."""
        for domain, held in self._domains.items():
            left_s = max(0.0, held.lease_end - self._now())
            yield DomainStanding(domain, left_s, held.spares)

    # Within one call.

    def _held(self, place: KeyPlace) -> HeldDomain:
        held = self._domains.get(place.domain)
        if held is None:
            model = msgspec.structs.replace(place, epoch=self._provider.epoch(place.domain))
            held = self._domains[place.domain] = HeldDomain(model)
        return held

    async def _open(self, place: KeyPlace, wrapped: WrappedKey) -> SecretKey:
        """Unwraps at the provider, through the spare's slot where it is a spare's wrap."""
        if not spare.is_spare(wrapped):
            return await self._provider.unwrap(place, wrapped)
        parts = spare.parse(place, wrapped)
        opened = await self._provider.unwrap(parts.slot, parts.inner)
        return spare.reopen(opened, parts, place)

    async def _open_all(self, wraps: Sequence[WrapAt]) -> list[SecretKey | KeyProviderError]:
        """Unwraps at the provider; keeps what opens, and seals the domains whose key is gone."""
        opened = await self._provider.unwrap_all([spare.inner_at(wrap) for wrap in wraps])
        outcomes: list[SecretKey | KeyProviderError] = []
        for wrap, answer in zip(wraps, opened, strict=True):
            held = self._held(wrap.place)
            outcome = spare.reopened(answer, wrap) if isinstance(answer, SecretKey) else answer
            if isinstance(outcome, SecretKey) and held.leased(self._now()):
                held.remember(wrap.place, wrap.wrapped, outcome)
            if isinstance(outcome, KeyGone):
                self._seal(held)
            outcomes.append(outcome)
        return outcomes

    def _check_not_estranged(self, held: HeldDomain) -> None:
        """Raises KeysRefused while the canary does not open: new data must not rest on that key."""
        if held.estranged:
            raise KeysRefused(
                "the key provider does not open what it wrapped before: it is another Vault, or a "
                "restored one; have a custodian look"
            )

    def _from_spare(self, held: HeldDomain, place: KeyPlace) -> DataKey | None:
        if not held.leased(self._now()):
            return None
        made = held.spend_spare(place)
        if made is None:
            self.refusals["no_spare"] += 1
            self._tell("no spare data key is left: what needs a new one waits for the provider")
        else:
            held.remember(place, made.wrapped, made.secret)
        return made

    def _slot(self, held: HeldDomain) -> KeyPlace:
        slot = PartitionId(UUID(bytes=self._random_bytes(16), version=4))
        return msgspec.structs.replace(held.model, partition=slot)

    def _tell(self, reason: str = "") -> None:
        """Reports a change of standing or reason, once."""
        ends = [h.lease_end for h in self._domains.values() if h.leased(self._now())]
        left_s = min(ends, default=self._now()) - self._now()
        standing = Standing.SERVING
        if reason:
            standing = Standing.LEASED if ends else Standing.SEALED
        if (standing, reason) != (self._reported.standing, self._reported.reason):
            self._reported = Report(standing, reason, left_s)
            self._report(self._reported)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _retry_s(self) -> float:
        """Jittered between a half and one and a half, so that nodes do not come back as one."""
        return RETRY_S * (0.5 + int.from_bytes(self._random_bytes(2), "big") / 0xFFFF)

    def _now(self) -> float:
        return self._clock.monotonic()
