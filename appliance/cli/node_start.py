"""What a node is started with: its logging, its configuration, and a keystore's passphrase.

A passphrase comes from a descriptor or a file, never from arguments or the environment, where any
process of the same user could read it.
"""

import os
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from appliance import config as configuration
from appliance.config import LocalKeys, NodeConfig
from appliance.errors import ConfigurationError
from appliance.observe import log

MAX_CONFIGURATION_BYTES: Final = 256 * 1024
MAX_PASSPHRASE_BYTES: Final = 1024


class Prepared(Struct, frozen=True):
    """A checked configuration, and the passphrase where a local keystore needs one."""

    config: NodeConfig
    passphrase: bytes | None


def prepare(path: Path, passphrase_fd: int | None, log_level: str) -> Prepared:
    """Sets up logging and reads what the command line names. Raises ConfigurationError."""
    if log_level not in log.LEVELS:
        raise ConfigurationError(f"--log-level: choose one of {', '.join(log.LEVELS)}")
    log.configure(log_level)
    config = configuration.parse(_text(path), base=path.absolute().parent)
    local = config.keys.local
    return Prepared(config, None if local is None else _passphrase(local, passphrase_fd))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIGURATION_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"--config: cannot read {path}: {error.strerror}") from None
    if len(content) > MAX_CONFIGURATION_BYTES:
        raise ConfigurationError(f"--config: {path} has over {MAX_CONFIGURATION_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"--config: {path} is not UTF-8 text") from None


def _passphrase(local: LocalKeys, descriptor: int | None) -> bytes:
    try:
        with _opened(local, descriptor) as stream:
            given = stream.readline(MAX_PASSPHRASE_BYTES + 2).rstrip(b"\r\n")
    except OSError as error:
        raise ConfigurationError(
            f"keys.local: the passphrase cannot be read: {error.strerror}"
        ) from None
    if not 1 <= len(given) <= MAX_PASSPHRASE_BYTES:
        raise ConfigurationError(f"keys.local: a passphrase has 1 to {MAX_PASSPHRASE_BYTES} bytes")
    return given


def _opened(local: LocalKeys, descriptor: int | None) -> BinaryIO:
    if descriptor is not None:
        return os.fdopen(descriptor, "rb")
    if local.passphrase_file is not None:
        return local.passphrase_file.open("rb")
    raise ConfigurationError(
        "keys.local: no passphrase; set keys.local.passphrase_file or give --passphrase-fd"
    )
