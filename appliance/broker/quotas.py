"""Quotas as this node keeps them: what was used is noted, and who used too much is told to wait.

Rules:
- Nothing is dropped and nobody is refused for bytes or time: an answer says how long the client is
  held back (`throttle_time_ms`), and its connection is not read for so long (KIP-124, KIP-219).
- Each node counts for itself, as each of Kafka's brokers does.
- A request costs a look-up and a subtraction for each quota that it touches. There is no task and
  no timer: a bucket fills by the time that has passed when it is looked at again.
- Buckets are bounded. One that is full is forgotten when there is need, as a new one would begin
  full; beyond the bound newcomers share one. So inventing client ids neither takes memory nor
  gains anything (they are free to whoever invents them only where a quota of client ids alone is
  set, as in Kafka: a user's own quota holds for all ids together).
"""

from math import ceil
from typing import Final

from appliance.broker.caller import Caller
from appliance.coordination import quotas
from appliance.coordination.token_bucket import TokenBucket
from appliance.errors import ErrorCode, RequestError
from appliance.limits import (
    MAX_QUOTA_BUCKETS,
    MAX_REQUEST_THROTTLE_S,
    MAX_THROTTLE_S,
    QUOTA_SWEEP_S,
)
from appliance.ports import Clock
from appliance.wire.requests import Produce, Request

_FULL_TIME: Final = 100.0
"""Percent of the event loop's time."""

Share = tuple[str | None, str | None]
"""(user, client id) who share a bucket; None stands for whoever it is."""


class _Buckets:
    """The buckets of one quota, and which of them a caller's requests are taken from."""

    __slots__ = ("_cached", "_common", "_held", "_key", "_set", "_swept", "_version", "sweeps")

    def __init__(self, key: str, set_quotas: quotas.Quotas) -> None:
        self._key = key
        self._set = set_quotas
        self._version = set_quotas.version
        self._cached: dict[Share, TokenBucket] = {}
        self._held: dict[Share, TokenBucket] = {}
        self._common: dict[float, TokenBucket] = {}
        self._swept = float("-inf")
        self.sweeps = 0
        """Times that buckets were forgotten."""

    def __len__(self) -> int:
        """How many there are, those for newcomers among them."""
        return len(self._held) + len(self._common)

    def of(self, user: str, client_id: str | None, now: float) -> TokenBucket:
        """The bucket of a user's client."""
        if self._version != self._set.version:
            self._cached.clear()
            self._version = self._set.version
        found = self._cached.get((user, client_id))
        return self._resolve(user, client_id, now) if found is None else found

    def _resolve(self, user: str, client_id: str | None, now: float) -> TokenBucket:
        applicable = self._set.applicable(user, client_id or "", self._key)
        share, rate = (applicable.user, applicable.client_id), applicable.rate
        bucket = self.shared_by(share, rate, now)
        if len(self._cached) >= MAX_QUOTA_BUCKETS:
            self._cached.clear()
        if share in self._held:
            self._cached[user, client_id] = bucket
        return bucket

    def shared_by(self, share: Share, rate: float, now: float) -> TokenBucket:
        """The bucket of those who share it; among too many, that of all newcomers."""
        bucket = self._held.get(share)
        if bucket is None:
            if len(self._held) >= MAX_QUOTA_BUCKETS:
                self._sweep(now)
            held = self._held if len(self._held) < MAX_QUOTA_BUCKETS else None
            if held is None:
                return self._common.setdefault(rate, TokenBucket(rate, now))
            bucket = held[share] = TokenBucket(rate, now)
        elif bucket.rate != rate:
            bucket.refit(rate)
        return bucket

    def _sweep(self, now: float) -> None:
        """Forgets what is full, at most once in QUOTA_SWEEP_S."""
        if now - self._swept < QUOTA_SWEEP_S:
            return
        self._swept = now
        self.sweeps += 1
        self._held = {
            share: bucket for share, bucket in self._held.items() if not bucket.is_full(now)
        }
        self._common = {rate: each for rate, each in self._common.items() if not each.is_full(now)}
        self._cached.clear()


class Mutations:
    """What one request about topics takes from its caller's quota (KIP-599)."""

    def __init__(self, bucket: TokenBucket, now: float, *, strict: bool) -> None:
        """`strict`: what comes too fast is refused; else the caller is held back afterwards."""
        self._bucket = bucket
        self._now = now
        self._strict = strict
        self.throttle_ms = 0
        """How long the caller is to be held back."""

    def take(self, partitions: int) -> None:
        """Notes that so many partitions are to be made or deleted.

        As in Kafka one change may overdraw the quota, whatever its size, and the next one waits.
        Raises RequestError(THROTTLING_QUOTA_EXCEEDED), and then nothing was noted.
        """
        owed_s = self._bucket.take(0, self._now)
        if owed_s > 0 and self._strict:
            self.throttle_ms = _ms(owed_s)
            raise RequestError(
                ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                "the quota of changes is used up: wait and ask again",
            )
        owed_s = self._bucket.take(partitions, self._now)
        if not self._strict:
            self.throttle_ms = _ms(owed_s)


