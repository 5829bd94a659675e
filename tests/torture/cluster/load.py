"""Real clients that work on a cluster throughout, and the history of what they were told.

Writers are idempotent librdkafka producers (acks=all); a reader is assigned every partition and
reads on; two members of a group share them and commit what they read. An administrator makes topics
and deletes some, and remembers what was confirmed.
"""

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.checkers.kafka_history import Assign, Operation, Poll, Result, Send

PARTITIONS = 4
PACE_S = 0.008
OUTSTANDING = 2_000
COMMIT_EVERY = 100
FLUSH_S = 120
SETTINGS = {
    "acks": "all",
    "enable.idempotence": "true",
    "linger.ms": "5",
    "message.timeout.ms": "240000",
    "socket.timeout.ms": "3000",
    "reconnect.backoff.ms": "20",
    "reconnect.backoff.max.ms": "300",
    "retry.backoff.ms": "50",
    "retry.backoff.max.ms": "300",
    "log_level": "0",
}
ADMINISTRATION = {
    "socket.timeout.ms": "3000",
    "topic.metadata.refresh.interval.ms": "1000",
    "log_level": "0",
}
"""librdkafka waits for a controller until metadata is refreshed, five minutes unless told."""
READING = {
    "auto.offset.reset": "error",
    "enable.auto.commit": "false",
    "enable.partition.eof": "false",
    "fetch.wait.max.ms": "100",
    "socket.timeout.ms": "3000",
    "reconnect.backoff.max.ms": "300",
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "1000",
    "log_level": "0",
}


def content_of(value: str) -> bytes:
    """What is written for a value: its name, so often that records have many sizes."""
    times = 1 + int(value.rpartition("-")[2]) % 97
    return f"{value} ".encode() * times


def value_of(content: bytes | None) -> str:
    """The value that a record holds; a record that is not whole is named as such."""
    value = (content or b"").split(b" ", 1)[0].decode(errors="replace")
    try:
        return value if content_of(value) == content else f"torn: {value}"
    except ValueError:
        return f"torn: {value}"


