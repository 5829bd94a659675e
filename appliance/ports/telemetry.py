"""Where clients' own metrics go."""

from typing import Protocol
from uuid import UUID

from msgspec import Struct


class ClientReport(Struct, frozen=True):
    """What one client told: names of the prescribed form, and numbers that may be false."""

    principal: str
    instance: UUID
    metrics: tuple[tuple[str, float], ...]


class TelemetrySink(Protocol):
    """Takes reports; returns at once, and bounds what it keeps of them."""

    def report(self, report: ClientReport) -> None:
        """One report of one client."""
        ...
