"""Credentials of the catalogue: what is kept of users' passwords, so that they can log in.

Rules: deterministic, as all of the catalogue. A password never comes here, only what SCRAM keeps of
it; no value of this module shows its keys. Mechanisms are kept by Kafka's numbers. What is told of
users who do not exist is made from a secret that the first credential brought: it is the same on
every node and after every restart, as a real user's salt is.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from appliance.coordination.commands import Command, CommandRefused
from appliance.errors import ErrorCode
from appliance.limits import MAX_SCRAM_CREDENTIALS


class SetScram(Command, frozen=True, tag="set-scram/1"):
    """Sets a user's credential for one mechanism."""

    user: str
    mechanism: int
    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes
    decoy_secret: bytes = b""
    """Fresh, of whoever proposes; the first that is applied is the cluster's for all time."""

    def __repr__(self) -> str:
        """Shows whose it is, never what."""
        return f"SetScram({self.user!r}, {self.mechanism}, …)"


class RemoveScram(Command, frozen=True, tag="remove-scram/1"):
    """Removes a user's credential for one mechanism."""

    user: str
    mechanism: int


Shape = tuple[int, int]
"""What a credential shows to anyone who asks: its iterations, and the length of its salt."""

CredentialCommand = SetScram | RemoveScram


class CredentialChanged(msgspec.Struct, frozen=True):
    """The credential is as it was told to be."""

    user: str


class KeptCredentials(msgspec.Struct, frozen=True):
    """What a snapshot holds of them."""

    held: tuple[SetScram, ...]
    decoy_secret: bytes

    def __repr__(self) -> str:
        """Shows how many there are, never what."""
        return f"KeptCredentials({len(self.held)}, …)"


class Credentials:
    """Every credential, by user and mechanism."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], SetScram] = {}
        self._shapes: dict[int, Counter[Shape]] = {}
        self.decoy_secret = b""
        """From which salts of users who do not exist are made; empty before the first user."""

    @property
    def held(self) -> Mapping[tuple[str, int], SetScram]:
        """Every credential by user and mechanism."""
        return MappingProxyType(self._held)

    def shapes(self, mechanism: int) -> Mapping[Shape, int]:
        """How many credentials of a mechanism have each shape."""
        return MappingProxyType(self._shapes.get(mechanism, Counter()))

    def kept(self) -> KeptCredentials:
        """Everything, for a snapshot."""
        return KeptCredentials(tuple(self._held.values()), self.decoy_secret)

    def restore(self, kept: KeptCredentials) -> None:
        """Holds what a snapshot holds, and nothing else."""
        self._held = {(each.user, each.mechanism): each for each in kept.held}
        self.decoy_secret = kept.decoy_secret
        self._shapes = {}
        for each in kept.held:
            self._count(each, 1)

    def apply(self, command: CredentialCommand) -> CredentialChanged | CommandRefused:
        """Takes the next command about credentials."""
        key = (command.user, command.mechanism)
        before = self._held.get(key)
        if isinstance(command, RemoveScram):
            if before is None:
                return CommandRefused(ErrorCode.RESOURCE_NOT_FOUND, "there is no such credential")
            del self._held[key]
        elif key not in self._held and len(self._held) >= MAX_SCRAM_CREDENTIALS:
            return CommandRefused(
                ErrorCode.POLICY_VIOLATION, f"there are {MAX_SCRAM_CREDENTIALS} credentials"
            )
        else:
            self._held[key] = command
            self.decoy_secret = self.decoy_secret or command.decoy_secret
        self._count(before, -1)
        self._count(self._held.get(key), 1)
        return CredentialChanged(command.user)

    def _count(self, credential: SetScram | None, by: int) -> None:
        if credential is None:
            return
        shapes = self._shapes.setdefault(credential.mechanism, Counter())
        shape = (credential.iterations, len(credential.salt))
        shapes[shape] += by
        if not shapes[shape]:
            del shapes[shape]
