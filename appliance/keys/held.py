"""What a node holds of one key domain while its lease lasts: unwrapped keys and spares.

Rules: the lease is counted from before the call that earned it; at its end everything is wiped,
and so is what the cache lets go of; what is given out is a copy, so that one user's wipe is not
another's surprise. Pure: the caller says what time it is.
"""

import hashlib
import hmac
import math
from collections import OrderedDict, deque

import msgspec

from appliance.keys import spare
from appliance.ports import DataKey, KeyPlace, SecretKey, WrappedKey

MAX_CACHED_KEYS = 16_384
"""Of one domain, 32 bytes each and what Python adds."""


class Canary(msgspec.Struct, frozen=True):
    """A wrap that is unwrapped to renew the lease, and the digest of what must come out."""

    place: KeyPlace
    wrapped: WrappedKey
    digest: bytes

    def check(self, opened: SecretKey) -> bool:
        """Whether it opened to the same key as when it was made; wipes what was opened."""
        same = hmac.compare_digest(hashlib.sha256(opened.reveal()).digest(), self.digest)
        opened.wipe()
        return same


class HeldDomain:
    """One domain's lease, cache and spares."""

    def __init__(self, model: KeyPlace) -> None:
        """`model` lends its cluster, domain, epoch and format to canaries and spares."""
        self.model = model
        self.lease_end = -math.inf
        self.canary: Canary | None = None
        self.estranged = False
        """Whether the provider failed to open the canary when it was last asked."""
        self._cache: OrderedDict[tuple[KeyPlace, WrappedKey], SecretKey] = OrderedDict()
        self._spares: deque[tuple[KeyPlace, DataKey]] = deque()

    def leased(self, now: float) -> bool:
        """Whether the lease lasts; wipes everything when it does not."""
        if now < self.lease_end:
            return True
        self.wipe()
        return False

    def wipe(self) -> None:
        """Forgets every secret, and ends the lease."""
        self.lease_end = -math.inf
        for secret in self._cache.values():
            secret.wipe()
        self._cache.clear()
        self._drop_spares()

    def remember(self, place: KeyPlace, wrapped: WrappedKey, secret: SecretKey) -> None:
        """Keeps a copy; the one that was not asked for longest goes."""
        held = self._cache.pop((place, wrapped), None)
        if held is not None:
            held.wipe()
        self._cache[place, wrapped] = SecretKey(secret.reveal())
        if len(self._cache) > MAX_CACHED_KEYS:
            _, oldest = self._cache.popitem(last=False)
            oldest.wipe()

    def recall(self, place: KeyPlace, wrapped: WrappedKey) -> SecretKey | None:
        """A copy of a key that was unwrapped before."""
        held = self._cache.get((place, wrapped))
        if held is None:
            return None
        self._cache.move_to_end((place, wrapped))
        return SecretKey(held.reveal())

    @property
    def spares(self) -> int:
        """How many keys can be made while the provider is away."""
        return len(self._spares)

    def add_spare(self, slot: KeyPlace, made: DataKey) -> None:
        """Keeps a spare, wrapped for `slot`; one of an epoch that is over is wiped."""
        if slot.epoch == self.model.epoch:
            self._spares.append((slot, made))
        else:
            made.secret.wipe()

    def spend_spare(self, place: KeyPlace) -> DataKey | None:
        """A data key for `place` from a spare of its epoch and format, if there is one."""
        if (place.epoch, place.format) != (self.model.epoch, self.model.format):
            return None
        if not self._spares:
            return None
        slot, made = self._spares.popleft()
        return spare.spend(made, slot, place)

    def follow(self, epoch: int) -> None:
        """Takes over a newer epoch: spares and canary of the one before are dropped."""
        if epoch > self.model.epoch:
            self.model = msgspec.structs.replace(self.model, epoch=epoch)
            self.canary = None
            self._drop_spares()

    def _drop_spares(self) -> None:
        for _, made in self._spares:
            made.secret.wipe()
        self._spares.clear()
