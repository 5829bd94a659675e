"""Three nodes, a stock client that writes all the time, and kill -9 of whoever leads."""

import os
import signal
import socket
import threading
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

pytestmark = pytest.mark.system

TOPIC = "survives"
DELETED = "deleted"
KILLS = 2
RECORDS = 12
RECORD_BYTES = 500_000


def three_free_ports(start):
    """The first of three neighbouring ports that are free, from `start` on."""
    for port in range(start + os.getpid() % 500, start + 2_000, 3):
        probes = [socket.socket() for _ in range(3)]
        try:
            for place, probe in enumerate(probes):
                probe.bind(("127.0.0.1", port + place))
        except OSError:
            continue
        else:
            return port
        finally:
            for probe in probes:
                probe.close()
    pytest.fail("no three neighbouring ports are free")


class Cluster:
    """A quickstart of three nodes."""

    def __init__(self, directory, program):
        self.directory = directory
        ports = [three_free_ports(base) for base in (24_000, 27_000, 30_000)]
        names = ("--kafka-port", "--native-port", "--peer-port")
        options = [each for pair in zip(names, map(str, ports), strict=True) for each in pair]
        self.program = program("quickstart", "--dir", directory, "--nodes", "3", *options)
        self.program.says("ready ")

    def settings(self, user):
        lines = (self.directory / "client" / f"{user}.properties").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")

    def kill(self, node):
        pid = int((self.directory / "nodes" / str(node) / "pid").read_text())
        os.kill(pid, signal.SIGKILL)

    def serves_again(self, node):
        said = f"node {node} serves again"
        return sum(said in line for line in self.program.errors)


class Load(threading.Thread):
    """Writes numbered records until told to stop, and remembers what was acknowledged where."""

    def __init__(self, settings):
        super().__init__(daemon=True)
        self.producer = Producer(
            settings | {"enable.idempotence": True, "socket.timeout.ms": 3_000, "linger.ms": 5}
        )
        self.acknowledged = {}
        self.errors = []
        self.count = 0
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            try:
                self.producer.produce(TOPIC, str(self.count).encode(), on_delivery=self._told)
                self.count += 1
            except BufferError:
                self.producer.poll(0.05)
            self.producer.poll(0)
            if self.count % 20 == 0:
                self.stopping.wait(0.01)

    def _told(self, error, message):
        if error is not None:
            self.errors.append(str(error))
        else:
            self.acknowledged[message.value()] = (message.partition(), message.offset())

    def finish(self):
        self.stopping.set()
        self.join()
        assert self.producer.flush(60) == 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, program):
    started = Cluster(tmp_path_factory.mktemp("cluster") / "data", program)
    yield started
    started.program.stop()


def leader_of(admin, partition=0):
    found = admin.list_topics(TOPIC, timeout=10).topics[TOPIC]
    return found.partitions[partition].leader


def everything(settings):
    consumer = Consumer(
        settings
        | {"group.id": "all", "auto.offset.reset": "earliest", "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(TOPIC, index, 0) for index in range(3)])
    found, ended = [], 0
    while ended < 3:
        message = consumer.poll(30)
        assert message is not None, "a partition does not end"
        if message.error() is not None:
            ended += 1
        else:
            found.append((message.value(), (message.partition(), message.offset())))
    consumer.close()
    return found


def test_killed_leaders_lose_nothing_and_nothing_is_written_twice(cluster, until):
    admin = AdminClient(cluster.settings("admin"))
    admin.create_topics([NewTopic(TOPIC, 3, 3)])[TOPIC].result(30)
    load = Load(cluster.settings("admin"))
    load.start()
    until(lambda: len(load.acknowledged) > 100, "acknowledgements")
    for _ in range(KILLS):
        victim = leader_of(admin)
        before, lived = len(load.acknowledged), cluster.serves_again(victim)
        cluster.kill(victim)
        until(lambda: len(load.acknowledged) > before + 100, "writes to resume")  # noqa: B023
        until(lambda: cluster.serves_again(victim) > lived, "the node to be back")  # noqa: B023
    load.finish()
    assert load.errors == []
    assert len(load.acknowledged) == load.count
    found = everything(cluster.settings("admin"))
    assert len(found) == load.count
    assert dict(found) == load.acknowledged


def test_data_of_three_nodes_holds_no_line_of_it_in_the_clear(cluster):
    producer = Producer(cluster.settings("producer"))
    secret = b"a line that nobody may find on a disk"
    producer.produce("orders", secret)
    assert producer.flush(30) == 0
    for path in Path(cluster.directory / "nodes").rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path.name


def test_deleted_records_leave_the_disks_of_all_three_nodes(cluster, until):
    admin = AdminClient(cluster.settings("admin"))
    small = NewTopic(DELETED, 1, 3, config={"segment.bytes": "1048576"})
    admin.create_topics([small])[DELETED].result(30)

    def used(node):
        files = (cluster.directory / "nodes" / str(node)).rglob("*")
        return sum(path.stat().st_blocks * 512 for path in files if path.is_file())

    before = {node: used(node) for node in (1, 2, 3)}
    written = RECORDS * RECORD_BYTES
    producer = Producer(cluster.settings("admin"))
    for _ in range(RECORDS):
        producer.produce(DELETED, os.urandom(RECORD_BYTES))
    assert producer.flush(60) == 0
    until(
        lambda: all(used(node) > was + 0.7 * written for node, was in before.items()),
        "the records on every disk",
    )
    all_of_it = TopicPartition(DELETED, 0, -1)
    deleted = admin.delete_records([all_of_it])[all_of_it].result(30)
    assert deleted.low_watermark == RECORDS
    until(
        lambda: all(used(node) < was + 0.3 * written for node, was in before.items()),
        "space on every disk",
    )
    producer.produce(DELETED, b"goes on")
    assert producer.flush(60) == 0
