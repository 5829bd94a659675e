"""A quickstart of its own on free ports, started as a newcomer would start it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("memorystreamer")
START_S = 90


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, what, seconds=START_S):
    """Polls a condition; the one place where a test waits for another process."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds} s"
        time.sleep(0.02)
    return value


class Quickstart:
    """One directory with its ports; started and stopped any number of times."""

    def __init__(self, directory):
        self.directory = directory
        self.kafka, self.native = free_port(), free_port()
        self.process = None
        self.lines = []

    def start(self, *options):
        began = time.monotonic()
        self.lines = []
        self.process = subprocess.Popen(
            [COMMAND, "quickstart", "--dir", self.directory, *self._ports(), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for stream in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self._drain, args=(stream,), daemon=True).start()
        until(self._ready, "ready")
        return time.monotonic() - began

    def _ports(self):
        return "--kafka-port", str(self.kafka), "--native-port", str(self.native)

    def _drain(self, stream):
        with stream:
            self.lines.extend(line.rstrip("\n") for line in stream)

    def _ready(self):
        assert self.process.poll() is None, "\n".join(self.lines)
        return any(line.startswith("ready ") for line in tuple(self.lines))

    def stop(self):
        """SIGTERM; returns (exit code, seconds that it took)."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20), time.monotonic() - began

    def kill_node(self):
        """kill -9 of the node; returns when the quickstart has started it again."""
        file = self.directory / "nodes" / "1" / "pid"
        before = file.read_text()
        os.kill(int(before), signal.SIGKILL)
        until(lambda: file.exists() and file.read_text().strip() not in ("", before.strip()), "pid")
        until(self._accepts, "a listener")

    def _accepts(self):
        with contextlib.closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.kafka)) == 0

    def client(self, name, suffix="properties"):
        return str(self.directory / "client" / f"{name}.{suffix}")

    def command(self, *arguments, principal="admin", **options):
        environment = {**os.environ, "MEMORYSTREAMER_PROFILE": self.client(principal, "toml")}
        return subprocess.run(
            [COMMAND, *arguments], env=environment, capture_output=True, check=False, **options
        )


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """A running appliance for the tests of one module."""
    appliance = Quickstart(tmp_path_factory.mktemp("appliance") / "data")
    appliance.start()
    yield appliance
    if appliance.process.poll() is None:
        appliance.stop()
