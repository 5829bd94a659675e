"""The processes of a run: the node under test, the loads, and what each spends of the processor."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from msgspec import Struct

HERE = Path(__file__).parent
_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_S = 20


class Node:
    """A quickstart's directory and the process of one of its nodes."""

    def __init__(self, directory: Path, number: int = 1) -> None:
        self.directory = directory
        self.folder = directory / "nodes" / str(number)

    def settings(self, user: str) -> dict[str, str]:
        """A user's librdkafka property file, as the client takes it."""
        text = (self.directory / "client" / f"{user}.properties").read_text()
        lines = [line for line in text.splitlines() if "=" in line and line[0] != "#"]
        return dict(line.split("=", 1) for line in lines)

    @property
    def pid(self) -> int:
        """The node's process."""
        return int((self.folder / "pid").read_text())

    def resident_mb(self) -> float:
        """Memory that the node holds."""
        status = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1e3


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used so far, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Started(Struct, frozen=True):
    """A quickstart that serves."""

    nodes: list[Node]
    peer_port: int
    """Of the first node; the others have the next ones."""


@contextlib.contextmanager
def appliance(directory: Path, count: int = 1) -> Iterator[Started]:
    """A quickstart of so many nodes on free ports, stopped at the end."""
    command = Path(sys.executable).with_name("memorystreamer")
    ports = [free_ports(count) for _ in ("kafka", "native", "peers")]
    options = ["--dir", str(directory), "--nodes", str(count), "--kafka-port", str(ports[0])]
    options += ["--native-port", str(ports[1]), "--peer-port", str(ports[2])]
    with (directory.parent / "quickstart.log").open("a") as log:
        process = subprocess.Popen(
            [command, "quickstart", *options], stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        _await_line(process.stdout, "ready ")
        nodes = [Node(directory, number) for number in range(1, count + 1)]
        yield Started(nodes, ports[2])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_STOP_S)


class Server(Struct, frozen=True):
    """A helper process that serves on a port."""

    pid: int
    port: int


@contextlib.contextmanager
def beside(script: str, *arguments: str) -> Iterator[Server]:
    """A helper process that serves until the end, on the port that it prints."""
    process = subprocess.Popen(
        [sys.executable, HERE / script, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        line = _await_line(process.stdout, "port ")
        yield Server(process.pid, int(line.split()[1]))
    finally:
        process.terminate()
        process.wait(_STOP_S)


def load(script: str, job: dict[str, object], *watched: int) -> dict[str, float]:
    """Runs one load in a process of its own.

    Returns:
        What it printed as JSON, with `load_cpu_s`; and `server_cpu_s` of the processes `watched`.
    """
    before = sum(map(cpu_s, watched))
    done = subprocess.run(
        [sys.executable, HERE / script, json.dumps(job)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found | {"server_cpu_s": sum(map(cpu_s, watched)) - before}


def idle_cpu_percent(node: Node, seconds: float) -> float:
    """Share of one core that the node uses while nothing is connected."""
    before = cpu_s(node.pid)
    time.sleep(seconds)
    return (cpu_s(node.pid) - before) / seconds * 100


def free_ports(count: int) -> int:
    """The first of so many neighbouring ports of the loopback interface that are free now."""
    while True:
        with contextlib.ExitStack() as stack:
            first = 0
            try:
                for place in range(count):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", first + place if first else 0))
                    first = first or int(probe.getsockname()[1])
            except (OSError, OverflowError):
                continue
            return first


def _await_line(lines: IO[str] | None, beginning: str) -> str:
    for line in lines or ():
        if line.startswith(beginning):
            return line
    raise SystemExit(f"a process ended before it said {beginning.strip()!r}")
