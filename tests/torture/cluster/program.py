"""Starts the node processes of a torture by forking itself: no node pays for its imports.

Each child is a process of its own that runs the node as `memorystreamer node run` does, and dials
other nodes from an address of its own, by which the proxies between them know it. On a held disk
(`held_disk`) kill -9 is a power cut. Commands come on stdin, one a line: `DISK NODE FOLDER`, where
DISK is `real`, `held`, or `new` for a node whose data directory is to be made first; the answer is
the process id. The file `serving` in the folder holds that id as soon as the node serves; what it
says goes to the folder's `log`.
"""

import ctypes
import functools
import os
import signal
import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[3]))
import appliance.keys.vault
import appliance.server.tls.dial as dialling
from appliance import assembly
from appliance.assembly import node as composition
from appliance.cli.node_start import prepare
from tests.torture.cluster.held_disk import HeldDisk
from tests.torture.cluster.links import address_of

assert appliance.keys.vault, "loaded here, once for all nodes"
PR_SET_PDEATHSIG = 1


class Dialling:
    """trio, with connections that begin at a node's own address."""

    def __init__(self, node: int) -> None:
        self.open_tcp_stream = functools.partial(
            trio.open_tcp_stream, local_address=address_of(node)
        )

    def __getattr__(self, name: str) -> object:
        return getattr(trio, name)


def run_node(disk: str, node: int, folder: Path) -> None:
    """The child: a node until it is stopped or killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    dialling.trio = Dialling(node)
    prepared = prepare(folder / "node.toml", None, "warning")
    if disk == "held":
        composition.PosixDisk = HeldDisk
    if disk == "new":
        assembly.create(prepared.config, None)
        return
    serving = folder / "serving"
    assembly.run(
        prepared.config, None, announce=lambda _: serving.write_text(str(os.getpid())) and None
    )


def main() -> None:
    """Serves commands until stdin ends, and its children with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while command := sys.stdin.readline().split():
        disk, node, folder = command
        child = os.fork()
        if not child:
            code = 1
            try:
                run_node(disk, int(node), Path(folder))
                code = 0
            except SystemExit as ended:
                code = ended.code
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                raise
            finally:
                print(f"process {os.getpid()} ends with {code}", file=sys.stderr, flush=True)
                os._exit(code)
        print(child, flush=True)


if __name__ == "__main__":
    main()
