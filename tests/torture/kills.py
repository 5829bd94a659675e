"""kill -9 of a real node at random moments, under a real producer; then everything is read back.

The node is made by the quickstart, with keys in a local keystore. A producer (librdkafka, acks=all,
idempotent) writes all the time and notes what was acknowledged, and where. After each kill the node
starts again, and what was acknowledged since the last look must be there, at its offset, unchanged;
now and then, and at the end, all of it. Some kills fall into the start itself, into recovery.
"""

import contextlib
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

COMMAND = Path(sys.executable).with_name("memorystreamer")
TOPIC = "torture"
PARTITIONS = (0,)
START_S = 120
EARLY = 0.4
"""Share of kills that fall into the start."""
ALL_EVERY = 50
OUTSTANDING = 60


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


class KilledNode:
    """A node that the quickstart made, started and killed here as often as one likes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kafka, native = free_ports(2)
        self.passphrase = directory.with_name(f"{directory.name}-passphrase")
        self.passphrase.touch(mode=0o600)
        self.passphrase.write_text("correct horse battery staple")
        self.config = directory / "nodes" / "1" / "node.toml"
        command = [COMMAND, "quickstart", "--dir", directory, "--keys", "local", "--no-restart"]
        command += ["--passphrase-file", self.passphrase]
        command += ["--kafka-port", str(self.kafka), "--native-port", str(native)]
        made = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while line := made.stdout.readline():
            if line.startswith("ready "):
                break
        made.send_signal(signal.SIGTERM)
        made.communicate(timeout=START_S)
        assert line, "the quickstart did not come up"
        zygote = [sys.executable, Path(__file__).with_name("zygote.py")]
        self.log = directory.with_name(f"{directory.name}-node.log").open("ab")
        self._zygote = subprocess.Popen(
            [*zygote, self.config, self.passphrase],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self._pid = 0

    def client(self, name: str) -> dict[str, str]:
        lines = (self.directory / "client" / f"{name}.properties").read_text().splitlines()
        return dict(
            line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")
        )

    def start(self) -> None:
        """Begins a start; `wait_ready` says when it is over."""
        self._say("start")
        self._pid = int(self._hear("pid").split()[1])

    def wait_ready(self) -> None:
        """Returns when the node serves; fails if it ended instead."""
        self._hear("ready")

    def kill(self) -> None:
        """kill -9; returns when the process is gone."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._say("wait")
            self._hear("gone")
            self._pid = 0

    def close(self) -> None:
        self.kill()
        self._zygote.communicate(timeout=START_S)
        self.log.close()

    def _say(self, command: str) -> None:
        self._zygote.stdin.write(f"{command}\n")
        self._zygote.stdin.flush()

    def _hear(self, wanted: str) -> str:
        while line := self._zygote.stdout.readline():
            if line.startswith(wanted):
                return line
        raise AssertionError(f"the node ended before it said {wanted!r}; see {self.log.name}")


