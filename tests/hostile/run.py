"""`make hostile`: a real appliance, a hostile client against it, and an honest one beside that.

First the decoders are measured in this process: memory per byte of frame. Then a quickstart with
all three listeners of clients is started, and each attack is played against it over real TLS, in
turns with quiet: an honest client's p99 under attack is compared with its p99 in the quiet windows
of the same run. Exits with 1 if an attack does not hold.

The node, the honest client and the attackers share the machine's processors: attackers are paced,
run at a lower priority, and their processor time is told beside the node's. Where quiet windows
alone differ by more than twice, the machine was busy with something else, and that is said.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

HERE: Final = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from msgspec import Struct  # noqa: E402 - what is imported lies beside this file
from rich.console import Console  # noqa: E402
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: E402
from rich.table import Table  # noqa: E402

from appliance.limits import (  # noqa: E402
    CLIENT_REPLY_BUDGET_BYTES,
    CLIENT_REQUEST_BUDGET_BYTES,
    MIB,
)
from appliance.server.sandbox import raise_descriptors  # noqa: E402
from tests.hostile.appliance_under_attack import Target, target  # noqa: E402
from tests.hostile.decoders import measured  # noqa: E402
from tests.hostile.floods import Flood, Plan  # noqa: E402
from tests.hostile.hammer import COMPACTED, WAYS, Hammer  # noqa: E402
from tests.hostile.honest import RATE, HonestClient, percentile  # noqa: E402

MEMORY_BUDGET_BYTES: Final = 1024 * MIB
"""By which a node may grow under attack: its budgets of requests and replies, and as much again
for connections and what is unpacked."""
assert CLIENT_REQUEST_BUDGET_BYTES + CLIENT_REPLY_BUDGET_BYTES <= MEMORY_BUDGET_BYTES // 2
MOST_RATIO: Final = 2.0
_PAUSE_S: Final = 2.0
_HEADINGS: Final = (
    "attack", "counted", "node grew", "node", "attackers", "p99 quiet", "p99 then", "ratio",
    "verdict",
)  # fmt: skip

FLOODS: Final = {
    "silent": ("connections that say nothing", 1000, 400),
    "hello": ("a ClientHello, and no more", 1000, 400),
    "hello_in_drops": ("a ClientHello, a byte a second", 1000, 400),
    "idle": ("handshakes ended, and no more", 300, 400),
    "request_in_drops": ("a request, a byte a second", 300, 400),
    "large_in_drops": ("100 MiB declared, 1 MiB sent, then a byte a second", 20, 400),
    "deaf": ("requests on and on, no reply read", 100, 400),
    "reconnecting": ("handshakes without end", 200, 400),
    "stranger": ("no certificate, without end", 200, 400),
    "one address": ("silent connections of one address", 500, 1),
}
"""What it is, connections opened a second, addresses."""
_FEW: Final = {"large_in_drops": 200, "deaf": 1000, "reconnecting": 400, "stranger": 400}
HAMMERS: Final = {
    "counts": "every count 2^31-1, -2, one too many",
    "narrow": "a megabyte of the narrowest elements",
    "depths": "depth 10,000",
    "bombs": "bombs for a compacted topic, each codec",
    "telemetry": "bombs in PushTelemetry, each codec",
}


class Attack(Protocol):
    """What plays against the node between `begin` and `stop`, prepared beforehand."""

    def prepare(self) -> None: ...
    def begin(self) -> None: ...
    def stop(self) -> None: ...
    @property
    def told(self) -> dict[str, int]: ...


class Verdict(Struct):
    """One attack's row."""

    what: str
    told: str
    played: bool
    grown_bytes: int
    node_share: float
    attacker_share: float
    quiet_ms: float
    hostile_ms: float
    quiet_spread: float
    alive: bool

    @property
    def ratio(self) -> float:
        """The honest client's p99 under attack, over that in quiet."""
        return self.hostile_ms / self.quiet_ms

    @property
    def failures(self) -> list[str]:
        """What did not hold."""
        found = [] if self.alive else ["the node ended"]
        if not self.played:
            found.append("nothing was sent")
        if not self.ratio < MOST_RATIO:  # NaN, if nobody was answered, is a failure too.
            found.append("p99")
        if self.grown_bytes > MEMORY_BUDGET_BYTES:
            found.append("memory")
        return found


