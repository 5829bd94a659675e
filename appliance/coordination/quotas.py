"""Quotas of the catalogue: how much users, clients and addresses may ask of each node.

Rules: deterministic, as all of the catalogue. An entity is what Kafka's tools name: a user, a
client id, both, or an address, each by its name or as the default (None) of its kind (KIP-546). Of
the quotas that fit a request the most exact one counts, each key by itself, in the order of KIP-55;
where none is set, the generous ones of `limits` do.
"""

from collections.abc import Mapping
from math import isfinite
from types import MappingProxyType
from typing import Final

import msgspec

from appliance.coordination.commands import Command, CommandRefused
from appliance.errors import ErrorCode
from appliance.limits import (
    DEFAULT_CONNECTION_RATE,
    DEFAULT_CONSUMER_BYTE_RATE,
    DEFAULT_MUTATION_RATE,
    DEFAULT_PRODUCER_BYTE_RATE,
    DEFAULT_REQUEST_PERCENTAGE,
    MAX_QUOTA_ENTITIES,
    MAX_QUOTA_NAME_CHARACTERS,
)

USER: Final = "user"
CLIENT_ID: Final = "client-id"
IP: Final = "ip"

PRODUCER_BYTE_RATE: Final = "producer_byte_rate"
CONSUMER_BYTE_RATE: Final = "consumer_byte_rate"
REQUEST_PERCENTAGE: Final = "request_percentage"
CONTROLLER_MUTATION_RATE: Final = "controller_mutation_rate"
CONNECTION_CREATION_RATE: Final = "connection_creation_rate"

DEFAULTS: Final[Mapping[str, float]] = MappingProxyType(
    {
        PRODUCER_BYTE_RATE: DEFAULT_PRODUCER_BYTE_RATE,
        CONSUMER_BYTE_RATE: DEFAULT_CONSUMER_BYTE_RATE,
        REQUEST_PERCENTAGE: DEFAULT_REQUEST_PERCENTAGE,
        CONTROLLER_MUTATION_RATE: DEFAULT_MUTATION_RATE,
        CONNECTION_CREATION_RATE: DEFAULT_CONNECTION_RATE,
    }
)
"""What holds for each user, and for each address, for whom nothing else is said."""

_WHOLE: Final = {
    PRODUCER_BYTE_RATE: (1 << 63) - 1,
    CONSUMER_BYTE_RATE: (1 << 63) - 1,
    CONNECTION_CREATION_RATE: (1 << 31) - 1,
}
"""Keys whose values are whole numbers, and the largest of each (Kafka's LONG and INT)."""

Entity = tuple[tuple[str, str | None], ...]
"""(kind, name) pairs, sorted by kind; a name of None is the default of its kind."""


KeptQuotas = tuple[Entity, tuple[tuple[str, float], ...]]
"""What a snapshot holds of one entity's."""


class SetQuotas(Command, frozen=True, tag="set-quotas/1"):
    """Changes quotas of one entity; a value of None removes the key."""

    entity: Entity
    changes: tuple[tuple[str, float | None], ...]


class QuotasSet(msgspec.Struct, frozen=True):
    """The entity's quotas are as they were told to be."""

    entity: Entity


class Applicable(msgspec.Struct, frozen=True, gc=False):
    """The quota that counts: a rate, and who shares it (None: whoever it is)."""

    user: str | None
    client_id: str | None
    rate: float


