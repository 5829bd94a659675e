"""`memorystreamer consume`: records become lines on stdout."""

import sys
from typing import Annotated

import typer

from appliance.cli.cluster import ProfileOption, fail, run
from appliance.client.consumer import Chunk, Consumer, Edge
from appliance.client.session import Session
from appliance.errors import ConfigurationError
from appliance.types import Offset, PartitionIndex, TopicName


def consume(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="What to read.")],
    profile: ProfileOption = None,
    offset: Annotated[
        str,
        typer.Option(
            "--offset",
            "-o",
            metavar="WHERE",
            help="beginning, end, an offset, or -N for the last N of each partition.",
        ),
    ] = "beginning",
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="The default, as kcat has it.")
    ] = False,
    partitions: Annotated[
        list[int] | None,
        typer.Option("--partition", "-p", min=0, help="Only this one; repeatable. Else all."),
    ] = None,
    exit_at_end: Annotated[
        bool, typer.Option("--exit-at-end", "-e", help="Stop at the end as it is now.")
    ] = False,
    count: Annotated[
        int | None, typer.Option("--count", "-c", min=1, help="Stop after so many records.")
    ] = None,
    key_separator: Annotated[
        str | None,
        typer.Option("--key-separator", "-K", help="Print KEY, this text, VALUE."),
    ] = None,
) -> None:
    """Print a topic's values, one a line, and wait for more.

    Order holds within a partition. A record without a value is an empty line.
    """
    where = _where("beginning" if from_beginning else offset)
    chosen = [PartitionIndex(number) for number in partitions] if partitions else None
    separator = key_separator.encode() if key_separator is not None else None

    async def action(session: Session) -> None:
        consumer = Consumer(session, TopicName(topic))
        await _start(consumer, where, chosen, stop_at_end=exit_at_end)
        left = count
        async for chunk in consumer:
            records = chunk.records if left is None else chunk.records[:left]
            sys.stdout.buffer.write(render(Chunk(chunk.partition, records), separator))
            sys.stdout.buffer.flush()
            if left is not None:
                left -= len(records)
                if left == 0:
                    break

    run(profile, action)


def render(chunk: Chunk, separator: bytes | None) -> bytes:
    """The chunk's records as lines."""
    if separator is None:
        lines = [record.value or b"" for record in chunk.records]
    else:
        lines = [
            (record.key or b"") + separator + (record.value or b"") for record in chunk.records
        ]
    lines.append(b"")
    return b"\n".join(lines)


def _where(text: str) -> Edge | int:
    """An edge, an offset, or a negative count of records before the end."""
    if text == "beginning":
        return Edge.EARLIEST
    if text == "end":
        return Edge.LATEST
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and int(text) < 2**63):
        fail(ConfigurationError(f"--offset {text}: write beginning, end, a number, or -N"))
    return int(text)


async def _start(
    consumer: Consumer,
    where: Edge | int,
    partitions: list[PartitionIndex] | None,
    *,
    stop_at_end: bool,
) -> None:
    """Puts a consumer in its place; -N is counted back from each partition's end."""
    if isinstance(where, Edge) or where >= 0:
        place = where if isinstance(where, Edge) else Offset(where)
        await consumer.start(place, partitions=partitions, stop_at_end=stop_at_end)
        return
    await consumer.start(Edge.LATEST, partitions=partitions, stop_at_end=stop_at_end)
    begins = await consumer.edges(Edge.EARLIEST, consumer.positions)
    consumer.positions = {
        index: Offset(max(begins[index], at + where)) for index, at in consumer.positions.items()
    }
