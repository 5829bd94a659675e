"""What is worth trying again, how soon, and until when."""

import secrets
from collections.abc import Callable

import msgspec
import trio

from appliance.client.connection import Disconnected
from appliance.errors import ApplianceError, ErrorCode, RequestError

RETRIABLE = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.KAFKA_STORAGE_ERROR,
    }
)
"""Codes that say 'not now' or 'not here': the same request may succeed later or elsewhere."""


def is_retriable(failure: ApplianceError) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(failure, RequestError):
        return failure.code in RETRIABLE
    return isinstance(failure, Disconnected)


def _say_nothing(failure: ApplianceError) -> None:
    """For callers without a person who waits."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long to go on trying; waits double from the first to the longest.

    `tell` hears once in an operation that it takes longer, and why.
    """

    total_s: float = 30.0
    first_wait_s: float = 0.05
    longest_wait_s: float = 1.0
    tell: Callable[[ApplianceError], None] = _say_nothing


class Backoff:
    """The waits of one operation; each is half fixed, half random, so that crowds spread out."""

    def __init__(self, patience: Patience) -> None:
        """Starts the operation's time."""
        self._patience = patience
        self._next_s = patience.first_wait_s
        self._told = False
        self._deadline = trio.current_time() + patience.total_s

    async def wait(self, failure: ApplianceError) -> None:
        """Waits before the next try; raises `failure` if it is final or time is up."""
        if not is_retriable(failure) or trio.current_time() + self._next_s > self._deadline:
            raise failure
        if self._next_s >= self._patience.longest_wait_s and not self._told:
            self._told = True
            self._patience.tell(failure)
        await trio.sleep(self._next_s * (0.5 + secrets.randbelow(1000) / 2000))
        self._next_s = min(self._next_s * 2, self._patience.longest_wait_s)
