"""The `memorystreamer` command: finds the noun that was asked for, and loads that one only.

A node runs for months in a process that this command starts, so it must not carry the client's or
the quickstart's modules with it. What fails on purpose ends in one line on stderr that says what to
do; exit code 2 means that a setting or an option is wrong, 1 everything else.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer

from appliance.errors import ApplianceError, ConfigurationError

# ruff: noqa: PLC0415 - imports stand in functions here so that one noun does not load another

FAILED = 1
MISUSED = 2
HELP_COLUMNS = 110
"""How wide help becomes on a terminal that is; a summary that does not fit is cut."""


def _node(app: typer.Typer) -> None:
    from appliance.cli import node

    node.register(app)


def _quickstart(app: typer.Typer) -> None:
    from appliance.cli.quickstart import command

    command.register(app)


def _topic(app: typer.Typer) -> None:
    from appliance.cli import topic

    app.add_typer(topic.app, name="topic")


def _produce(app: typer.Typer) -> None:
    from appliance.cli import produce

    app.command("produce")(produce.produce)


def _consume(app: typer.Typer) -> None:
    from appliance.cli import consume

    app.command("consume")(consume.consume)


def _policy(app: typer.Typer) -> None:
    from appliance.cli import policy

    app.add_typer(policy.app, name="policy")


def _key(app: typer.Typer) -> None:
    from appliance.cli import key

    app.add_typer(key.app, name="key")


def _cluster(app: typer.Typer) -> None:
    from appliance.cli import nodes

    app.add_typer(nodes.app, name="cluster")


def _storage(app: typer.Typer) -> None:
    from appliance.cli import storage

    app.add_typer(storage.app, name="storage")


NOUNS: Mapping[str, Callable[[typer.Typer], None]] = {
    "quickstart": _quickstart,
    "node": _node,
    "cluster": _cluster,
    "topic": _topic,
    "produce": _produce,
    "consume": _consume,
    "policy": _policy,
    "key": _key,
    "storage": _storage,
}


def application(arguments: Sequence[str]) -> typer.Typer:
    """The command line with the noun that `arguments` begin with, or with all for help."""
    app = typer.Typer(
        name="memorystreamer",
        no_args_is_help=True,
        context_settings={"max_content_width": HELP_COLUMNS},
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def describe(
        version: Annotated[
            bool,
            typer.Option("--version", is_eager=True, callback=_version, help="Show the version."),
        ] = False,
    ) -> None:
        """A hardened message broker: sealed storage, mutual TLS, one gate, Kafka clients."""

    asked = arguments[0] if arguments else ""
    for noun, register in NOUNS.items():
        if asked == noun or asked not in NOUNS:
            register(app)
    return app


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"memorystreamer {version('memorystreamer')}")
        raise typer.Exit


def main() -> None:
    """Entry point of the console script."""
    try:
        application(sys.argv[1:])()
    except ApplianceError as error:
        _fail([error])
    except BaseExceptionGroup as group:
        ours, others = group.split(ApplianceError)
        if ours is None or others is not None:
            raise
        _fail(_leaves(ours))


def _fail(errors: Sequence[BaseException]) -> None:
    """One line for each different failure, then the exit code."""
    for line in dict.fromkeys(str(error) for error in errors):
        print(f"memorystreamer: {line}", file=sys.stderr)
    sys.exit(MISUSED if any(isinstance(error, ConfigurationError) for error in errors) else FAILED)


def _leaves(group: BaseExceptionGroup[ApplianceError]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


if __name__ == "__main__":
    main()
