"""A node that is stopped like a process (SIGSTOP), on three nodes: who can write, and when.

A stopped process keeps its connections and says nothing. A run stops one of the nodes, each in
turn, the one that leads the catalogue included, and measures on its side of the socket what three
clients find: a producer that connects now and writes to every partition (`FRESH_S`); one that
writes all the time with socket.timeout.ms=3000 and librdkafka's defaults otherwise (`GOES_ON_S`);
and, told and not judged, one with all defaults, whose requests wait a minute for the stopped node.
Afterwards the node goes on, and every record is there once.
"""

import os
import signal
import statistics
import time

from confluent_kafka import Producer, libversion

from tests.torture.failover import (
    NODES,
    PARTITIONS,
    TOPIC,
    Load,
    UnderLoad,
    printed,
    wait_for,
)

FRESH_S = 5.0
GOES_ON_S = 15.0
DEFAULTS_S = 150.0
"""For the client with all defaults to write again, paused node or not: it is told, not judged."""
SETTLE_S = 1.0
TOPIC_OF_DEFAULTS = "defaults"
TOPIC_OF_FRESH = "fresh"
STOCK = {"enable.idempotence": "true", "socket.timeout.ms": "3000"}


class Paused(UnderLoad):
    """The suite: a run is one node stopped, and let go on."""

    settings = STOCK
    topics = (TOPIC, TOPIC_OF_DEFAULTS, TOPIC_OF_FRESH)

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.fresh_s: list[float] = []
        self.goes_on_s: list[float] = []
        self.defaults_s: list[float] = []

    def run(self, number: int) -> int:
        """Stops a node, has clients write, lets it go on; judges."""
        node = 1 + number % NODES
        led = self._led().get(node, [])
        defaults = Load(self._nodes.client("admin"), topic=TOPIC_OF_DEFAULTS)
        defaults.start()
        try:
            wait_for(lambda: all(defaults.told_s), "acknowledgements")
            time.sleep(SETTLE_S)
            self._paused(node, defaults, hurts=bool(led) and number < NODES)
        finally:
            defaults.finish()
        if defaults.errors:
            raise AssertionError(f"a client with defaults was told: {defaults.errors[0]}")
        # Each partition goes back to who is to lead it once that holds what was written meanwhile:
        # until then two of three would be missing when the next node is stopped.
        wait_for(self._led_as_preferred, "leadership to return")
        if self.fresh_s[-1] > FRESH_S:
            raise AssertionError(f"a fresh connection wrote after {self.fresh_s[-1]:.1f} s only")
        if self.goes_on_s[-1] > GOES_ON_S:
            raise AssertionError(f"a stock client stood still for {self.goes_on_s[-1]:.1f} s")
        return 1

    def _paused(self, node: int, defaults: Load, *, hurts: bool) -> None:
        pid = self._nodes.pid(node)
        stopped_s = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            self.fresh_s.append(self._fresh(stopped_s))
            wait_for(lambda: self._resumed(self._load, stopped_s), "a stock client to go on")
            self.goes_on_s.append(max(self._load.gap_s(at, stopped_s) for at in range(PARTITIONS)))
            if hurts:
                wait_for(lambda: self._resumed(defaults, stopped_s), "defaults", DEFAULTS_S)
                gaps_s = [defaults.gap_s(at, stopped_s) for at in range(PARTITIONS)]
                self.defaults_s.append(max(gaps_s))
        finally:
            os.kill(pid, signal.SIGCONT)

    def _led_as_preferred(self) -> bool:
        """Whether each partition is led by its first replica."""
        topics = self._admin.list_topics(timeout=10).topics
        return all(
            told.leader == told.replicas[0]
            for name in self.topics
            for told in topics[name].partitions.values()
        )

    def _fresh(self, since_s: float) -> float:
        """How long after a moment a client that connects now has written to every partition."""
        settings = self._nodes.client("admin") | STOCK
        told: dict[int, object] = {}
        producer = Producer(settings)
        for partition in range(PARTITIONS):
            producer.produce(
                TOPIC_OF_FRESH,
                b"fresh",
                partition=partition,
                on_delivery=lambda error, message: told.setdefault(message.partition(), error),
            )
        wait_for(lambda: producer.poll(0.01) is None or len(told) == PARTITIONS, "a fresh client")
        if any(told.values()):
            raise AssertionError(f"a fresh client was told: {told}")
        return time.monotonic() - since_s

    @staticmethod
    def _resumed(load: Load, since_s: float) -> bool:
        """Whether every partition is written to again, its silence over."""
        now_s = time.monotonic()
        return now_s - since_s > 3 * SETTLE_S and all(
            told_s[-1] > now_s - SETTLE_S / 2 for told_s in load.told_s
        )

    def summary(self) -> str:
        """What each client found, and what it was told."""
        if not self.fresh_s:
            return "no pause"

        def of(times_s: list[float]) -> str:
            if not times_s:
                return "not seen"
            return f"p50 {statistics.median(times_s):.2f} s, max {max(times_s):.2f} s"

        return (
            f"{len(self.fresh_s)} nodes stopped; all partitions written to from a fresh connection"
            f" after {of(self.fresh_s)}; a client with {printed(STOCK)} stood still for"
            f" {of(self.goes_on_s)}, one with all defaults for {of(self.defaults_s)};"
            f" {self._read_back} records read back, each once; librdkafka {libversion()[0]}"
        )
