"""The suite `cluster`: real processes, three and five nodes, real clients, and what befalls them.

An even run is played on three nodes, an odd one on five, on the shipped disk or, in runs that cut
the power and in every third other, on one that loses what was not synced. At the end the troubles
stop, every partition must become available within a bound, everything is read back, and the history
of every client goes before the judge of Kafka histories (`tests.checkers`). The canary is the same
with disks that lie, and must be caught.
"""

import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.checkers.kafka_history import ANOMALIES, Send, Verdict, check, encode
from tests.torture.cluster.load import (
    ADMINISTRATION,
    PARTITIONS,
    Administrator,
    Client,
    Finisher,
    History,
    Member,
    Prober,
    Reader,
    Writer,
)
from tests.torture.cluster.machines import Cluster
from tests.torture.cluster.nemesis import TROUBLES, Nemesis
from tests.torture.failover import wait_for

C = TypeVar("C", bound=Client)

SIZES = (3, 5)
AVAILABLE_S = 60
"""From the end of the last trouble until every partition has taken a write."""
GROUP_S = 60


class Run:
    """One run: its clients, its history and its verdict."""

    def __init__(self, cluster: Cluster, name: str, source: random.Random) -> None:
        self._cluster = cluster
        self.topic = f"run-{name}"
        self.history = History()
        self._settings = cluster.client()
        self.nemesis = Nemesis(cluster, source, self._settings, self.topic)
        self.available_s = 0.0
        self.verdict: Verdict | None = None
        self._replicas = source.choice([size for size in (3, 5) if size <= cluster.size])

    def prepare(self) -> None:
        """Makes the topic, and has every client at work."""
        wait_for(self._make_topic, "the topic")
        self._writers = [self._client(Writer, f"writer{each}") for each in range(2)]
        self._members = [self._client(Member, f"member{each}") for each in range(2)]
        self._reader = self._client(Reader, "reader")
        self._administrator = Administrator("admin", self.history, self._settings, self.topic)
        self._clients: list[Client] = [
            *self._writers, *self._members, self._reader, self._administrator,
        ]  # fmt: skip
        for client in self._clients:
            client.start()
        wait_for(lambda: len(self.history.operations) > 200, "acknowledgements")

    def _make_topic(self) -> bool:
        """Whether the topic is there now; a cluster that has just begun may have no leader yet."""
        admin = AdminClient(self._settings | ADMINISTRATION)
        wanted = NewTopic(self.topic, PARTITIONS, self._replicas)
        made = admin.create_topics([wanted], request_timeout=10)
        error = made[self.topic].exception(15)
        known = isinstance(error, KafkaException) and error.args[0].code()
        return error is None or known == KafkaError.TOPIC_ALREADY_EXISTS

    def _client(self, kind: type[C], name: str) -> C:
        return kind(name, self.history, self._settings, self.topic)

    def settle(self) -> None:
        """Everything is mended; waits for availability, reads to the end, and judges."""
        self._cluster.links.mend()
        began_s = time.monotonic()
        prober = self._client(Prober, "prober")
        prober.start()
        prober.finish()
        self.available_s = time.monotonic() - began_s
        self._cluster.await_serving()
        for writer in self._writers:
            writer.finish()
        finisher = self._client(Finisher, "finisher")
        finisher.start()
        finisher.finish()
        acknowledged = self._acknowledged()
        with contextlib.suppress(AssertionError):
            wait_for(lambda: acknowledged <= self._seen_by_group(), "the group's end", GROUP_S)
        for client in self._clients[2:]:
            client.finish()
        missed = acknowledged - self._seen_by_group()
        self.history.findings += [f"the group never saw {value}" for value in sorted(missed)[:5]]
        self._administrator.judge()
        self.verdict = check(self.history.operations, read_to_end=True)
        self._administrator.clear(self.topic)

    def _acknowledged(self) -> set[str]:
        return {
            each.value
            for each in self.history.operations
            if isinstance(each, Send) and each.result.value == "ok"
        }

    def _seen_by_group(self) -> set[str]:
        return set().union(*(member.values for member in self._members))

    def findings(self) -> list[str]:
        """What must not be, in words."""
        found = [f"{each.name}: {each.text}" for each in self.verdict.anomalies]
        found += self.history.findings + self._cluster.faults() + self.nemesis.failures
        if self.available_s > AVAILABLE_S:
            found.append(f"available only {self.available_s:.0f} s after the last trouble")
        return found


