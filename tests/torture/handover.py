"""Leadership that moves on purpose, under load, on three nodes: how long producers stand still.

A run hands every partition to another of its nodes, one after the other, and then drains the node
that leads most. The stall of a move is the longest time between two acknowledgements of a partition
that moved, and must stay under `MAX_STALL_S`. Afterwards every record is there once.
"""

import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from confluent_kafka import libversion

from appliance.client import profile
from appliance.client.admin import Admin
from appliance.client.patience import Patience
from appliance.client.secure import connector
from appliance.client.session import open_session
from appliance.errors import RequestError
from appliance.types import NodeId, PartitionIndex, TopicName
from tests.torture.failover import PARTITIONS, SETTINGS, TOPIC, UnderLoad, printed, wait_for

MAX_STALL_S = 0.2
SETTLE_S = 0.5
"""Of undisturbed load before and after each move."""
DRAINED_S = 10.0


class AsAdmin(UnderLoad):
    """What operators do, while the load runs."""

    def _with_admin(self, act: Callable[[Admin], Awaitable[None]]) -> None:
        async def main() -> None:
            known = profile.find(self._nodes.directory / "client" / "admin.toml", {})
            async with open_session(connector(known), known.bootstrap, Patience()) as session:
                await act(Admin(session))

        trio.run(main)

    def _lead_all(self, node: int) -> None:
        """Asks that one node lead every partition that it does not lead yet."""
        others = {at for leader, led in self._led().items() if leader != node for at in led}

        async def ask(admin: Admin) -> None:
            for partition in sorted(others):
                with suppress(RequestError):  # it has moved meanwhile, or cannot now
                    await admin.lead_partition(
                        TopicName(TOPIC), PartitionIndex(partition), NodeId(node)
                    )

        if others:
            self._with_admin(ask)


class Handovers(AsAdmin):
    """The suite: a run is a transfer of each partition, and a drain."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.transfers_s: list[float] = []
        self.drains_s: list[float] = []
        self.undisturbed_s: list[float] = []
        """As long, of all partitions, while nothing moves: what this machine costs by itself."""

    def run(self, number: int) -> int:
        """Moves every leader once, and empties a node; judges the stalls."""
        self._with_admin(self._transfer_all)
        self._with_admin(self._drain_one)
        began_s = time.monotonic()
        time.sleep(2 * SETTLE_S)
        self.undisturbed_s.append(max(self._load.gap_s(at, began_s) for at in range(PARTITIONS)))
        worst_s = max(*self.transfers_s[-PARTITIONS:], self.drains_s[-1])
        if worst_s > MAX_STALL_S:
            raise AssertionError(
                f"run {number}: a producer stood still for {1000 * worst_s:.0f} ms"
            )
        return 1

    async def _transfer_all(self, admin: Admin) -> None:
        for partition in range(PARTITIONS):
            leader = self._leader_of(partition)
            to = 1 + leader % 3
            await trio.sleep(SETTLE_S)
            began_s = time.monotonic()
            await admin.lead_partition(TopicName(TOPIC), PartitionIndex(partition), NodeId(to))
            await trio.sleep(SETTLE_S)
            wait_for(lambda at=partition, to=to: self._leader_of(at) == to, "the new leader")
            self.transfers_s.append(self._load.gap_s(partition, began_s))

    async def _drain_one(self, admin: Admin) -> None:
        led = self._led()
        node = max(led, key=lambda each: (len(led[each]), each))
        await trio.sleep(SETTLE_S)
        began_s = time.monotonic()
        await admin.drain_node(NodeId(node), draining=True)
        with trio.fail_after(DRAINED_S):
            while node in self._led():  # noqa: ASYNC110 - another process is waited for
                await trio.sleep(0.05)
        await trio.sleep(SETTLE_S)
        self.drains_s.append(max(self._load.gap_s(each, began_s) for each in led[node]))
        await admin.drain_node(NodeId(node), draining=False)

    def _leader_of(self, partition: int) -> int:
        return next(node for node, led in self._led().items() if partition in led)

    def summary(self) -> str:
        """The stalls, and what the client was told."""
        parts = [
            f"{len(stalls)} {what}: p50 {statistics.median(stalls):.3f} s, max {max(stalls):.3f} s"
            for what, stalls in (
                ("transfers", self.transfers_s),
                ("drains", self.drains_s),
                ("times undisturbed", self.undisturbed_s),
            )
            if stalls
        ]
        return (
            f"longest silence of a partition in {'; '.join(parts)};"
            f" {self._read_back} records read back, each once;"
            f" librdkafka {libversion()[0]} with {printed(SETTINGS)}"
        )
