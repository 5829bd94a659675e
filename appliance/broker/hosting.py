"""What a replica needs of the node that it lives on.

Rules: a replica knows no other replica and no connection. What it says to other members goes
through its host, which also learns who leads it and when it needs time to pass.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import trio

from appliance.broker.pacing import MovePace
from appliance.ports import Clock, Entropy, NodeStorage
from appliance.raft.messages import PeerMessage
from appliance.raft.ready import Leadership, Shrunk
from appliance.types import Entry, PartitionId


class Host(Protocol):
    """What a replica needs of the node it lives on; `broker.consensus` is the real one."""

    @property
    def incarnation(self) -> int:
        """Grows with each start of the node."""
        ...

    def send(self, group: PartitionId, message: PeerMessage, entries: Sequence[Entry]) -> None:
        """Queues a message for the node that it is to."""
        ...

    def led(self, group: PartitionId, leadership: Leadership) -> None:
        """Learns who leads a group now, as its member here knows."""
        ...

    def stirred(self, group: PartitionId) -> None:
        """Has the group's time pass until it is quiet again."""
        ...

    def damaged(self, group: PartitionId, *, distrusted: bool) -> None:
        """Learns that a log cannot be read, or, distrusted, that a write or sync of it failed."""
        ...

    def shrunk(self, group: PartitionId, shrunk: Shrunk) -> None:
        """Raises the alarm: a member holds less than it acknowledged."""
        ...


class Environment(msgspec.Struct, frozen=True):
    """What every replica of a node shares; their tasks run in `nursery`.

    `opened` says how often this group was opened in this life of the node before: a log that was
    cut since then may hold less than it acknowledged, and its leader must be able to tell.
    """

    storage: NodeStorage
    clock: Clock
    entropy: Entropy
    nursery: trio.Nursery
    host: Host
    pace: MovePace
    opened: int = 0
