"""`make bench`: this machine's limits and the appliance in one run, and their ratios.

Absolute figures do not travel between machines; ratios do. The load comes from librdkafka in this
process; the node is another. Results go to bench/results as JSON, and to a table.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console
from rich.table import Table

KIB = 1024
MIB = 1024 * KIB
SIZES = (KIB, 16 * KIB, 128 * KIB, MIB)
RESULTS = Path(__file__).parent / "results"


def seal_mb_s():
    """AES-256-GCM over 1 MiB, MB/s."""
    cipher, data, out = AESGCM(os.urandom(32)), os.urandom(MIB), bytearray(MIB + 16)
    began = time.perf_counter()
    for number in range(200):
        cipher.encrypt_into(number.to_bytes(12, "big"), data, None, out)
    return 200 * MIB / (time.perf_counter() - began) / 1e6


def fdatasync_p50_ms(directory):
    """The median of 1 KiB appends to reserved space, each followed by fdatasync."""
    taken = []
    with tempfile.TemporaryFile(dir=directory) as file:
        os.posix_fallocate(file.fileno(), 0, MIB)
        for number in range(300):
            os.pwrite(file.fileno(), bytes(KIB), number * KIB)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


def settings_of(directory, name):
    """A librdkafka property file as the client takes it."""
    lines = (directory / "client" / f"{name}.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")


def produced(directory, size, seconds):
    """(MB/s, batches/s) of produces whose batches hold `size` bytes, acknowledged."""
    producer = Producer(
        settings_of(directory, "producer")
        | {
            "batch.size": size + 2 * KIB,
            "message.max.bytes": 2 * MIB,
            "batch.num.messages": 1,
            "linger.ms": 0,
            "queue.buffering.max.kbytes": 256 * KIB,
        }
    )
    value, done, failed = os.urandom(size - 200), [0], []

    def delivered(error, _message):
        done[0] += 1
        if error is not None:
            failed.append(error)

    topic = f"bench-{size}"
    producer.produce(topic, value, on_delivery=delivered)
    producer.flush(30)
    began, done[0] = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        try:
            producer.produce(topic, value, on_delivery=delivered)
            producer.poll(0)
        except BufferError:
            producer.poll(0.01)
    producer.flush(60)
    taken = time.perf_counter() - began
    if failed:
        raise SystemExit(f"{len(failed)} produces failed: {failed[0]}")
    return done[0] * size / taken / 1e6, done[0] / taken


def fetched(directory, size):
    """MB/s of reading the same topic from its beginning."""
    consumer = Consumer(
        settings_of(directory, "consumer")
        | {
            "group.id": f"bench-{time.time_ns()}",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 8 * MIB,
        }
    )
    consumer.subscribe([f"bench-{size}"])
    count, began = 0, None
    while True:
        messages = consumer.consume(1_000, timeout=30)
        began = began or time.perf_counter()
        ended = any(message.error() for message in messages)
        count += sum(1 for message in messages if not message.error())
        if ended or not messages:
            break
    consumer.close()
    return count * size / (time.perf_counter() - began) / 1e6


def lone_latency_ms(directory, count=300):
    """(p50, p99) of 1 KiB produces, one at a time, from send to acknowledgement."""
    producer = Producer(settings_of(directory, "producer") | {"linger.ms": 0})
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        producer.produce("bench-lone", os.urandom(KIB))
        producer.flush(30)
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


@contextlib.contextmanager
def appliance(directory):
    """A quickstart on free ports."""
    ports = []
    for _ in range(2):
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(str(probe.getsockname()[1]))
    command = Path(sys.executable).with_name("memorystreamer")
    options = ["--dir", directory, "--kafka-port", ports[0], "--native-port", ports[1]]
    process = subprocess.Popen(
        [command, "quickstart", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        for line in process.stdout:
            if line.startswith(b"ready "):
                break
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def idle_node(directory):
    """(resident MB, CPU % of one core over 5 s) of the node, nothing connected."""
    pid = int((directory / "nodes" / "1" / "pid").read_text())

    def ticks():
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(5)
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    share = (ticks() - before) / os.sysconf("SC_CLK_TCK") / 5 * 100
    return int(resident.split()[1]) / 1e3, share


def main():
    """Measures, prints, and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each batch size")
    seconds = parser.parse_args().seconds
    console = Console()
    found = {}
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        directory = Path(temporary).absolute() / "data"
        found["seal_mb_s"] = seal_mb_s()
        found["fdatasync_p50_ms"] = sync = fdatasync_p50_ms(temporary)
        with appliance(directory):
            found["idle_mb"], found["idle_cpu_percent"] = idle_node(directory)
            found["lone_p50_ms"], found["lone_p99_ms"] = lone_latency_ms(directory)
            found["lone_p50_above_fdatasync_ms"] = found["lone_p50_ms"] - sync
            for size in SIZES:
                rate, batches = produced(directory, size, seconds)
                found[f"produce_{size // KIB}k_mb_s"] = rate
                found[f"produce_{size // KIB}k_batches_s"] = batches
                found[f"fetch_{size // KIB}k_mb_s"] = fetched(directory, size)
    found["produce_1024k_of_seal"] = found["produce_1024k_mb_s"] / found["seal_mb_s"]
    table = Table("what", "figure")
    for name, value in found.items():
        table.add_row(name, f"{value:.3g}")
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
