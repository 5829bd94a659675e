"""A rate that is kept over a window: what was not used is saved up, what was used too much is owed.

It tells the wait that Kafka's windows tell (KIP-13): whoever used O in a window of W seconds at a
rate of T waits (O - T * W) / T seconds, which is the debt over the rate.
"""

from typing import Final

WINDOW_S: Final = 10.0
"""What can be saved up: Kafka's eleven samples of a second hold ten whole ones."""


class TokenBucket:
    """What is left of one rate; times are seconds of one monotonic clock.

    It is filled when it does not suffice, by the time that has passed, and not before: over T
    seconds nobody gets more than the window and T at the rate, and a use that `left` covers needs
    no look at the clock.
    """

    __slots__ = ("_as_of", "_window_s", "capacity", "left", "rate")

    def __init__(self, rate: float, now: float, window_s: float = WINDOW_S) -> None:
        """Begins full: a bucket that is full can be forgotten without anybody's gain."""
        self.rate = rate
        self._window_s = window_s
        self.capacity = rate * window_s
        self.left = self.capacity
        """Can be used up without asking; less than 0 is owed."""
        self._as_of = now

    def refit(self, rate: float) -> None:
        """Goes on at another rate, as full as before; what is owed stays owed."""
        if self.left > 0:
            self.left *= rate / self.rate
        self.rate = rate
        self.capacity = rate * self._window_s

    def take(self, amount: float, now: float) -> float:
        """Seconds to wait after `amount` was used; 0 while nothing is owed."""
        if amount > self.left or self.left <= 0:
            self.left = min(self.left + (now - self._as_of) * self.rate, self.capacity)
            self._as_of = now
        self.left -= amount
        return 0.0 if self.left >= 0 else -self.left / self.rate

    def is_full(self, now: float) -> bool:
        """Whether nothing is missing, so that a new bucket would do as well."""
        return self.left + (now - self._as_of) * self.rate >= self.capacity
