"""Credentials of the catalogue: what is kept of users' passwords, so that they can log in.

Rules: deterministic, as all of the catalogue. A password never comes here, only what SCRAM keeps of
it; no value of this module shows its keys. Mechanisms are kept by Kafka's numbers.
"""

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

    def __repr__(self) -> str:
        """Shows whose it is, never what."""
        return f"SetScram({self.user!r}, {self.mechanism}, …)"


class RemoveScram(Command, frozen=True, tag="remove-scram/1"):
    """Removes a user's credential for one mechanism."""

    user: str
    mechanism: int


CredentialCommand = SetScram | RemoveScram


class CredentialChanged(msgspec.Struct, frozen=True):
    """The credential is as it was told to be."""

    user: str


class Credentials:
    """Every credential, by user and mechanism."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], SetScram] = {}

    @property
    def held(self) -> Mapping[tuple[str, int], SetScram]:
        """Every credential by user and mechanism."""
        return MappingProxyType(self._held)

    def apply(self, command: CredentialCommand) -> CredentialChanged | CommandRefused:
        """Takes the next command about credentials."""
        key = (command.user, command.mechanism)
        if isinstance(command, RemoveScram):
            if self._held.pop(key, None) is None:
                return CommandRefused(ErrorCode.RESOURCE_NOT_FOUND, "there is no such credential")
        elif key not in self._held and len(self._held) >= MAX_SCRAM_CREDENTIALS:
            return CommandRefused(
                ErrorCode.POLICY_VIOLATION, f"there are {MAX_SCRAM_CREDENTIALS} credentials"
            )
        else:
            self._held[key] = command
        return CredentialChanged(command.user)