class ClusterRuns:
    """The suite: a run is a number, which says how many nodes and which trouble comes first."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._clusters: dict[int, Cluster] = {}
        self._troubles: Counter[str] = Counter()
        self._runs: Counter[int] = Counter()
        self._anomalies: Counter[str] = Counter()
        self._figures: Counter[str] = Counter()
        self._slowest_s = 0.0

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        try:
            yield
        finally:
            for cluster in self._clusters.values():
                cluster.close()

    def run(self, number: int) -> int:
        """Plays one run and prints what befell it."""
        source = random.Random(f"cluster {self._seed} {number}")
        size = SIZES[number % len(SIZES)]
        theme = list(TROUBLES)[number // len(SIZES) % len(TROUBLES)]
        disk = "held" if theme == "power" or source.random() < 1 / 3 else "real"
        cluster = self._cluster_of(size, disk)
        run = Run(cluster, f"{self._seed}-{number}", source)
        try:
            run.prepare()
            run.nemesis.play(theme)
            run.settle()
            self._count(number, size, run)
            found = run.findings()
            assert not found, "\n".join(found[:20])
        except BaseException:
            self._keep(number, size, run)
            raise
        cluster.stop()
        return 1

    def _cluster_of(self, size: int, disk: str) -> Cluster:
        """The cluster of so many nodes, serving; a new one where there is none to go on with."""
        cluster = self._clusters.get(size)
        if cluster is not None and cluster.spent:
            self._clusters.pop(size).close()
            cluster = None
        if cluster is None:
            root = Path(tempfile.mkdtemp(prefix="memorystreamer-torture-")) / "data"
            cluster = self._clusters[size] = Cluster(root, size, disk)
        if cluster.disk != disk:
            cluster.stop()
            cluster.disk = disk
        cluster.await_serving()
        return cluster

    def _count(self, number: int, size: int, run: Run) -> None:
        verdict = run.verdict
        self._runs[size] += 1
        self._troubles += run.nemesis.played
        self._anomalies += Counter(anomaly.name for anomaly in verdict.anomalies)
        self._figures += Counter(
            acknowledged=verdict.acknowledged, unknown=verdict.unknown, read=verdict.read
        )
        self._slowest_s = max(self._slowest_s, run.available_s)
        print(
            f"run {number}: {size} nodes, {self._clusters[size].disk} disks;"
            f" {', '.join(run.nemesis.story)}; {verdict};"
            f" available after {run.available_s:.1f} s"
        )

    def _keep(self, number: int, size: int, run: Run) -> None:
        """Leaves the failing cluster's directory, logs and history, and begins with another."""
        cluster = self._clusters.pop(size)
        kept = cluster.root.parent / f"run-{number}"
        history = cluster.root.parent / f"run-{number}.jsonl"
        history.write_bytes(b"".join(map(encode, run.history.operations)))
        cluster.close(keep=kept)
        print(f"run {number}: {', '.join(run.nemesis.story)}; kept in {kept} and {history}")

    def summary(self) -> str:
        """Figures: runs by size, troubles by name, and every kind of anomaly."""
        runs = ", ".join(f"{self._runs[size]} runs of {size} nodes" for size in SIZES)
        troubles = ", ".join(f"{count} {name}" for name, count in self._troubles.most_common())
        anomalies = ", ".join(f"{self._anomalies[name]} {name}" for name in ANOMALIES)
        return (
            f"{runs}; {troubles}; {self._figures['acknowledged']} acknowledged,"
            f" {self._figures['unknown']} unknown, {self._figures['read']} read; {anomalies};"
            f" available at the latest {self._slowest_s:.1f} s after the last trouble"
        )


class Canary(ClusterRuns):
    """Must be caught: disks that forget what they synced, and a power cut of the whole cluster."""

    def run(self, number: int) -> int:
        source = random.Random(f"canary {self._seed} {number}")
        cluster = self._cluster_of(3, "held")
        run = Run(cluster, f"canary-{self._seed}-{number}", source)
        run.prepare()
        cluster.lie(lying=True)
        before = len(run.history.operations)
        wait_for(lambda: len(run.history.operations) > before + 500, "acknowledgements")
        cluster.kill(cluster.members)
        cluster.lie(lying=False)
        cluster.start(cluster.members)
        run.settle()
        self._count(number, 3, run)
        self._clusters.pop(3).close()
        caught = {anomaly.name for anomaly in run.verdict.anomalies}
        if not caught & {"lost-write", "inconsistent-offsets"}:
            raise AssertionError(f"what was lost was not found: {run.verdict}")
        return 1
