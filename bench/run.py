"""`make bench`: this machine's limits and the appliance in one run, and their ratios.

Absolute figures do not travel between machines; ratios of one run do. Everything that is compared
runs in the same minutes on the same cores: the TLS limits on the appliance's own stack, the
appliance under librdkafka, each with its load in a process of its own. Results go to
bench/results as JSON and PNG, and to the terminal as tables.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import machine
import report
import storage
from processes import Node, appliance, beside, idle_cpu_percent, load
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

KIB, MIB = machine.KIB, machine.MIB
SIZES = (KIB, 16 * KIB, 128 * KIB, MIB)
CLIENTS = {KIB: 8, 16 * KIB: 8, 128 * KIB: 4, MIB: 2}
"""Producing connections for each size of batch, with IN_FLIGHT requests on each."""
IN_FLIGHT = 5
RESULTS = Path(__file__).parent / "results"

Step = tuple[str, Callable[[], dict[str, float]]]


class Bench:
    """One run: its node, and the seconds that each figure is measured for."""

    def __init__(self, node: Node, seconds: float) -> None:
        self.node = node
        self.seconds = seconds

    def steps(self) -> list[Step]:
        """What is measured, in order, each under its name."""
        return [
            ("this machine alone", self.machine),
            ("idle", self.idle),
            *[(f"TLS {what}", lambda what=what: self.tls(what)) for what in _TLS],
            *[
                (f"produce {size >> 10} KiB", lambda size=size: self.produce(size))
                for size in SIZES
            ],
            *[(f"fetch {size >> 10} KiB", lambda size=size: self.fetch(size)) for size in SIZES],
            *[(f"latency x {count}", lambda count=count: self.latency(count)) for count in (1, 64)],
        ]

    def machine(self) -> dict[str, float]:
        """The cipher and the disk."""
        where = self.node.directory
        return {
            "seal_mb_s": machine.seal_mb_s(),
            "fdatasync_1k_ms": machine.fdatasync_ms(where, KIB, 400),
            "append_4m_mb_s": machine.append_mb_s(where, 4 * MIB, 40),
        }

    def idle(self) -> dict[str, float]:
        """The node with nothing connected."""
        percent = idle_cpu_percent(self.node, 5.0)
        return {"idle_cpu_percent": percent, "idle_mb": self.node.resident_mb()}

    def tls(self, what: str) -> dict[str, float]:
        """A limit of the TLS stack, without the appliance behind it."""
        user = self.node.settings("producer")
        with beside("tls_server.py", str(self.node.folder)) as server:
            found = load(
                "tls_load.py",
                {
                    "what": what,
                    "port": server.port,
                    "ca": user["ssl.ca.location"],
                    "certificate": user["ssl.certificate.location"],
                    "key": user["ssl.key.location"],
                    "seconds": self.seconds,
                    "connections": 8,
                    "in_flight": IN_FLIGHT,
                },
                server.pid,
            )
        return {_TLS[what]: found.pop("rate"), **_named(f"tls_{what}", found)}

    def produce(self, size: int) -> dict[str, float]:
        """Acknowledged batches of one size, as fast as they go."""
        return self._rates("produce", size, clients=CLIENTS[size])

    def fetch(self, size: int) -> dict[str, float]:
        """The same topic read from its beginning."""
        return self._rates("fetch", size, clients=1)

    def _rates(self, what: str, size: int, *, clients: int) -> dict[str, float]:
        found = self._kafka(what, size, clients, f"bench-{size}")
        found["mb_s"] = found["batches_s"] * size / 1e6
        return _named(f"{what}_{size >> 10}k", found)

    def latency(self, clients: int) -> dict[str, float]:
        """From send to acknowledgement, each client with one batch on its way."""
        return _named(f"latency_{clients}", self._kafka("latency", KIB, clients, "bench-latency"))

    def _kafka(self, what: str, size: int, clients: int, topic: str) -> dict[str, float]:
        job = {
            "what": what,
            "settings": self.node.settings("consumer" if what == "fetch" else "producer"),
            "topic": topic,
            "size": size,
            "clients": clients,
            "in_flight": IN_FLIGHT,
            "seconds": self.seconds,
            "at_once": max(4, min(1000, 4 * MIB // size)),
        }
        return load("kafka_load.py", job, self.node.pid)


_TLS = {
    "receive": "tls_receive_mb_s",
    "send": "tls_send_mb_s",
    "echo": "tls_echo_requests_s",
}


def _named(prefix: str, found: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in found.items()}


def measured(seconds: float, console: Console) -> dict[str, float]:
    """All figures, from one node that lives as long as the run."""
    found: dict[str, float] = {}
    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())  # fmt: skip
    with (
        tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as temporary,
        Progress(*columns, console=console) as progress,
    ):
        task = progress.add_task("starting", total=None)
        with appliance(Path(temporary).absolute() / "data") as started:
            steps = Bench(started.nodes[0], seconds).steps()
            progress.update(task, total=len(steps))
            for name, measure in steps:
                progress.update(task, description=name)
                found |= measure()
                progress.advance(task)
    return found


def main() -> int:
    """Measures, prints, and writes; exit code 1 if a target is missed and `--strict` was given."""
    options = report.arguments(__doc__, 5.0, "figure")
    console = Console()
    found = measured(options.seconds, console)
    console.print("and the storage by itself: a minute or two")
    rows = storage.rows(Path.cwd())
    promised = report.targets(found) + [
        report.Target(row.name, row.value, row.target, row.bound == "at most", row.unit, "")
        for row in rows
        if row.bound
    ]
    storage.show(rows, console)
    report.show(console, found, promised, SIZES)
    report.write(RESULTS, found, promised, SIZES)
    console.print(f"written to {RESULTS / 'latest.json'} and {RESULTS / 'latest.png'}")
    return int(options.strict and not all(target.met for target in promised))


if __name__ == "__main__":
    sys.exit(main())