class Account:
    """What the requests of one connection are taken from: its buckets, until others count."""

    __slots__ = ("_caller", "_generation", "_produced", "_quotas", "_worked")

    def __init__(self, quotas: "Quotas", caller: Caller) -> None:
        """For `caller`, whoever else shares its buckets."""
        self._quotas = quotas
        self._caller = caller
        self._find(quotas.generation, quotas.monotonic())

    def _find(self, generation: int, now: float) -> None:
        self._generation = generation
        self._worked, self._produced = self._quotas.resolve(self._caller, now)

    def charge(self, request: Request, size_bytes: int, work_s: float) -> int:
        """Milliseconds for which the caller is held back after a request.

        Args:
            request: what it was.
            size_bytes: of its frame; those of a Produce are taken from the quota of bytes.
            work_s: for which it kept the event loop.
        """
        quotas = self._quotas
        generation = quotas.generation
        if generation != self._generation:
            self._find(generation, quotas.monotonic())
        percent_s = work_s * _FULL_TIME
        produced_bytes = size_bytes if type(request) is Produce else 0
        worked, produced = self._worked, self._produced
        if percent_s < worked.left and produced_bytes < produced.left:
            worked.left -= percent_s
            produced.left -= produced_bytes
            return 0
        now = quotas.monotonic()
        wait_s = min(worked.take(percent_s, now), MAX_REQUEST_THROTTLE_S)
        if type(request) is Produce:
            wait_s = max(wait_s, produced.take(produced_bytes, now))
        return _ms(wait_s)


class Quotas:
    """What this node keeps of its callers' use."""

    def __init__(self, set_quotas: quotas.Quotas, clock: Clock) -> None:
        """Follows `set_quotas`, the catalogue's."""
        self._set = set_quotas
        self.monotonic = clock.monotonic
        self._produced = _Buckets(quotas.PRODUCER_BYTE_RATE, set_quotas)
        self._fetched = _Buckets(quotas.CONSUMER_BYTE_RATE, set_quotas)
        self._worked = _Buckets(quotas.REQUEST_PERCENTAGE, set_quotas)
        self._mutated = _Buckets(quotas.CONTROLLER_MUTATION_RATE, set_quotas)
        self._connected = _Buckets(quotas.CONNECTION_CREATION_RATE, set_quotas)

    @property
    def generation(self) -> int:
        """Another number when other buckets may count for somebody than did before."""
        return self._set.version + self._worked.sweeps + self._produced.sweeps

    @property
    def bucket_count(self) -> int:
        """Buckets that are kept now."""
        kept = self._produced, self._fetched, self._worked, self._mutated, self._connected
        return sum(map(len, kept))

    def account(self, caller: Caller) -> Account:
        """What the requests of a connection are taken from."""
        return Account(self, caller)

    def resolve(self, caller: Caller, now: float) -> tuple[TokenBucket, TokenBucket]:
        """(time of the event loop, bytes produced)."""
        user, client_id = caller.principal.name, caller.client_id
        return self._worked.of(user, client_id, now), self._produced.of(user, client_id, now)

    def before_fetch(self, caller: Caller) -> tuple[int, int]:
        """(milliseconds owed, bytes that one answer may hold).

        Who owes bytes is given none now; an answer is bounded so that its own cost is paid within
        the window, as Kafka bounds it.
        """
        now = self.monotonic()
        bucket = self._fetched.of(caller.principal.name, caller.client_id, now)
        return _ms(bucket.take(0, now)), int(bucket.capacity)

    def fetched(self, caller: Caller, size_bytes: int) -> int:
        """Milliseconds for which a caller is held back who was given so many bytes."""
        now = self.monotonic()
        bucket = self._fetched.of(caller.principal.name, caller.client_id, now)
        return _ms(bucket.take(size_bytes, now))

    def mutations(self, caller: Caller, *, strict: bool) -> Mutations:
        """What a request about topics is taken from."""
        now = self.monotonic()
        bucket = self._mutated.of(caller.principal.name, caller.client_id, now)
        return Mutations(bucket, now, strict=strict)

    def connection(self, address: str, origin: str) -> float:
        """Seconds for which a new connection is too early; 0 if it may come in (KIP-612).

        `origin` is what addresses without a quota of their own are counted under. One that is
        refused is not counted, so that who waits comes in.
        """
        now = self.monotonic()
        is_own, rate = self._set.connection_rate(address)
        bucket = self._connected.shared_by((address if is_own else origin, None), rate, now)
        owed_s = bucket.take(1, now)
        if owed_s > 0:
            bucket.take(-1, now)
        return owed_s


def _ms(wait_s: float) -> int:
    return ceil(min(wait_s, MAX_THROTTLE_S) * 1000)
