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


def spent_s(pid):
    """Processor time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Program:
    """A running program whose lines are kept, stdout and stderr apart."""

    def __init__(self, *arguments, command=(COMMAND,), **options):
        self.began = time.monotonic()
        self.out, self.errors = [], []
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )
        self._drains = [
            threading.Thread(target=self._drain, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.errors))
        ]
        for drain in self._drains:
            drain.start()

    @staticmethod
    def _drain(stream, lines):
        with stream:
            lines.extend(line.rstrip("\n") for line in stream)

    def says(self, text, lines=None):
        """Waits for a line that holds `text`, on stdout or in `lines`; returns it."""

        def found():
            said = tuple(self.out if lines is None else lines)
            hit = next((line for line in said if text in line), None)
            ended = hit is None and self.process.poll() is not None
            assert not ended, "\n".join((*self.out, *self.errors))
            return hit

        return until(found, text)

    def stop(self, number=signal.SIGTERM):
        """Sends a signal; returns (exit code, seconds that it took)."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(20), time.monotonic() - began

    def kill(self):
        """kill -9, if it has not ended yet."""
        if self.process.poll() is None:
            self.process.kill()
        return self.ended()

    def ended(self):
        """Waits for the end; returns (exit code, stdout lines, stderr lines)."""
        code = self.process.wait(60)
        for drain in self._drains:
            drain.join()
        return code, self.out, self.errors


class Quickstart:
    """One directory with its ports; started and stopped any number of times."""

    def __init__(self, directory):
        self.directory = directory
        self.kafka, self.native = free_port(), free_port()
        self.program = None

    @property
    def node(self):
        """The folder of node 1."""
        return self.directory / "nodes" / "1"

    @property
    def node_pid(self):
        return int((self.node / "pid").read_text())

    @property
    def spent_s(self):
        """Processor time of the quickstart, its node, and what they have waited for."""
        return sum(spent_s(pid) for pid in (self.program.process.pid, self.node_pid))

    @property
    def running(self):
        return self.program is not None and self.program.process.poll() is None

    def launch(self, *options, **more):
        """Starts without waiting."""
        ports = ("--kafka-port", str(self.kafka), "--native-port", str(self.native))
        return Program("quickstart", "--dir", self.directory, *ports, *options, **more)

    def start(self, *options):
        """Starts, and returns the seconds until `ready`."""
        self.program = self.launch(*options)
        self.program.says("ready ")
        return time.monotonic() - self.program.began

    def stop(self):
        """SIGTERM; returns (exit code, seconds that it took)."""
        return self.program.stop()

    def kill_node(self):
        """kill -9 of the node; returns when the quickstart has started it again."""
        before = self.node_pid
        os.kill(before, signal.SIGKILL)
        self.program.says("serves again", self.program.errors)
        assert self.node_pid != before

    def client(self, name, suffix="properties"):
        return str(self.directory / "client" / f"{name}.{suffix}")

    def command(self, *arguments, principal="admin", **options):
        environment = {**os.environ, "MEMORYSTREAMER_PROFILE": self.client(principal, "toml")}
        return subprocess.run(
            [COMMAND, *arguments], env=environment, capture_output=True, check=False, **options
        )

    def kcat(self, principal, *arguments, **options):
        return subprocess.run(
            ["kcat", "-q", "-F", self.client(principal), *arguments],
            check=False,
            timeout=120,
            **{"capture_output": True, **options},
        )


@pytest.fixture(name="program", scope="session")
def program_fixture():
    """Starts a command beside the test."""
    return Program


@pytest.fixture(name="until")
def until_fixture():
    """Polls a condition."""
    return until


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory):
    """A running appliance, which tests share; whoever stops it starts it again."""
    appliance = Quickstart(tmp_path_factory.mktemp("appliance") / "data")
    appliance.start()
    yield appliance
    if appliance.running:
        appliance.stop()


@pytest.fixture
def fresh(tmp_path):
    """An appliance that was never started, stopped afterwards if it runs."""
    appliance = Quickstart(tmp_path / "data")
    yield appliance
    if appliance.running:
        appliance.stop()
