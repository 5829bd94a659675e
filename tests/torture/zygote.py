"""Starts node processes without paying for their imports each time: it forks itself.

Each child is a process of its own that runs the node as `memorystreamer node run` does. Commands
come on stdin, one a line: `start` forks a node and says `pid N`; `wait` says `gone` when it ended.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
import appliance.keys.local  # noqa: F401 - the node would load it at its start
from appliance import assembly
from appliance.cli.node_start import prepare


def node(config: Path, passphrase: Path) -> None:
    """Runs one node until it is killed."""
    descriptor = os.open(passphrase, os.O_RDONLY)
    prepared = prepare(config, descriptor, "warning")
    assembly.run(prepared.config, prepared.passphrase, announce=_say)


def _say(line: str) -> None:
    """With one write: a kill may come between two."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def main() -> None:
    """Serves commands until stdin ends."""
    config, passphrase = map(Path, sys.argv[1:])
    child = 0
    while command := sys.stdin.readline().strip():
        if command == "start":
            child = os.fork()
            if not child:
                try:
                    node(config, passphrase)
                finally:
                    os._exit(1)
            print("pid", child, flush=True)
        elif command == "wait":
            os.waitpid(child, 0)
            print("gone", flush=True)


if __name__ == "__main__":
    main()
