"""kill -9 of a leader under load, on three nodes: how long until its partitions are written to.

A producer (librdkafka, acks=all, idempotent, one that knows KIP-951) writes to every partition all
the time. The gap of a kill is the longest time that any partition of the killed leader went without
an acknowledgement, and must stay under `MAX_GAP_S`. Afterwards every record is there once.
"""

import contextlib
import itertools
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from confluent_kafka import Consumer, Message, Producer, TopicPartition, libversion
from confluent_kafka.admin import AdminClient, NewTopic

from tests.torture.kills import COMMAND, free_ports

T = TypeVar("T")

TOPIC = "failover"
PARTITIONS = 6
NODES = 3
START_S = 120
MAX_GAP_S = 1.5
RECORDS_PER_S = 500
SETTLE_S = 1.0
"""Of undisturbed load before each kill."""

SETTINGS = {
    "acks": "all",
    "enable.idempotence": "true",
    "linger.ms": "5",
    "message.timeout.ms": "120000",
    "socket.timeout.ms": "3000",
    "reconnect.backoff.ms": "20",
    "reconnect.backoff.max.ms": "200",
    "retry.backoff.ms": "50",
    "retry.backoff.max.ms": "200",
    "topic.metadata.refresh.fast.interval.ms": "50",
}
"""What the client is told beyond its defaults; printed with the result."""


