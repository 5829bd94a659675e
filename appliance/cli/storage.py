"""`memorystreamer storage`: checks a node's files frame by frame, and shows what they are made of.

Both only read: the node may be running, or the directory may be a copy. The keys are reached as the
node itself does, by its configuration. No record is ever shown.
"""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from appliance.cli.node_start import prepare
from appliance.errors import ConfigurationError
from appliance.ports import KeyProvider
from appliance.storage.anatomy import Anatomy, anatomy, files
from appliance.storage.blockfile import ReadOnlyDisk
from appliance.storage.examination import Examination
from appliance.storage.verification import Finding, Report, Verification, Weight

_DAMAGED = 1
_NAME_CHARACTERS = 73
"""Of two UUIDs and what stands between them: a name that is cut short cannot be copied."""
_COLOURS = {Weight.DAMAGE: "bold red", Weight.TAIL: "yellow", Weight.NOTE: "dim"}

app = typer.Typer(
    help="Check a node's sealed files, and show what they are made of.", no_args_is_help=True
)

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="A node's data directory, or a copy of one.")
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="The node's TOML file; by default node.toml beside DIR."),
]
PassphraseFd = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd",
        min=3,
        help="Read the local keystore's passphrase from this open descriptor.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command()
def verify(
    directory: Directory,
    config: Config = None,
    passphrase_fd: PassphraseFd = None,
    as_json: AsJson = False,
) -> None:
    """Check every frame of a node's files; exit code 1 if anything durable was damaged.

    The node may run meanwhile. Each finding names file, extent, frame and cause. A whole directory
    that was put back to an earlier state looks whole to this check: its peers notice, it cannot.
    """
    found: list[Report] = []

    async def check(examination: Examination) -> None:
        with _progress(directory) as progress:
            task = progress.add_task("verifying", total=_bytes_in(directory))
            verification = Verification(examination, lambda count: progress.advance(task, count))
            found.append(await verification.run())
            progress.update(task, total=found[0].bytes, completed=found[0].bytes)

    _examine(directory, config, passphrase_fd, check)
    (report,) = found
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _print_report(report)
    sys.exit(_DAMAGED if report.damaged else 0)


@app.command()
def inspect(
    directory: Directory,
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="A file's UUID or path; without it, all are listed."),
    ] = None,
    config: Config = None,
    passphrase_fd: PassphraseFd = None,
    as_json: AsJson = False,
) -> None:
    """Show the frames of a segment or journal: places, kinds, ranges and sizes, never records."""

    async def show(examination: Examination) -> None:
        if file is None:
            _print_files(await files(examination), as_json=as_json)
        else:
            _print_anatomy(await anatomy(examination, file), as_json=as_json)

    _examine(directory, config, passphrase_fd, show)


def _examine(
    directory: Path,
    config: Path | None,
    passphrase_fd: int | None,
    action: Callable[[Examination], Awaitable[None]],
) -> None:
    """Opens a directory with its node's keys. Raises ApplianceError."""
    from appliance import assembly  # noqa: PLC0415 - help does not wait for the whole appliance

    if not directory.is_dir():
        raise ConfigurationError(f"{directory} is no directory: name a node's data directory")
    beside = directory.absolute().parent / "node.toml"
    if config is None and not beside.exists():
        raise ConfigurationError(
            f"there is no {beside}: name the node's configuration with --config, for its keys"
        )
    prepared = prepare(config or beside, passphrase_fd, "error")

    async def examined(keys: KeyProvider) -> None:
        await action(await Examination.open(ReadOnlyDisk(directory), keys))

    assembly.with_keys(prepared.config, prepared.passphrase, examined)


# --- output --------------------------------------------------------------------------------------


def _progress(directory: Path) -> Progress:
    columns = (TextColumn(f"verifying {directory}"), BarColumn(), DownloadColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)


def _bytes_in(directory: Path) -> int:
    """About what is to be read: reserved space takes blocks, and is not."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) or 1


def _print_report(report: Report) -> None:
    console = Console()
    for finding in report.findings:
        _print_finding(console, finding)
    size = f"{report.bytes / 1_048_576:.1f} MiB"
    verdict = (
        "DAMAGED: keep the files as they are; restore a copy, or rebuild from peers"
        if report.damaged
        else "no damage"
    )
    console.print(
        f"{report.files} files, {report.frames} frames, {size} verified: {verdict}", soft_wrap=True
    )


def _print_finding(console: Console, finding: Finding) -> None:
    """Two lines: what and where, then why; a name stays whole, so that it can be copied."""
    ref = finding.frame
    place = "" if ref is None else f", extent {ref.extent}, frame {ref.number}"
    where = f"{finding.weight.upper()} {finding.file}{place}"
    console.print(where, style=_COLOURS[finding.weight], soft_wrap=True, highlight=False)
    console.print(f"  {finding.cause}", soft_wrap=True, highlight=False)


def _print_files(found: list[tuple[str, str]], *, as_json: bool) -> None:
    if as_json:
        listed = [{"file": name, "state": state} for name, state in found]
        print(msgspec.json.encode(listed).decode())
        return
    for name, state in found:
        Console().print(f"{name:{_NAME_CHARACTERS}}  {state}", soft_wrap=True)


def _print_anatomy(found: Anatomy, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    console = Console()
    console.print(f"{found.name}: {found.state}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for name in ("extent", "frame", "position", "bytes"):
        table.add_column(name, justify="right")
    for name in ("kind", "entries", "index", "term", "offset"):
        table.add_column(name)
    for row in found.frames:
        table.add_row(
            str(row.ref.extent),
            str(row.ref.number),
            str(row.position),
            str(row.size_bytes),
            row.kind if row.kind != "records" else f"records ({row.count})",
            row.entries,
            row.indexes,
            row.terms,
            row.offsets,
        )
    console.print(table)
    rest = found.size_bytes - found.readable_bytes
    console.print(
        f"{len(found.frames)} frames, {found.readable_bytes} bytes readable, {rest} after them"
        " (reserved, torn or unreadable: `storage verify` tells which)",
        soft_wrap=True,
    )
