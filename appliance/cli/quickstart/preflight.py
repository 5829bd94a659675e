"""What is looked at before anything is started: ports, nodes left over, the passphrase.

Each finding is one ConfigurationError whose message names what to do.
"""

import getpass
import socket
import stat
import sys
from pathlib import Path

from appliance.cli.quickstart.layout import NodeFolder
from appliance.errors import ConfigurationError

MAX_PASSPHRASE_BYTES = 1024


def check_port(host: str, port: int, option: str) -> None:
    """Raises ConfigurationError if another process listens on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port} ({error.strerror}):"
                f" stop what uses the port, or choose another with {option}"
            ) from None


def check_stopped(node: NodeFolder) -> None:
    """Raises ConfigurationError if the node of an earlier quickstart still runs."""
    try:
        pid = int(node.pid.read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if str(node.config).encode() in arguments:
        raise ConfigurationError(
            f"node {node.id} of an earlier quickstart still runs: stop it with `kill {pid}`"
        )


def passphrase(file: Path | None, *, new: bool) -> bytes:
    """The keystore's passphrase, from the file, or asked for on the terminal.

    Args:
        file: where it is; one line, readable by its owner only.
        new: a keystore is to be made, so a typing error would be fatal: it is asked for twice.
    """
    if file is not None:
        return _from_file(file)
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "--keys local needs a passphrase: start on a terminal, or name a file with"
            " --passphrase-file"
        )
    given = getpass.getpass("Passphrase of the local keystore: ")
    if new and getpass.getpass("Once more: ") != given:
        raise ConfigurationError("the two passphrases differ: start again")
    return _bounded(given.encode())


def _from_file(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            mode = file.stat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise ConfigurationError(f"others may read {file}: run `chmod 600 {file}`")
            return _bounded(stream.readline(MAX_PASSPHRASE_BYTES + 2).rstrip(b"\r\n"))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {file}: {error.strerror}; name another with --passphrase-file"
        ) from None


def _bounded(given: bytes) -> bytes:
    if not 1 <= len(given) <= MAX_PASSPHRASE_BYTES:
        raise ConfigurationError(
            f"a passphrase has 1 to {MAX_PASSPHRASE_BYTES} bytes: give another"
        )
    return given
