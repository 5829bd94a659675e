"""`memorystreamer node`: makes a node's data directory once, and runs the node.

Creating is an act of its own: a node that finds its directory empty refuses to start, so a disk
that was not mounted never looks like a new cluster.
"""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.node_start import prepare

Config = Annotated[Path, typer.Option("--config", help="The node's TOML file.")]
PassphraseFd = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd",
        min=3,
        help="Read the local keystore's passphrase from this open descriptor.",
    ),
]
LogLevel = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]


def register(app: typer.Typer) -> None:
    """Adds `node create` and `node run`."""
    noun = typer.Typer(no_args_is_help=True, help="Create or run one node.", rich_markup_mode=None)
    noun.command("create")(create)
    noun.command("run")(run)
    app.add_typer(noun, name="node")


def create(
    config: Config, passphrase_fd: PassphraseFd = None, log_level: LogLevel = "info"
) -> None:
    """Make the node's data directory, and the cluster, once."""
    from appliance import assembly  # noqa: PLC0415 - help does not wait for the whole appliance

    prepared = prepare(config, passphrase_fd, log_level)
    assembly.create(prepared.config, prepared.passphrase)
    print(f"created {config}")


def run(config: Config, passphrase_fd: PassphraseFd = None, log_level: LogLevel = "info") -> None:
    """Run the node until SIGTERM.

    It prints one line, `ready ...`, when it serves, and waits sealed while its keys are away.
    """
    from appliance import assembly  # noqa: PLC0415 - help does not wait for the whole appliance

    prepared = prepare(config, passphrase_fd, log_level)
    assembly.run(prepared.config, prepared.passphrase, announce=_announce)


def _announce(line: str) -> None:
    print(line, flush=True)