class Ledger:
    """What was acknowledged, and where; a digest stands for each value."""

    def __init__(self, settings: dict[str, str], seed: object) -> None:
        self._source = random.Random(repr(seed))
        self._consumer_settings = settings
        self.acknowledged: dict[tuple[int, int], bytes] = {}
        self.read_back = 0
        self._looked_at: dict[int, int] = dict.fromkeys(PARTITIONS, 0)
        self._waiting = 0
        self._producer = Producer(
            settings
            | {
                "acks": "all",
                "enable.idempotence": "true",
                "linger.ms": "2",
                "message.timeout.ms": "300000",
                "reconnect.backoff.ms": "20",
                "reconnect.backoff.max.ms": "100",
                "topic.metadata.refresh.fast.interval.ms": "100",
                "log_level": "0",
            },
        )

    def produce(self, *, acknowledged: int, seconds: float) -> None:
        """Writes records of many sizes until so many more are acknowledged, and then for a while.

        Notes what is acknowledged.
        """
        wanted = len(self.acknowledged) + acknowledged
        patience = time.monotonic() + START_S
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < patience, "a node that serves acknowledges nothing"
            self._produce_some(0.02)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._produce_some(until - time.monotonic())

    def _produce_some(self, seconds: float) -> None:
        """Fills the queue, and waits at most so long for news."""
        while self._waiting < OUTSTANDING:
            size = self._source.choice((10, 100, 1_000, 1_000, 10_000, 100_000))
            value = self._source.randbytes(16) * (size // 16 + 1)
            self._waiting += 1
            self._producer.produce(
                TOPIC, value, partition=self._source.choice(PARTITIONS), callback=self._on_report
            )
        self._producer.poll(max(0.0, min(seconds, 0.02)))

    def settle(self) -> None:
        """Waits for everything that was sent."""
        assert self._producer.flush(START_S) == 0, "what was sent is not acknowledged"

    def _on_report(self, error: KafkaError | None, message) -> None:
        self._waiting -= 1
        if error is None and message.offset() >= 0:
            place = (message.partition(), message.offset())
            self.acknowledged[place] = _digest(message.value())

    def check(self, *, everything: bool) -> None:
        """Reads back what was acknowledged since the last look, or all of it."""
        consumer = Consumer(
            self._consumer_settings
            | {"group.id": "reader", "enable.auto.commit": "false", "log_level": "0",
               "auto.offset.reset": "error"}
        )  # fmt: skip
        try:
            for partition in PARTITIONS:
                start = 0 if everything else self._looked_at[partition]
                wanted = [
                    at for (which, at) in self.acknowledged if which == partition and at >= start
                ]
                if wanted:
                    self._read(consumer, partition, start, max(wanted))
                    self._looked_at[partition] = max(wanted) + 1
        finally:
            consumer.close()

    def _read(self, consumer: Consumer, partition: int, start: int, last: int) -> None:
        consumer.assign([TopicPartition(TOPIC, partition, start)])
        at, heard_s = start, time.monotonic()
        while at <= last:
            patient = time.monotonic() < heard_s + START_S
            assert patient, f"offset {at} of {last} was acknowledged and is gone"
            for message in consumer.consume(1_000, timeout=0.05):
                heard_s = time.monotonic()
                assert message.error() is None, message.error()
                assert message.offset() == at, f"offset {at} was acknowledged and is gone"
                wanted = self.acknowledged.get((partition, at))
                assert wanted in (None, _digest(message.value())), f"offset {at} is another record"
                self.read_back += wanted is not None
                at += 1


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()


class Killed:
    """The suite: a run is one kill, and those that follow it in the starts after it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._kills = self._early = 0
        self._start_s = 1.0

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory(prefix="memorystreamer-torture-") as root:
            self._node = KilledNode(Path(root) / "data")
            self._ledger = Ledger(self._node.client("admin"), self._seed)
            try:
                self._node.start()
                self._node.wait_ready()
                yield
                self._ledger.settle()
                self._ledger.check(everything=True)
            finally:
                self._node.close()

    def run(self, number: int) -> int:
        """Writes, kills, starts again, looks; how often it killed."""
        source = random.Random(f"kill {self._seed} {number}")
        node, ledger = self._node, self._ledger
        ledger.produce(acknowledged=source.randint(1, 40), seconds=source.uniform(0.0, 0.2))
        node.kill()
        kills = 1
        while source.random() < EARLY:
            node.start()
            ledger.produce(acknowledged=0, seconds=source.uniform(0.0, self._start_s))
            node.kill()
            kills += 1
            self._early += 1
        began = time.monotonic()
        node.start()
        node.wait_ready()
        self._start_s = time.monotonic() - began
        ledger.check(everything=number % ALL_EVERY == ALL_EVERY - 1)
        self._kills += kills
        return kills

    @property
    def acknowledged(self) -> int:
        """Records that the node has acknowledged."""
        return len(self._ledger.acknowledged)

    def summary(self) -> str:
        """Figures."""
        return (
            f"{self._kills} kills, {self._early} of them in a start; "
            f"{self.acknowledged} records acknowledged, "
            f"{self._ledger.read_back} read back"
        )
