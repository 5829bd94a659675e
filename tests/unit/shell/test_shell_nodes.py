"""How node processes are watched, with small programs in a node's place."""

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from appliance.cli.quickstart.layout import NodeFolder
from appliance.cli.quickstart.nodes import NodeEnded, Supervisor, unexplained

READY_THEN_DIES = """
import os, sys
print("ready kafka=a:1 native=a:2", flush=True)
os.kill(os.getpid(), 9)
"""
SERVES = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("something else", flush=True)
print("ready kafka=a:1 native=a:2", flush=True)
signal.pause()
"""
REFUSES = "import sys; sys.exit(2)"
READS_ITS_PASSPHRASE = """
import os, sys
number = sys.argv[sys.argv.index("--passphrase-fd") + 1]
given = os.fdopen(int(number)).read()
assert "horse" not in " ".join(sys.argv) + repr(dict(os.environ))
print("ready", given, flush=True)
"""


@pytest.fixture
def node(tmp_path: Path) -> NodeFolder:
    return NodeFolder(tmp_path, 1)


def supervisor(
    program: str, reports: list[str], *, restart: bool = True, passphrase: bytes | None = None
) -> Supervisor:
    command = (sys.executable, "-c", program)
    return Supervisor(passphrase, restart, reports.append, program=command, restart_s=0)


def run(body: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                await body(nursery)
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_the_ready_line_is_handed_on_and_the_pid_file_lives_as_long_as_the_node(
    node: NodeFolder,
) -> None:
    async def body(nursery: trio.Nursery) -> None:
        line = await nursery.start(supervisor(SERVES, []).run, node)
        assert line == "ready kafka=a:1 native=a:2"
        os.kill(int(node.pid.read_text()), 0)

    run(body)
    assert not node.pid.exists()


def test_a_node_that_dies_is_reported_and_started_again(node: NodeFolder) -> None:
    reports: list[str] = []
    again = trio.Event()

    def report(line: str) -> None:
        reports.append(line)
        if "serves again" in line:
            again.set()

    watched = Supervisor(
        None, True, report, program=(sys.executable, "-c", READY_THEN_DIES), restart_s=0
    )

    async def body(nursery: trio.Nursery) -> None:
        await nursery.start(watched.run, node)
        await again.wait()

    run(body)
    assert reports[0].startswith("node 1 ended by signal 9")
    assert reports[1] == "node 1 serves again"


def test_without_restart_the_report_names_the_command(node: NodeFolder) -> None:
    reports: list[str] = []

    async def body(nursery: trio.Nursery) -> None:
        await nursery.start(supervisor(READY_THEN_DIES, reports, restart=False).run, node)
        while not reports:
            await trio.lowlevel.checkpoint()

    run(body)
    (line,) = reports
    assert f"memorystreamer node run --config {node.config}" in line


def test_a_node_that_never_served_ends_the_quickstart(node: NodeFolder) -> None:
    async def body(nursery: trio.Nursery) -> None:
        with pytest.raises(NodeEnded) as raised:
            await nursery.start(supervisor(REFUSES, []).run, node)
        assert raised.value.explained

    run(body)


def test_only_nodes_that_said_nothing_are_spoken_for() -> None:
    said, killed = NodeEnded(1, 2), NodeEnded(2, -9)
    ended = BaseExceptionGroup("all", [BaseExceptionGroup("one", [said]), killed])
    assert unexplained(ended) == [str(killed)]


def test_a_refused_creation_ends_the_quickstart(node: NodeFolder) -> None:
    async def body(_: trio.Nursery) -> None:
        with pytest.raises(NodeEnded):
            await supervisor(REFUSES, []).create(node)

    run(body)


def test_the_passphrase_passes_through_a_pipe_only(node: NodeFolder) -> None:
    async def body(nursery: trio.Nursery) -> None:
        watched = supervisor(READS_ITS_PASSPHRASE, [], restart=False, passphrase=b"correct horse")
        assert await nursery.start(watched.run, node) == "ready correct horse"

    run(body)
