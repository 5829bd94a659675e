"""`make simulate`: the cluster under faults, seed by seed, and what each seed must still hold.

    make simulate                                  every tier that there is, in full
    make simulate ARGS="--tier core --seeds 500"   some of one
    make simulate ARGS="--tier core --replay 4711" one seed again, with its trace

Exit code 0 if every property held and every fault and property was reached, 1 if one broke (the
command that replays it is printed), 2 if one was never reached.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import appliance

sys.path.insert(0, str(Path(__file__).parent))
from checkers import CHECKERS, Violation
from cores.run import FAULTS, run
from nodes import run as node_tier
from replicas import run as replica_tier


class Run(Protocol):
    """One seed of one tier."""

    def __call__(self, seed: int, *, traced: bool = False) -> "Outcome":
        """Everything follows from the seed."""
        ...


class Outcome(Protocol):
    """What a run of any tier tells."""

    seed: int
    simulated_ms: float
    faults: Counter[str]
    reached: Counter[str]
    violation: Violation | None
    detail: str
    trace: list[str]
    trace_hash: str


class Tier(NamedTuple):
    """One kind of run."""

    run: Run
    seeds: int
    faults: tuple[str, ...]
    checkers: tuple[str, ...]
    what: str


TIERS: dict[str, Tier] = {
    "core": Tier(run, 10_000, FAULTS, CHECKERS, "the consensus core alone"),
    "replica": Tier(
        replica_tier.run,
        1_000,
        replica_tier.FAULTS,
        replica_tier.CHECKED,
        "replicas with the real sealed format on simulated disks",
    ),
    "node": Tier(
        node_tier.run,
        200,
        node_tier.FAULTS,
        node_tier.CHECKED,
        "whole nodes on simulated disks, clocks and links",
    ),
}
CHUNK = 25


class Total:
    """What many runs add up to."""

    def __init__(self) -> None:
        self.seeds = 0
        self.hours = 0.0
        self.faults: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self.failed: list[tuple[int, str]] = []

    def add(self, outcome: Outcome) -> None:
        """One more run."""
        self.seeds += 1
        self.hours += outcome.simulated_ms / 3_600_000
        self.faults += outcome.faults
        self.reached += outcome.reached
        if outcome.violation is not None:
            self.failed.append((outcome.seed, str(outcome.violation)))

    def merge(self, other: "Total") -> None:
        """What another process found."""
        self.seeds += other.seeds
        self.hours += other.hours
        self.faults += other.faults
        self.reached += other.reached
        self.failed += other.failed

    def never_reached(self, tier: Tier) -> list[str]:
        """Faults and properties that nothing tested."""
        faults = [f"fault '{name}'" for name in tier.faults if not self.faults[name]]
        return faults + [f"property '{n}'" for n in tier.checkers if not self.reached[n]]


def seeds_of(name: str, seeds: range) -> Total:
    """A chunk of seeds, in one process."""
    total = Total()
    for seed in seeds:
        total.add(TIERS[name].run(seed))
    return total


def chunks(first: int, count: int) -> Iterator[range]:
    """Seeds in order, a few at a time."""
    for start in range(first, first + count, CHUNK):
        yield range(start, min(start + CHUNK, first + count))


def simulate(name: str, first: int, count: int, console: Console) -> Total:
    """Runs the seeds on every core there is."""
    total = Total()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console) as progress, ProcessPoolExecutor() as pool:
        task = progress.add_task(f"tier {name}", total=count)
        parts = [pool.submit(seeds_of, name, part) for part in chunks(first, count)]
        for part in parts:
            found = part.result()
            total.merge(found)
            progress.advance(task, found.seeds)
    return total


def report(name: str, total: Total, console: Console) -> int:
    """Prints what was simulated and found; the exit code."""
    tier = TIERS[name]
    console.print(
        f"tier {name}: {tier.what}, {total.seeds:,} seeds, {total.hours:.1f} simulated hours"
    )
    for title, names, counts in (
        ("fault", tier.faults, total.faults),
        ("property", tier.checkers, total.reached),
    ):
        table = Table(title, "times", box=None)
        for row in names:
            table.add_row(row, f"{counts[row]:,}")
        console.print(table)
    for seed, text in total.failed[:10]:
        console.print(f"VIOLATION in seed {seed}: {text}", soft_wrap=True, markup=False)
        console.print(f"  replay: make simulate ARGS='--tier {name} --replay {seed}'")
    missing = total.never_reached(tier)
    for what in missing:
        console.print(f"NEVER REACHED: {what}: these runs say nothing about it")
    console.print(f"{total.seeds - len(total.failed):,} seeds held, {len(total.failed):,} broke")
    return 1 if total.failed else 2 if missing else 0


def replay(name: str, seed: int, write: Callable[[str], object]) -> int:
    """One seed again, line by line."""
    outcome = TIERS[name].run(seed, traced=True)
    for line in outcome.trace:
        write(line)
    write(f"trace hash {outcome.trace_hash}")
    write(f"seed {seed}: {outcome.violation or 'every property held'}")
    if outcome.detail:
        write(outcome.detail)
    return 0 if outcome.violation is None else 1


def hunt(name: str, seeds: int, write: Callable[[str], object]) -> int:
    """Looks for the first seed that breaks something, in this process."""
    write(f"appliance from {Path(appliance.__file__).parent}")
    for seed in range(seeds):
        violation = TIERS[name].run(seed).violation
        if violation is not None:
            write(f"by {violation.checker} in seed {seed}")
            return 1
    write(f"nothing in {seeds} seeds")
    return 0


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(
        description="Simulate the cluster under faults; every property must hold.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"tier {n}: {t.what}, {t.seeds:,} seeds" for n, t in TIERS.items()),
    )
    parser.add_argument("--tier", choices=sorted(TIERS), help="one tier; all by default")
    parser.add_argument("--seeds", type=int, help="how many; each tier's own number by default")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run one seed, print its trace")
    parser.add_argument("--hunt", type=int, metavar="SEEDS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hunt is not None:
        return hunt(options.tier or "core", options.hunt, print)
    if options.replay is not None:
        return replay(options.tier or "core", options.replay, print)
    console = Console(highlight=False, width=None if os.isatty(1) else 100)
    worst = 0
    for name in [options.tier] if options.tier else TIERS:
        count = options.seeds or TIERS[name].seeds
        worst = max(worst, report(name, simulate(name, options.first, count, console), console))
    return worst


if __name__ == "__main__":
    sys.exit(main())
