"""The cluster's features as Kafka's clients know them (KIP-584): what is finalised, and how far.

A feature is listed when all that its level promises a client is served, and not before: clients
turn on what a level allows. So `group.version` (KIP-848) and `transaction.version` (KIP-890) come
with those protocols.
"""

from typing import Final

from msgspec import Struct

from appliance.invariant import invariant


class Feature(Struct, frozen=True):
    """One feature: the levels that could be finalised, and the one that is."""

    name: str
    lowest: int
    highest: int
    finalised: int


FEATURES: Final = (Feature("metadata.version", 7, 25, 25),)
"""Level 25 is Kafka 4.0's; 7 is the lowest that Kafka 4 still knows."""

FEATURES_EPOCH: Final = 1
"""Grows when a finalised level changes, which none has."""

invariant(
    all(0 < each.lowest <= each.finalised <= each.highest for each in FEATURES),
    "a finalised level is one that is served, and version 3 of ApiVersions can say its lowest",
)
