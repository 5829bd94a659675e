"""`memorystreamer topic`: create, delete, list and describe topics."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from appliance.cli.cluster import ProfileOption, fail, run
from appliance.client.admin import Admin
from appliance.client.session import Session
from appliance.errors import ConfigurationError, ErrorCode
from appliance.types import TopicName
from appliance.wire.requests import TopicMetadata

app = typer.Typer(help="Create, delete, list and describe topics.", no_args_is_help=True)

TopicArgument = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command()
def create(
    topic: TopicArgument,
    profile: ProfileOption = None,
    partitions: Annotated[
        int | None,
        typer.Option("--partitions", min=1, help="How many; else the cluster's default."),
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option("--replication", min=1, help="Copies; else the cluster's default."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--setting", metavar="NAME=VALUE", help="A topic setting; repeatable."),
    ] = None,
) -> None:
    """Create a topic."""
    chosen = dict(_setting(text) for text in settings or [])

    async def action(session: Session) -> None:
        created = await Admin(session).create_topic(
            TopicName(topic),
            partition_count=partitions or -1,
            replication_factor=replication or -1,
            settings=chosen,
        )
        count = created.partition_count
        print(f"created {topic}" + (f" with {count} partition(s)" if count > 0 else ""))

    run(profile, action)


@app.command()
def delete(
    topic: TopicArgument,
    profile: ProfileOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a topic with all its records. This cannot be undone."""
    if not yes:
        if not sys.stdin.isatty():
            fail(ConfigurationError(f"pass --yes to delete {topic} without being asked"))
        typer.confirm(f"Delete {topic} with all its records?", abort=True)

    async def action(session: Session) -> None:
        await Admin(session).delete_topic(TopicName(topic))
        print(f"deleted {topic}")

    run(profile, action)


@app.command("list")
def list_topics(profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """List the topics that this profile may see, one a line."""

    async def action(session: Session) -> None:
        topics = await Admin(session).list_topics()
        if as_json:
            print(json.dumps([_as_json(topic) for topic in topics], indent=2))
            return
        for topic in topics:
            print(topic.name)

    run(profile, action)


@app.command()
def describe(
    topic: TopicArgument, profile: ProfileOption = None, as_json: JsonOption = False
) -> None:
    """Show a topic's partitions, their leaders and their replicas."""

    async def action(session: Session) -> None:
        found = await Admin(session).describe_topic(TopicName(topic))
        if as_json:
            print(json.dumps(_as_json(found), indent=2))
        else:
            Console().print(_table(found))

    run(profile, action)


def _setting(text: str) -> tuple[str, str]:
    """`NAME=VALUE` in two."""
    name, equals, value = text.partition("=")
    if not (equals and name):
        fail(ConfigurationError(f"--setting {text}: write NAME=VALUE"))
    return name, value


def _table(topic: TopicMetadata) -> Table:
    """A topic's partitions for a person."""
    table = Table(title=f"{topic.name}  ({topic.topic_id})", title_justify="left")
    for heading in ("partition", "leader", "epoch", "replicas", "in sync", "state"):
        table.add_column(heading, justify="right")
    for part in topic.partitions:
        table.add_row(
            str(part.index),
            str(part.leader_id),
            str(part.leader_epoch),
            " ".join(map(str, part.replicas)),
            " ".join(map(str, part.in_sync_replicas)),
            "ok" if part.error is ErrorCode.NONE else part.error.name,
        )
    return table


def _as_json(topic: TopicMetadata) -> dict[str, object]:
    """A topic for a script."""
    return {
        "name": topic.name,
        "id": str(topic.topic_id) if topic.topic_id else None,
        "partitions": [
            {
                "index": part.index,
                "leader": part.leader_id,
                "leader_epoch": part.leader_epoch,
                "replicas": list(part.replicas),
                "in_sync": list(part.in_sync_replicas),
                "error": None if part.error is ErrorCode.NONE else part.error.name,
            }
            for part in topic.partitions
        ],
    }
