"""`memorystreamer produce`: lines from stdin become records."""

import sys
from contextlib import ExitStack
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from appliance.cli.cluster import ProfileOption, fail, run
from appliance.cli.lines import read_lines, split_keys
from appliance.cli.tally import Tally
from appliance.client.lane import Pace
from appliance.client.publisher import MAX_RECORD_BYTES, PublisherSettings, open_publisher
from appliance.client.session import Session
from appliance.errors import ConfigurationError
from appliance.limits import KIB, MIB
from appliance.types import TopicName
from appliance.wire.kafka.records import Codec

STDIN = 0


class Compression(StrEnum):
    """The codecs, by the names that Kafka's tools use."""

    NONE = "none"
    GZIP = "gzip"
    SNAPPY = "snappy"
    LZ4 = "lz4"
    ZSTD = "zstd"


def produce(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Where the records go.")],
    profile: ProfileOption = None,
    key_separator: Annotated[
        str | None,
        typer.Option("--key-separator", "-K", help="A line is KEY, this text, VALUE."),
    ] = None,
    compression: Annotated[
        Compression, typer.Option("--compression", "-z", help="How batches are compressed.")
    ] = Compression.NONE,
    batch_kib: Annotated[
        int, typer.Option("--batch-kib", min=1, max=MIB // KIB, help="Send a batch at this size,")
    ] = 512,
    linger_ms: Annotated[
        int, typer.Option("--linger-ms", min=0, max=60_000, help="or after this time.")
    ] = 5,
) -> None:
    """Send lines of stdin as records; done when all are durable.

    An empty line is a record too. Lines with a key go to the partition of their key.
    """
    separator = key_separator.encode() if key_separator is not None else None
    if separator == b"":
        fail(ConfigurationError("--key-separator is empty"))
    settings = PublisherSettings(
        pace=Pace(
            batch_bytes=batch_kib * KIB,
            linger_s=linger_ms / 1000,
            compression=Codec[compression.name],
        )
    )

    async def action(session: Session) -> None:
        with ExitStack() as shown:
            tally = Tally("sent")
            if sys.stdin.isatty():
                print("a line is a record; Ctrl-D ends", file=sys.stderr)
            elif sys.stderr.isatty():
                shown.enter_context(Live(tally, console=Console(stderr=True)))
            async with open_publisher(session, settings) as publisher:
                async for lines in read_lines(STDIN, MAX_RECORD_BYTES):
                    await publisher.send_lines(TopicName(topic), split_keys(lines, separator))
                    tally.add(len(lines), sum(map(len, lines)))
            tally.finish("durable")

    run(profile, action)
