"""What the gate and the audit ask: the policy, the names it speaks of, a place for events."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from appliance.types import (
    TopicId,
    TopicName,
)


class PolicySource(Protocol):
    """The policy in force, as the catalogue has applied it."""

    def policy(self) -> tuple[int, str]:
        """(version, text); the version grows with each change."""
        ...

    def contact_age_s(self) -> float:
        """Seconds since this node last knew itself in contact with the catalogue.

        0 on its own leader.
        """
        ...


class TopicResolver(Protocol):
    """Names for topic ids, from one snapshot of the catalogue, for requests that name no names."""

    def topic_names(self) -> tuple[TopicName, ...]:
        """Every topic, sorted."""
        ...

    def name_of(self, topic: TopicId) -> TopicName | None:
        """The name of a topic, or None."""
        ...


class AuditSink(Protocol):
    """Where audited events go before the reply does."""

    async def record(self, events: Sequence[msgspec.Struct]) -> None:
        """Returns when the events are durable; raises StorageError.

        And the operation is then refused.
        """
        ...