class Quotas:
    """Every quota that was set, by its entity."""

    def __init__(self) -> None:
        self._held: dict[Entity, dict[str, float]] = {}
        self.version = 0
        """Grows with every change, so that who keeps what was resolved knows when to ask again."""

    @property
    def held(self) -> Mapping[Entity, Mapping[str, float]]:
        """Every entity's quotas by their keys."""
        return MappingProxyType(self._held)

    def kept(self) -> tuple[KeptQuotas, ...]:
        """Everything, for a snapshot."""
        return tuple((entity, tuple(rates.items())) for entity, rates in self._held.items())

    def restore(self, kept: tuple[KeptQuotas, ...]) -> None:
        """Holds what a snapshot holds, and nothing else."""
        self._held = {entity: dict(rates) for entity, rates in kept}
        self.version += 1

    def apply(self, command: SetQuotas) -> QuotasSet | CommandRefused:
        """Takes the next command about quotas."""
        refusal = fault_in(command.entity, command.changes)
        if refusal is not None:
            return refusal
        values = dict(self._held.get(command.entity, {}))
        for key, value in command.changes:
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
        if values and command.entity not in self._held and len(self._held) >= MAX_QUOTA_ENTITIES:
            return CommandRefused(
                ErrorCode.POLICY_VIOLATION, f"{MAX_QUOTA_ENTITIES} entities have quotas"
            )
        if values:
            self._held[command.entity] = values
        else:
            self._held.pop(command.entity, None)
        self.version += 1
        return QuotasSet(command.entity)

    def applicable(self, user: str, client_id: str, key: str) -> Applicable:
        """The quota that counts for a request of a user by a client, and who shares it."""
        for entity, by_user, by_client in _precedence(user, client_id):
            rate = self._held.get(entity, {}).get(key)
            if rate is not None:
                return Applicable(user if by_user else None, client_id if by_client else None, rate)
        return Applicable(user, None, DEFAULTS[key])

    def connection_rate(self, address: str) -> tuple[bool, float]:
        """(whether it is the address's own, connections a second from it)."""
        own = self._held.get(((IP, address),), {}).get(CONNECTION_CREATION_RATE)
        if own is not None:
            return True, own
        common = self._held.get(((IP, None),), {}).get(CONNECTION_CREATION_RATE)
        return False, DEFAULTS[CONNECTION_CREATION_RATE] if common is None else common


def _precedence(user: str, client_id: str) -> tuple[tuple[Entity, bool, bool], ...]:
    """(entity, shared by user, shared by client id), the most exact first (KIP-55)."""
    return (
        (((CLIENT_ID, client_id), (USER, user)), True, True),
        (((CLIENT_ID, None), (USER, user)), True, True),
        (((USER, user),), True, False),
        (((CLIENT_ID, client_id), (USER, None)), True, True),
        (((CLIENT_ID, None), (USER, None)), True, True),
        (((USER, None),), True, False),
        (((CLIENT_ID, client_id),), False, True),
        (((CLIENT_ID, None),), False, True),
    )


def fault_in(
    entity: Entity, changes: tuple[tuple[str, float | None], ...]
) -> CommandRefused | None:
    """Why quotas cannot be set so, or None; asked before and at apply.

    The rules are those of Kafka's controller: an address stands alone and has the rate of its
    connections only; values are above 0, and whole where Kafka's are.
    """
    kinds = [kind for kind, _ in entity]
    if not kinds:
        return _refused("an entity names a user, a client id or an address")
    if len(set(kinds)) != len(kinds):
        return _refused("a kind of entity is named twice")
    if sorted(kinds) != kinds or not set(kinds) <= {USER, CLIENT_ID, IP}:
        return _refused("entities are 'user', 'client-id' and 'ip'")
    if IP in kinds and len(kinds) > 1:
        return _refused("an 'ip' is not combined with others")
    if any(name is not None and not 0 < len(name) <= MAX_QUOTA_NAME_CHARACTERS
           for _, name in entity):  # fmt: skip
        return _refused(f"a name has 1 to {MAX_QUOTA_NAME_CHARACTERS} characters")
    keys = {CONNECTION_CREATION_RATE} if IP in kinds else DEFAULTS.keys() - {
        CONNECTION_CREATION_RATE
    }  # fmt: skip
    for key, value in changes:
        if key not in keys:
            return _refused(f"'{key[:64]}' is no quota of such an entity")
        if value is not None and (fault := _fault_in_value(key, value)) is not None:
            return _refused(fault)
    return None


def _fault_in_value(key: str, value: float) -> str | None:
    if not isfinite(value) or value <= 0:
        return f"{key} is above 0"
    largest = _WHOLE.get(key)
    if largest is not None and (value > largest or value != int(value)):
        return f"{key} is a whole number up to {largest}"
    return None


def _refused(message: str) -> CommandRefused:
    return CommandRefused(ErrorCode.INVALID_REQUEST, message)
