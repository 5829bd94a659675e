"""How a key-custodian's own token reaches Vault from the command line.

    address = "https://vault.example.com:8200"
    ca = "vault-ca.pem"
    cluster = "2f9d1f0e-7c55-4a0e-8a43-9f1f5c0b6d11"
    transit_mount = "transit"
    key_prefix = "memorystreamer-"
    namespace = "streams"
    key_exchange = "required"

Rules: where Vault is comes from this file, never from a broker, so no broker can have a custodian's
token sent to itself. The token comes from a file that others cannot read, or from a prompt that
does not show it; never from arguments or the environment.
"""

import os
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from getpass import getpass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from appliance.cli.cluster import fail
from appliance.errors import ApplianceError, ConfigurationError
from appliance.keys.vault_custodian import VaultCustodian
from appliance.keys.vault_settings import VaultServer
from appliance.types import ClusterId

MAX_FILE_BYTES = 64 * 1024
MAX_TOKEN_CHARACTERS = 4096

CustodianOption = Annotated[
    Path | None,
    typer.Option(
        "--custodian",
        envvar="MEMORYSTREAMER_CUSTODIAN",
        metavar="FILE",
        help="Where Vault is; quickstart leaves it at DIR/client/custodian.toml.",
        show_default=False,
    ),
]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="A custodian's Vault token, in a file with mode 0600; without it you are asked.",
        show_default=False,
    ),
]


class _CustodianFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: str
    ca: str
    cluster: ClusterId
    transit_mount: str = "transit"
    key_prefix: str = "memorystreamer-"
    namespace: str | None = None
    key_exchange: Literal["preferred", "required"] = "required"


def load(path: Path | None) -> VaultServer:
    """Where Vault is. Raises ConfigurationError, naming the file and the setting."""
    if path is None:
        raise ConfigurationError(
            "no custodian file: pass --custodian FILE or set MEMORYSTREAMER_CUSTODIAN (quickstart"
            " leaves one at DIR/client/custodian.toml; docs/operations.md shows its settings)"
        )
    try:
        written = msgspec.convert(tomllib.loads(_read(path).decode()), _CustodianFile)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"custodian file {path}: {error}") from None
    return VaultServer(
        address=written.address,
        ca_file=path.absolute().parent / written.ca,
        cluster=written.cluster,
        transit_mount=written.transit_mount,
        key_prefix=written.key_prefix,
        namespace=written.namespace,
        key_exchange=written.key_exchange,
    )


def access(file: Path | None, token_file: Path | None) -> tuple[VaultServer, str]:
    """Where Vault is, and the token; ends the command with a line where there is none."""
    try:
        return load(file), token(token_file)
    except ApplianceError as error:
        fail(error)


@asynccontextmanager
async def custodian(server: VaultServer, token: str) -> AsyncIterator[VaultCustodian]:
    """A custodian's connection to Vault, closed at the end."""
    held = VaultCustodian(server, token)
    try:
        yield held
    finally:
        held.close()


def token(path: Path | None) -> str:
    """The token, from its file or a prompt. Raises ConfigurationError."""
    if path is not None:
        mode = _mode(path)
        if mode & 0o077:
            raise ConfigurationError(
                f"token file {path} can be read by others: run `chmod 600 {path}`"
            )
        given = _text(path)
    elif sys.stdin.isatty():
        given = getpass("Vault token of a key-custodian (not shown): ").strip()
    else:
        raise ConfigurationError("pass --token-file FILE: there is nobody to ask for the token")
    if not (given.isascii() and given.isprintable() and 0 < len(given) <= MAX_TOKEN_CHARACTERS):
        raise ConfigurationError("that is no Vault token: give one line of printable ASCII")
    return given


def _text(path: Path) -> str:
    try:
        return _read(path).decode("ascii").strip()
    except UnicodeDecodeError:
        raise ConfigurationError(f"token file {path} holds no Vault token") from None


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {os.strerror(error.errno or 0)}") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {os.strerror(error.errno or 0)}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return content