def main() -> int:
    """Plays what the arguments name; the exit code."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # The appliance is stopped with us.
    console = Console(width=max(120, Console().width))
    raise_descriptors()
    failed = 0
    wanted = arguments.attack or ["decoders", *HAMMERS, *FLOODS]
    if "decoders" in wanted:
        failed += _measure_decoders(console)
    wanted = [name for name in wanted if name != "decoders"]
    if wanted:
        failed += _play_all(console, wanted, arguments)
    console.print("everything holds" if not failed else f"{failed} do not hold")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make hostile ARGS='...'", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("attack", nargs="*", choices=["decoders", *HAMMERS, *FLOODS, []],
        help="only these (everything)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=2, help="quiet and hostile windows each (2)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a hostile window (15)")
    parser.add_argument("--connections", type=int, default=10_000, help="of a flood (10000)")
    return parser


def _measure_decoders(console: Console) -> int:
    table = Table(title="decoders: memory that a hostile frame takes")
    for heading in ("frames", "number", "refused", "worst peak", "its frame", "allowed", "verdict"):
        table.add_column(heading)
    failed = 0
    with _progress(console, "decoders"):
        for each in measured():
            failed += not each.holds
            table.add_row(
                each.what, str(each.frames), str(each.refused), f"{each.worst_peak_bytes:,} B",
                f"{each.worst_frame_bytes:,} B", f"8 x frame + {each.spare_bytes:,} B",
                "holds" if each.holds else "FAILS",
            )  # fmt: skip
    console.print(table)
    return failed


def _play_all(console: Console, wanted: list[str], arguments: argparse.Namespace) -> int:
    table = Table(title=f"attacks, beside an honest client of {RATE} requests a second")
    for heading in _HEADINGS:
        table.add_column(heading)
    failed = 0
    with TemporaryDirectory(prefix="hostile-honest-") as folder, target(COMPACTED) as node:
        honest = HonestClient(node, Path(folder))
        honest.start()
        for name in wanted:
            with _progress(console, name):
                verdict = _play(name, node, honest, arguments)
            failures = verdict.failures
            failed += bool(failures)
            notes = "FAILS: " + ", ".join(failures) if failures else "holds"
            if verdict.quiet_spread > MOST_RATIO:
                notes += f" (a busy machine: quiet windows differ {verdict.quiet_spread:.1f} times)"
            table.add_row(
                verdict.what, verdict.told, f"{verdict.grown_bytes / MIB:.0f} MiB",
                f"{verdict.node_share:.0%}", f"{verdict.attacker_share:.0%}",
                f"{verdict.quiet_ms:.1f} ms", f"{verdict.hostile_ms:.1f} ms",
                f"{verdict.ratio:.2f}", notes,
            )  # fmt: skip
            console.print(f"{name}: {notes}")
            if not verdict.alive:
                break
        honest.stop()
    console.print(table)
    return failed


def _play(name: str, node: Target, honest: HonestClient, arguments: argparse.Namespace) -> Verdict:
    """Quiet and hostile windows in turns; each attack begins anew with its window."""
    quiet: list[tuple[float, float]] = []
    hostile: list[tuple[float, float]] = []
    grown = spent = attackers = 0.0
    told: dict[str, int] = {}
    for _ in range(arguments.rounds):
        attack = _attack(name, node, arguments.connections)
        attack.prepare()
        time.sleep(_PAUSE_S)
        quiet.append(_window(arguments.seconds / 2))
        base = node.resident_bytes
        node.forget_peak()
        attack.begin()
        before = node.spent_s
        hostile.append(_window(arguments.seconds))
        spent += node.spent_s - before
        grown = max(grown, node.peak_bytes - base)
        for field, count in attack.told.items():
            told[field] = max(told.get(field, 0), count) if field == "most" else (
                told.get(field, 0) + count)  # fmt: skip
        attack.stop()
        if not node.alive:
            break
    attackers = told.pop("cpu_ms", 0) / 1000
    told.pop("open", None)
    lasted = sum(end - begin for begin, end in hostile)
    each = [percentile(honest.latencies([window]), 0.99) for window in quiet]
    return Verdict(
        what=f"{name}: {HAMMERS[name] if name in HAMMERS else FLOODS[name][0]}",
        told=", ".join(f"{count:,} {field}" for field, count in told.items()),
        played=bool(told.get("sent") or told.get("tried")),
        grown_bytes=int(grown),
        node_share=spent / lasted,
        attacker_share=attackers / lasted,
        quiet_ms=1000 * percentile(honest.latencies(quiet), 0.99),
        hostile_ms=1000 * percentile(honest.latencies(hostile), 0.99),
        quiet_spread=max(each) / min(each),
        alive=node.alive,
    )


def _attack(name: str, node: Target, connections: int) -> Attack:
    if name in WAYS:
        return Hammer(name, node.ports, node.certificates, 50)
    _, opens_per_s, addresses = FLOODS[name]
    plan = Plan(
        way="silent" if name == "one address" else name,
        connections=min(connections, _FEW.get(name, connections)),
        addresses=addresses,
        opens_per_s=opens_per_s,
        user=None if name == "stranger" else "nobody",
        listeners=("kafka", "native") if name in {"stranger", "large_in_drops"} else
        ("kafka",) if name == "deaf" else ("kafka", "native", "login"),
    )  # fmt: skip
    return Flood(plan, node.ports, node.certificates)


def _window(seconds: float) -> tuple[float, float]:
    begin = time.monotonic()
    time.sleep(seconds)
    return begin, time.monotonic()


@contextmanager
def _progress(console: Console, what: str) -> Iterator[None]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(what, total=None)
        yield


if __name__ == "__main__":
    assert set(WAYS) == set(HAMMERS)
    sys.exit(main())
