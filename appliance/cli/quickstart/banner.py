"""What the quickstart shows when it serves: commands to copy, and what is only for trying out."""

import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from appliance.cli.quickstart.layout import Layout


def step(doing: str) -> None:
    """Tells a person who waits what is being done; nothing where nobody watches."""
    if sys.stderr.isatty():
        with suppress(OSError):  # the terminal may be what has just gone
            print(f"memorystreamer: {doing} ...", file=sys.stderr, flush=True)


def show(layout: Layout, *, trial_keys: bool) -> None:
    """Prints the banner on stdout; with colour on a terminal, plain otherwise."""
    steps = commands(layout)
    caution = cautions(trial_keys=trial_keys)
    if sys.stdout.isatty():
        _show_rich(steps, caution)
        return
    print("MemoryStreamer serves. To copy:\n")
    for title, command in steps:
        print(f"  # {title}\n  {command}" if title else f"  {command}")
    print()
    for line in caution:
        print(f"  {line}")
    print()


def commands(layout: Layout) -> list[tuple[str, str]]:
    """Titles and commands, in the order in which a newcomer would try them."""
    client, ours = layout.client, _command()

    def path(name: str) -> str:
        return shlex.quote(str(client / name))

    return [
        ("write lines with any Kafka client", f"kcat -F {path('producer.properties')} -t demo -P"),
        ("read them back", f"kcat -F {path('consumer.properties')} -t demo -C -e"),
        ("the same with our own commands", f"export MEMORYSTREAMER_PROFILE={path('admin.toml')}"),
        ("", f"{ours} topic list"),
        ("", f"echo hello | {ours} produce demo"),
        ("", f"{ours} consume demo --exit-at-end"),
        ("authenticated, granted nothing", f"kcat -F {path('nobody.properties')} -L"),
    ]


def _command() -> str:
    """How this program is called from here: by its name only where that finds it."""
    installed = Path(sys.executable).with_name("memorystreamer")
    found = shutil.which("memorystreamer")
    return "memorystreamer" if found == str(installed) else shlex.quote(str(installed))


def cautions(*, trial_keys: bool) -> list[str]:
    """What must not be taken into production as it is."""
    lines = [
        "Ctrl-C stops it; started again on the same directory, it has every record.",
        "For trying out: the authority's key lies in certs/ca, topics are made on first use.",
    ]
    if shutil.which("kcat") is None:
        lines.insert(0, "kcat is not installed here: `apt-get install kcat`, or use our commands.")
    if trial_keys:
        lines.append(
            "For trying out: OpenBao runs beside the data, and what unseals it lies in openbao/."
        )
    return lines


def _show_rich(steps: list[tuple[str, str]], caution: list[str]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    console.print(Text("MemoryStreamer serves. To copy:\n", style="bold green"))
    for title, command in steps:
        if title:
            console.print(Text(f"  # {title}", style="dim"))
        console.print(Text(f"  {command}"))
    console.print()
    for line in caution:
        console.print(Text(f"  {line}", style="yellow"))
    console.print()