class ThreeNodes:
    """A quickstart of three nodes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lines: list[str] = []
        names = ("--kafka-port", "--native-port", "--peer-port")
        ports = [three_free_ports() for _ in names]
        options = [each for pair in zip(names, map(str, ports), strict=True) for each in pair]
        command = [COMMAND, "quickstart", "--dir", directory, "--nodes", str(NODES), *options]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._drain, daemon=True).start()
        try:
            wait_for(lambda: any(line.startswith("ready ") for line in self._lines), "the cluster")
        except BaseException:
            self.close()
            raise

    def _drain(self) -> None:
        self._lines.extend(self._process.stdout)

    def client(self, name: str) -> dict[str, str]:
        """The settings that a client of this principal needs."""
        lines = (self.directory / "client" / f"{name}.properties").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")

    def pid(self, node: int) -> int:
        return int((self.directory / "nodes" / str(node) / "pid").read_text())

    def kill(self, node: int) -> None:
        os.kill(self.pid(node), signal.SIGKILL)

    def count(self, text: str) -> int:
        """How many lines have said this."""
        return sum(text in line for line in tuple(self._lines))

    def restarts(self, node: int) -> int:
        """How often a node has come back."""
        return self.count(f"node {node} serves again")

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Load(threading.Thread):
    """Writes numbered records to each partition in turn; notes when each was acknowledged."""

    def __init__(self, settings: dict[str, str], topic: str = TOPIC, record_bytes: int = 0) -> None:
        super().__init__(daemon=True)
        self._topic = topic
        self._record_bytes = record_bytes
        self._producer = Producer(settings)
        self.acknowledged: dict[bytes, tuple[int, int]] = {}
        self.told_s: list[list[float]] = [[] for _ in range(PARTITIONS)]
        """Per partition, when its acknowledgements came."""
        self.errors: list[str] = []
        self.count = 0
        self._stopping = threading.Event()

    def run(self) -> None:
        began = time.monotonic()
        while not self._stopping.is_set():
            due = int((time.monotonic() - began) * RECORDS_PER_S)
            while self.count < due:
                value = str(self.count).encode().ljust(self._record_bytes, b".")
                partition = self.count % PARTITIONS
                try:
                    self._producer.produce(
                        self._topic, value, partition=partition, on_delivery=self._told
                    )
                except BufferError:
                    break
                self.count += 1
            self._producer.poll(0.002)

    def _told(self, error: object, message: Message) -> None:
        if error is not None:
            self.errors.append(str(error))
            return
        self.acknowledged[message.value()] = (message.partition(), message.offset())
        self.told_s[message.partition()].append(time.monotonic())

    def gap_s(self, partition: int, since_s: float) -> float:
        """The longest silence of a partition since a moment, the one that lasts included."""
        told_s = self.told_s[partition]
        before = [at for at in told_s[-5 * RECORDS_PER_S :] if at < since_s][-1:]
        after = [at for at in told_s[-100 * RECORDS_PER_S :] if at >= since_s]
        times = [*before, *after, time.monotonic()]
        return max(later - sooner for sooner, later in itertools.pairwise(times))

    def finish(self) -> None:
        """Stops, and waits for everything that was sent."""
        self._stopping.set()
        self.join()
        if self._producer.flush(START_S):
            raise AssertionError("what was sent is not acknowledged")


class UnderLoad:
    """Three nodes and a producer that writes to every partition as long as runs are played."""

    settings = SETTINGS
    topics: tuple[str, ...] = (TOPIC,)
    """What is made; the producer writes to the first."""
    topic_settings: Mapping[str, str] = MappingProxyType({})
    record_bytes = 0

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._read_back = 0

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory(prefix="memorystreamer-torture-") as root:
            self._nodes = ThreeNodes(Path(root) / "data")
            try:
                settings = self._nodes.client("admin")
                self._admin = AdminClient(settings)
                new = [
                    NewTopic(topic, PARTITIONS, NODES, config=dict(self.topic_settings))
                    for topic in self.topics
                ]
                for made in self._admin.create_topics(new).values():
                    made.result(30)
                self._load = Load(settings | self.settings, record_bytes=self.record_bytes)
                self._load.start()
                wait_for(lambda: all(self._load.told_s), "acknowledgements")
                yield
                self._load.finish()
                self._check(settings)
            finally:
                self._nodes.close()

    def _led(self) -> dict[int, list[int]]:
        """The partitions that each node leads; waits until each has a leader."""

        def found() -> dict[int, list[int]] | None:
            described = self._admin.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
            led: dict[int, list[int]] = {}
            for partition, told in described.items():
                led.setdefault(told.leader, []).append(partition)
            return None if -1 in led or len(described) < PARTITIONS else led

        return wait_for(found, "leaders")

    def _check(self, settings: dict[str, str]) -> None:
        """Every record that was sent is there, once, where it was acknowledged."""
        if self._load.errors:
            raise AssertionError(f"a client was told: {self._load.errors[0]}")
        consumer = Consumer(
            settings
            | {
                "group.id": "failover",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": "true",
            }
        )
        consumer.assign([TopicPartition(TOPIC, index, 0) for index in range(PARTITIONS)])
        found, ended = [], 0
        while ended < PARTITIONS:
            message = consumer.poll(30)
            if message is None:
                raise AssertionError("a partition does not end")
            if message.error() is not None:
                ended += 1
            else:
                found.append((message.value(), (message.partition(), message.offset())))
        consumer.close()
        places: dict[bytes, list[tuple[int, int]]] = {}
        for value, place in found:
            places.setdefault(value, []).append(place)
        twice = [(value.strip(b"."), at) for value, at in places.items() if len(at) > 1]
        # What librdkafka takes for written because a later batch is has no offset.
        elsewhere = [
            (value.strip(b"."), told, places.get(value))
            for value, told in self._load.acknowledged.items()
            if [told] != places.get(value) and told[1] >= 0
        ]
        if len(found) != self._load.count or elsewhere:
            raise AssertionError(
                f"{self._load.count} records were sent, {len(found)} are there; twice, by partition"
                f" and offset: {twice[:3]}; not where they were acknowledged: {elsewhere[:3]}"
            )
        self._read_back = len(found)


class Failovers(UnderLoad):
    """The suite: a run is one kill of the node that leads most of what can be led."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.gaps_s: list[float] = []

    def run(self, number: int) -> int:
        """Kills a leader, waits until all is as before, and judges the gap."""
        time.sleep(SETTLE_S)
        led = self._led()
        victim = sorted(led, key=lambda node: (-len(led[node]), node))[number % len(led)]
        restarts = self._nodes.restarts(victim)
        killed_s = time.monotonic()
        self._nodes.kill(victim)
        wait_for(
            lambda: all(self._moved(partition, killed_s) for partition in led[victim]),
            "writes to resume",
        )
        gap_s = max(self._load.gap_s(partition, killed_s) for partition in led[victim])
        wait_for(lambda: self._nodes.restarts(victim) > restarts, "the node to be back")
        self.gaps_s.append(gap_s)
        if gap_s > MAX_GAP_S:
            raise AssertionError(f"no acknowledgement for {gap_s:.2f} s after the kill")
        return 1

    def _moved(self, partition: int, since_s: float) -> bool:
        """Whether a partition has been written to for a while after its silence."""
        told_s = self._load.told_s[partition]
        return time.monotonic() - since_s > 2 * SETTLE_S and told_s[-1] > time.monotonic() - 0.2

    def summary(self) -> str:
        """The gaps, and what the client was told."""
        gaps = sorted(self.gaps_s)
        if not gaps:
            return "no kill"
        return (
            f"{len(gaps)} leaders killed; writes resumed after p50 {statistics.median(gaps):.2f} s,"
            f" max {gaps[-1]:.2f} s; {self._read_back} records read back, each once;"
            f" librdkafka {libversion()[0]} with {printed(SETTINGS)}"
        )


def printed(settings: dict[str, str]) -> str:
    """What a client was told beyond its defaults, for the line of a result."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def three_free_ports() -> int:
    """The first of three neighbouring ports that are free."""
    for _ in range(100):
        (first,) = free_ports(1)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + NODES):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                continue
            return first
    raise AssertionError("no three neighbouring ports are free")


def wait_for(condition: Callable[[], T], what: str, seconds: float = START_S) -> T:
    """Polls a condition; returns what it gave."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {seconds} s")
        time.sleep(0.01)
    return value