class History:
    """What happened, each process' own part in the order in which it was told."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.findings: list[str] = []
        """What a client was told and must never be."""
        self.tell = self.operations.append

    def polled(self, process: str, messages: list[Message]) -> int:
        """Notes what one poll brought; how many records that is."""
        records: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for message in messages:
            error = message.error()
            if error is None:
                records[message.partition()].append((message.offset(), value_of(message.value())))
            elif error.code() == KafkaError._AUTO_OFFSET_RESET or error.fatal():
                self.findings.append(f"{process}: {error}")
        for partition, told in records.items():
            self.tell(Poll(process, str(partition), tuple(told)))
        return sum(map(len, records.values()))


class Client(threading.Thread, ABC):
    """One that works until it is told to stop."""

    def __init__(self, name: str, history: History) -> None:
        super().__init__(name=name, daemon=True)
        self._history = history
        self._stopping = threading.Event()

    def finish(self) -> None:
        self._stopping.set()
        self.join(FLUSH_S + 30)
        if self.is_alive():
            self._history.findings.append(f"{self.name} does not end")

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:  # noqa: BLE001 - whatever ends a client is a finding
            self._history.findings.append(f"{self.name}: {type(error).__name__}: {error}")

    @abstractmethod
    def work(self) -> None:
        """What this client does until it is told to stop."""


class Writer(Client):
    """Numbered values to each partition in turn, until it stops and all are accounted for."""

    def __init__(self, name: str, history: History, settings: dict[str, str], topic: str) -> None:
        super().__init__(name, history)
        self._topic = topic
        self._producer = Producer(settings | SETTINGS | {"error_cb": self._on_error})
        self._waiting: dict[str, int] = {}

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._history.findings.append(f"{self.name}: {error}")

    def send(self, number: int) -> None:
        partition, value = number % PARTITIONS, f"{self.name}-{number}"
        self._producer.produce(
            self._topic, content_of(value), partition=partition, on_delivery=self._told
        )
        self._waiting[value] = partition

    def _told(self, error: KafkaError | None, message: Message) -> None:
        value = message.value().split(b" ", 1)[0].decode()
        partition = self._waiting.pop(value)
        if error is not None:
            self._history.findings.append(f"{self.name}: {value} was refused: {error}")
            self._history.tell(Send(self.name, str(partition), value, Result.INFO))
            return
        # A batch that a retry found written longer ago than the broker remembers has no offset.
        offset = message.offset()
        self._history.tell(Send(self.name, str(partition), value, Result.OK, offset))

    def work(self) -> None:
        try:
            for number in itertools.count():
                if self._stopping.is_set():
                    break
                if len(self._waiting) < OUTSTANDING:
                    self.send(number)
                self._producer.poll(PACE_S)
        finally:
            self.flush(FLUSH_S)

    def flush(self, seconds: float) -> None:
        """Waits for everything that was sent; what is still out then may be written or not."""
        self._producer.flush(seconds)
        for value, partition in self._waiting.items():
            self._history.findings.append(f"{self.name}: {value} was not acknowledged")
            self._history.tell(Send(self.name, str(partition), value, Result.INFO))


class Prober(Writer):
    """Writes one value to each partition: whether all of them are available."""

    def work(self) -> None:
        for number in range(PARTITIONS):
            self.send(number)
        self.flush(FLUSH_S)


class Reader(Client):
    """Assigned every partition from its beginning."""

    def __init__(self, name: str, history: History, settings: dict[str, str], topic: str) -> None:
        super().__init__(name, history)
        self._consumer = Consumer(settings | READING | {"group.id": name})
        self._consumer.assign([TopicPartition(topic, each, 0) for each in range(PARTITIONS)])
        history.tell(Assign(name))

    def work(self) -> None:
        while not self._stopping.is_set():
            self._history.polled(self.name, self._consumer.consume(500, timeout=0.2))
        self._consumer.close()


class Finisher(Client):
    """Reads every partition from its beginning to its end, once."""

    def __init__(self, name: str, history: History, settings: dict[str, str], topic: str) -> None:
        super().__init__(name, history)
        self._consumer = Consumer(
            settings | READING | {"group.id": name, "enable.partition.eof": "true"}
        )
        self._consumer.assign([TopicPartition(topic, each, 0) for each in range(PARTITIONS)])
        history.tell(Assign(name))
        self.read = 0

    def work(self) -> None:
        ended: set[int] = set()
        deadline = time.monotonic() + FLUSH_S
        while len(ended) < PARTITIONS and time.monotonic() < deadline:
            messages = self._consumer.consume(500, timeout=0.5)
            self.read += self._history.polled(self.name, messages)
            ended |= {
                message.partition()
                for message in messages
                if message.error() is not None
                and message.error().code() == KafkaError._PARTITION_EOF
            }
        if len(ended) < PARTITIONS:
            self._history.findings.append("a partition does not end")
        self._consumer.close()


class Member(Client):
    """One of a group: reads what it is given, and commits it."""

    def __init__(self, name: str, history: History, settings: dict[str, str], topic: str) -> None:
        super().__init__(name, history)
        self._topic = topic
        own = {"group.id": f"group of {topic}", "auto.offset.reset": "earliest"}
        self._consumer = Consumer(settings | READING | own)
        self.values: set[str] = set()

    def _moved(self, *_: object) -> None:
        self._history.tell(Assign(self.name))

    def work(self) -> None:
        self._consumer.subscribe([self._topic], on_assign=self._moved, on_revoke=self._moved)
        uncommitted = 0
        while not self._stopping.is_set():
            message = self._consumer.poll(0.1)  # one at a time: a move lies between two of them
            if message is not None and self._history.polled(self.name, [message]):
                self.values.add(value_of(message.value()))
                uncommitted += 1
            if uncommitted and (message is None or uncommitted >= COMMIT_EVERY):
                uncommitted = 0
                try:
                    self._consumer.commit(asynchronous=False)
                except KafkaException as error:
                    self._refused(error.args[0])
        self._consumer.close()

    def _refused(self, error: KafkaError) -> None:
        """A commit may fail while the group moves; it is made up for by the next."""
        if error.fatal():
            self._history.findings.append(f"{self.name}: {error}")


class Administrator(Client):
    """Makes topics and deletes some, and looks at the end whether the cluster did as it said."""

    def __init__(self, name: str, history: History, settings: dict[str, str], prefix: str) -> None:
        super().__init__(name, history)
        self._admin = AdminClient(settings | ADMINISTRATION)
        self._prefix = prefix
        self.made: set[str] = set()
        self.deleted: set[str] = set()
        self._doubtful: set[str] = set()
        """Asked to be deleted, and not told how that ended."""

    def work(self) -> None:
        for number in itertools.count():
            if self._stopping.wait(1.0):
                break
            topic = f"{self._prefix}-side-{number}"
            if self._done(self._admin.create_topics([NewTopic(topic, 1, 3)], request_timeout=5)):
                self.made.add(topic)
                if number % 2:
                    self._remove(topic)

    def _remove(self, topic: str) -> None:
        self.made.discard(topic)
        gone = self._done(self._admin.delete_topics([topic], request_timeout=5))
        (self.deleted if gone else self._doubtful).add(topic)

    @staticmethod
    def _done(futures: dict[str, object]) -> bool:
        """Whether the cluster confirmed it; a failure leaves open what became of it."""
        try:
            for future in futures.values():
                future.result(10)
        except (KafkaException, TimeoutError):
            return False
        return True

    def judge(self) -> None:
        """Notes what is not as it was confirmed."""
        there = set(self._admin.list_topics(timeout=30).topics)
        self._history.findings += [f"topic {topic} is gone" for topic in self.made - there]
        self._history.findings += [f"topic {topic} is back" for topic in self.deleted & there]

    def clear(self, topic: str) -> None:
        """Deletes what the run has made."""
        self._done(self._admin.delete_topics([topic, *self.made], request_timeout=20))
