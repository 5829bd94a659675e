"""Node processes under the quickstart: started, watched, started again, and stopped cleanly.

A node that never served ends the quickstart: it has said on stderr what is wrong. One that dies
later is reported and started again after five seconds. Each runs in a process group of its own, so
Ctrl-C reaches the quickstart alone, which then stops the nodes before their keys. The passphrase of
a local keystore passes through a pipe, never through arguments or the environment.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE

import trio
from msgspec import Struct

from appliance.cli.quickstart.layout import NodeFolder, replace

PROGRAM = (sys.executable, "-P", "-m", "appliance.cli.main", "node")
"""`-P` keeps the working directory off the module path."""

RESTART_S = 5.0
LAST_WORDS_S = 1.0
"""For reading what a process left in its pipe; its end comes at once unless another holds it."""
STOP_S = 3.5
"""What a node may take to stop; the whole quickstart has five seconds."""


class NodeEnded(Exception):
    """A node's process ended before it ever served."""

    def __init__(self, node: int, code: int) -> None:
        """Holds which node it was, and its exit code (negative: the signal that ended it)."""
        super().__init__(f"node {node} ended {manner(code)} before it served")
        self.explained = code > 0
        """A node that exits by itself says why in a line of its own; a signal says nothing."""


def unexplained(ended: BaseExceptionGroup[NodeEnded]) -> list[str]:
    """A line for each node that ended without a word of its own, however deep its error lies."""
    lines: list[str] = []
    for failure in ended.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            lines += unexplained(failure)
        elif not failure.explained:
            lines.append(str(failure))
    return lines


class Supervisor(Struct, frozen=True):
    """How the nodes of one quickstart are run."""

    passphrase: bytes | None
    restart: bool
    report: Callable[[str], None]
    """Says one line on stderr."""
    log_level: str = "warning"
    """From which level on the nodes' own events are shown beside our lines."""
    program: tuple[str, ...] = PROGRAM
    restart_s: float = RESTART_S

    async def create(self, node: NodeFolder) -> None:
        """Makes the node's data directory. Raises NodeEnded when that was refused."""
        with self._command(node, "create") as (arguments, descriptors):
            process = await trio.run_process(
                arguments, pass_fds=descriptors, stdout=DEVNULL, check=False
            )
        if process.returncode:
            raise NodeEnded(node.id, process.returncode)

    async def run(
        self, node: NodeFolder, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Runs the node until cancelled; its first `ready` line is what `nursery.start` returns.

        Returns when the node died and is not to be started again. Raises NodeEnded when it ends
        before it ever served.
        """
        served = False

        def ready(line: str) -> None:
            nonlocal served
            if served:
                self.report(f"node {node.id} serves again")
            else:
                served = True
                task_status.started(line)

        while True:
            code = await self._run_once(node, ready)
            if not served:
                raise NodeEnded(node.id, code)
            if not self.restart:
                again = f"memorystreamer node run --config {node.config}"
                self.report(f"node {node.id} ended {manner(code)}; start it again with: {again}")
                return
            self.report(f"node {node.id} ended {manner(code)}; it is started again in 5 s")
            await trio.sleep(self.restart_s)

    async def _run_once(self, node: NodeFolder, ready: Callable[[str], None]) -> int:
        with self._command(node, "run") as (arguments, descriptors):
            process = await trio.lowlevel.open_process(
                arguments, stdin=DEVNULL, stdout=PIPE, pass_fds=descriptors, process_group=0
            )
        try:
            replace(node.pid, f"{process.pid}\n")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_announce, process, ready)
                code = await process.wait()
                # What it said before it died is still in the pipe.
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS_S
            return code
        finally:
            await _stopped(process)
            node.pid.unlink(missing_ok=True)

    @contextmanager
    def _command(self, node: NodeFolder, verb: str) -> Iterator[tuple[list[str], tuple[int, ...]]]:
        """Arguments and inherited descriptors of a node process.

        A pipe holds 64 KiB, a passphrase less, so writing it before anyone reads cannot block.
        """
        said = ("--log-level", self.log_level)
        arguments = [*self.program, verb, "--config", str(node.config), *said]
        if self.passphrase is None:
            yield arguments, ()
            return
        reader, writer = os.pipe()
        try:
            os.write(writer, self.passphrase)
            os.close(writer)
            yield [*arguments, "--passphrase-fd", str(reader)], (reader,)
        finally:
            os.close(reader)


async def _announce(process: trio.Process, ready: Callable[[str], None]) -> None:
    """Hands on the node's `ready` line, and goes on reading so that its stdout never fills."""
    stream = process.stdout
    if stream is None:
        return
    pending = b""
    async for chunk in stream:
        pending += chunk
        *lines, pending = pending.split(b"\n")
        for line in lines:
            if line.startswith(b"ready "):
                ready(line.decode())


async def _stopped(process: trio.Process) -> None:
    """SIGTERM, some seconds, then SIGKILL; also while this task is being cancelled."""
    if process.returncode is not None:
        return
    with trio.CancelScope(shield=True):
        process.terminate()
        with trio.move_on_after(STOP_S):
            await process.wait()
            return
        process.kill()
        await process.wait()


def manner(code: int) -> str:
    """How a process ended, in words; a negative code is the signal that ended it."""
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"
