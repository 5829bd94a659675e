"""`make bench-cluster`: what three nodes cost on this machine, at rest and under load.

At rest: processor of each node, and how many messages the nodes send each other, with few
partitions and with a thousand. Under load: 1 MiB batches acknowledged by three nodes against those
acknowledged by one node, on the same cores in the same minutes, and the processor seconds of each
megabyte. Results go to bench/results/cluster.json and to the terminal. Needs `ss` (iproute2).
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import machine
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec import to_builtins
from processes import Node, appliance, cpu_s, load
from report import Target, arguments, print_targets
from rich.console import Console

NODES = 3
FEW, MANY = 10, 1_000
"""Partitions that are idle, each on three nodes."""
A_TOPIC = 100
SETTLE_S = 15.0
"""After partitions were made: elections, journals and preferred leaders are over then."""
LEADERS_S = 300.0
CLIENTS, IN_FLIGHT = 2, 5
RESULTS = Path(__file__).parent / "results" / "cluster.json"

Found = dict[str, float]


class Idle:
    """Three nodes with nothing to do, and more and more partitions to do it with."""

    def __init__(self, nodes: list[Node], peer_port: int, seconds: float) -> None:
        self._nodes = nodes
        self._peer_ports = range(peer_port, peer_port + len(nodes))
        self._seconds = seconds
        self._admin = AdminClient(nodes[0].settings("admin"))
        self._made = 0

    def measure(self, partitions: int) -> Found:
        """Makes what is missing of so many partitions, waits for rest, and looks for a while."""
        while self._made < partitions:
            count = min(A_TOPIC, partitions - self._made)
            self._make(f"idle-{self._made}", count)
            self._made += count
        time.sleep(SETTLE_S)
        cpu_before, sent_before = self._cpu_s(), self._messages()
        began = time.monotonic()
        time.sleep(self._seconds)
        taken = time.monotonic() - began
        shares = [
            (now - before) / taken * 100
            for now, before in zip(self._cpu_s(), cpu_before, strict=True)
        ]
        return {
            f"idle_{partitions}_cpu_percent": max(shares),
            f"idle_{partitions}_messages_s": (self._messages() - sent_before) / taken,
        }

    def _make(self, topic: str, count: int) -> None:
        self._admin.create_topics([NewTopic(topic, count, NODES)])[topic].result(60)
        until = time.monotonic() + LEADERS_S
        while True:
            found = self._admin.list_topics(topic, timeout=30).topics[topic].partitions
            if len(found) == count and all(each.leader >= 0 for each in found.values()):
                return
            if time.monotonic() > until:
                raise SystemExit(f"{topic} has partitions without a leader")
            time.sleep(0.5)

    def _cpu_s(self) -> list[float]:
        return [cpu_s(node.pid) for node in self._nodes]

    def _messages(self) -> int:
        """Segments with data that nodes have sent each other: at rest each is one message."""
        ports = " or ".join(f"dport = :{port}" for port in self._peer_ports)
        told = subprocess.run(
            ["ss", "-tinH", "state", "established", f"( {ports} )"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        return sum(int(count) for count in re.findall(r"data_segs_(?:in|out):(\d+)", told))


def acknowledged(nodes: list[Node], seconds: float) -> Found:
    """Rate and processor seconds of acknowledged 1 MiB batches on one partition."""
    name = f"{len(nodes)}_nodes" if len(nodes) > 1 else "1_node"
    topic = "bench-cluster"
    admin = AdminClient(nodes[0].settings("admin"))
    admin.create_topics([NewTopic(topic, 1, len(nodes))])[topic].result(60)
    job: dict[str, object] = {
        "what": "produce",
        "settings": nodes[0].settings("producer"),
        "topic": topic,
        "size": machine.MIB,
        "clients": CLIENTS,
        "in_flight": IN_FLIGHT,
        "seconds": seconds,
    }
    found = load("kafka_load.py", job, *(node.pid for node in nodes))
    megabytes = found["batches"] * machine.MIB / 1e6
    return {
        f"{name}_mb_s": found["batches_s"] * machine.MIB / 1e6,
        f"{name}_cpu_s_mb": found["server_cpu_s"] / megabytes,
    }


def targets(found: Found) -> list[Target]:
    """The promises of three nodes."""
    few, many = found[f"idle_{FEW}_messages_s"], found[f"idle_{MANY}_messages_s"]
    return [
        Target(f"{MANY:,} idle partitions, processor of the busiest node",
               found[f"idle_{MANY}_cpu_percent"], 5.0, True, "%", "of a core"),
        Target(f"messages between nodes, {MANY:,} idle partitions", many / few, 1.2, True, "x",
               f"of {few:,.0f} a second with {FEW}"),
        Target("1 MiB batches acknowledged by three nodes",
               found["3_nodes_mb_s"] / found["1_node_mb_s"], 0.3, False, "",
               "of one node's rate"),
        Target("processor seconds per MB, three nodes",
               found["3_nodes_cpu_s_mb"] / found["1_node_cpu_s_mb"], 6.0, True, "x",
               "of one node's"),
    ]  # fmt: skip


def measured(seconds: float, console: Console) -> Found:
    """All figures; each cluster is stopped and removed before the next starts."""
    found: Found = {}
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as temporary:
        root = Path(temporary).absolute()
        steps: list[tuple[int, Callable[[list[Node], int], Found]]] = [
            (NODES, lambda nodes, _: acknowledged(nodes, seconds)),
            (1, lambda nodes, _: acknowledged(nodes, seconds)),
            (NODES, lambda nodes, port: _at_rest(Idle(nodes, port, 2 * seconds))),
        ]
        for number, (count, measure) in enumerate(steps):
            console.print(f"{count} node{'s' * (count > 1)} ...")
            with appliance(root / str(number), count) as started:
                fresh = measure(started.nodes, started.peer_port)
            found |= fresh
            for name, value in fresh.items():
                console.print(f"  {name} {value:.4g}")
    return found


def _at_rest(idle: Idle) -> Found:
    return idle.measure(FEW) | idle.measure(MANY)


def main() -> int:
    """Measures, prints, and writes; exit code 1 if a target is missed and `--strict` was given."""
    options = arguments(__doc__, 10.0, "rate")
    console = Console()
    found = measured(options.seconds, console)
    promised = targets(found)
    print_targets(console, promised)
    RESULTS.parent.mkdir(exist_ok=True)
    rows = [to_builtins(target) | {"met": target.met} for target in promised]
    RESULTS.write_text(json.dumps({"targets": rows, "found": found}, indent=2) + "\n")
    console.print(f"written to {RESULTS}")
    return int(options.strict and not all(target.met for target in promised))


if __name__ == "__main__":
    sys.exit(main())
