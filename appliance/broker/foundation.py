"""What every part of the broker stands on: storage, time, randomness and a nursery.

Rules: a log that has once been led and is not there any more was lost, not never made: it is not
made anew, because an empty log in its place would hide the loss.
"""

from typing import TypeVar
from uuid import UUID

import msgspec
import trio

from appliance.broker.replica import Machine, Replica
from appliance.errors import DamageDetected
from appliance.ports import Clock, Entropy, NodeStorage
from appliance.types import KeyDomainId, PartitionId

R = TypeVar("R")

CATALOGUE_LOG = PartitionId(UUID("00000000-0000-8000-8000-000000000001"))
GROUPS_LOG = PartitionId(UUID("00000000-0000-8000-8000-000000000002"))
"""Internal logs; fixed ids of version 8 (RFC 9562), which no random id of version 4 can be."""


class Foundation(msgspec.Struct, frozen=True):
    """`domain` is the cluster's key domain; flushes and timers run in `nursery`.

    `held` are the logs in storage: looked up there once, and followed from then on.
    """

    storage: NodeStorage
    clock: Clock
    entropy: Entropy
    nursery: trio.Nursery
    domain: KeyDomainId
    held: set[PartitionId]

    def new_id(self) -> UUID:
        """A random UUID (version 4)."""
        return UUID(bytes=self.entropy.random_bytes(16), version=4)

    def new_session_number(self) -> int:
        """A random number from 1 to 2^31 - 1, which nobody can guess from others."""
        return int.from_bytes(self.entropy.random_bytes(4), "big") & 0x7FFF_FFFF or 1

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back."""
        return int(self.clock.monotonic() * 1000)

    async def lead(
        self, partition: PartitionId, machine: Machine[R], domain: KeyDomainId | None = None
    ) -> Replica[R]:
        """Opens or makes a log, takes its leadership and replays it into `machine`.

        A log that is made is sealed in `domain`; None is the cluster's. Raises StorageError
        (DamageDetected for a log that was lost), KeyProviderError.
        """
        storage = self.storage
        if partition in self.held:
            log = await storage.open_log(partition)
        elif storage.hard_state(partition).term > 0:
            raise DamageDetected(f"log {partition} has been written and is not there any more")
        else:
            log = await storage.create_log(partition, domain or self.domain)
            self.held.add(partition)
        replica = Replica(
            partition,
            log,
            machine,
            storage=storage,
            clock=self.clock,
            entropy=self.entropy,
            nursery=self.nursery,
        )
        await replica.start()
        return replica

    async def remove(self, partition: PartitionId) -> None:
        """Removes a closed log, if there is one; raises StorageError."""
        if partition in self.held:
            await self.storage.delete_log(partition)
            self.held.discard(partition)
