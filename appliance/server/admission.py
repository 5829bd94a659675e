"""How many connections and handshakes there may be, in all and from one address.

A flood from one place must not use up what everybody shares (THREATS: 'Length prefix allocates
before login'). IPv6 is counted by /64, which is what one host commonly has to itself.
"""

import resource
import sys
from collections import Counter
from ipaddress import IPv6Address, ip_address

import msgspec

from appliance.limits import (
    KEPT_DESCRIPTORS,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_HANDSHAKES_AT_ONCE,
    MAX_HANDSHAKES_PER_ADDRESS,
)


class AdmissionLimits(msgspec.Struct, frozen=True):
    """Counts; smaller in tests."""

    max_connections: int = MAX_CONNECTIONS
    max_connections_per_address: int = MAX_CONNECTIONS_PER_ADDRESS
    max_handshakes: int = MAX_HANDSHAKES_AT_ONCE
    max_handshakes_per_address: int = MAX_HANDSHAKES_PER_ADDRESS


class Admission:
    """Counts of one listener. Every `enter` that returned True is followed by one `leave`."""

    __slots__ = (
        "_connections",
        "_descriptors",
        "_handshakes",
        "_limits",
        "_total_connections",
        "_total_handshakes",
        "refused",
    )

    def __init__(self, limits: AdmissionLimits, descriptors: int = sys.maxsize) -> None:
        """Begins with nobody; sockets numbered `descriptors` or higher are refused."""
        self._limits = limits
        self._descriptors = descriptors
        self._connections: Counter[str] = Counter()
        self._handshakes: Counter[str] = Counter()
        self._total_connections = 0
        self._total_handshakes = 0
        self.refused = 0
        """Since the last time that somebody reported them."""

    def enter(self, origin: str, descriptor: int = 0) -> bool:
        """Lets a new connection begin its handshake, or counts it as refused."""
        limits = self._limits
        if (
            descriptor >= self._descriptors
            or self._total_connections >= limits.max_connections
            or self._connections[origin] >= limits.max_connections_per_address
            or self._total_handshakes >= limits.max_handshakes
            or self._handshakes[origin] >= limits.max_handshakes_per_address
        ):
            self.refused += 1
            return False
        self._connections[origin] += 1
        self._handshakes[origin] += 1
        self._total_connections += 1
        self._total_handshakes += 1
        return True

    def handshake_over(self, origin: str) -> None:
        """The handshake of a connection has ended, well or not."""
        self._total_handshakes -= 1
        _less(self._handshakes, origin)

    def leave(self, origin: str) -> None:
        """A connection has ended."""
        self._total_connections -= 1
        _less(self._connections, origin)


def origin_of(address: str) -> str:
    """What connections from `address` are counted under."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return parsed.exploded[:19]
    return str(parsed)


def descriptors_of_clients() -> int:
    """The number from which on a socket's descriptor is one that clients have to leave.

    The kernel gives the lowest number that is free, so it tells how many are taken: a flood of
    connections must not take those that the node opens its files with.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return sys.maxsize
    return most - min(KEPT_DESCRIPTORS, most // 2)


def _less(counts: Counter[str], origin: str) -> None:
    counts[origin] -= 1
    if counts[origin] <= 0:
        del counts[origin]
