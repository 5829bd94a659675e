"""`make torture`: what takes too long for `make test`, from a seed, with a way to play it again.

Each suite is a row of numbered runs, and a run is its seed and its number: a failure prints both,
and a torture that was stopped goes on with `--from`. Exit code 0 if everything held, 1 if not.
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import trio
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.simulation import threads
from tests.simulation.history import History
from tests.simulation.node import small_flushes, small_segments
from tests.simulation.recorder import SealRecorder
from tests.torture.cluster.suite import Canary, ClusterRuns
from tests.torture.failover import Failovers
from tests.torture.handover import Handovers
from tests.torture.kills import Killed
from tests.torture.paused import Paused
from tests.torture.repair import Repairs

MAX_FAILURES = 5


class Histories:
    """Random histories on a simulated disk; see `tests.simulation.history`."""

    def __init__(self, seed: int, *, name: str, faults: bool) -> None:
        self._seed = seed
        self._name = name
        self._faults = faults
        self._recorder = SealRecorder()
        self._injected = self._acknowledged = 0

    @contextmanager
    def around(self) -> Iterator[None]:
        with self._recorder.watching(), threads.inline(), small_segments():
            yield

    def run(self, number: int) -> int:
        faults = self._faults or number % 2 == 0
        history = History((self._name, self._seed, number), faults=faults)
        with small_flushes() if number % 3 == 0 else nullcontext():
            trio.run(history.run)
        self._injected += history.injected
        self._acknowledged += history.acknowledged
        if self._recorder.repeated:
            raise AssertionError("a (key, nonce) pair was used twice")
        return 1

    def summary(self) -> str:
        return (
            f"{self._recorder.seals} seals, {self._recorder.repeated} repeated; "
            f"{self._injected} faults injected; {self._acknowledged} entries held to account"
        )


@dataclass(frozen=True)
class Suite:
    """A row of runs: what it proves, how many there are, and who plays one."""

    name: str
    proves: str
    count: int
    make: Callable[[int], "Histories | Killed | Failovers | Handovers | Paused | Repairs"]


SUITES = (
    Suite(
        "nonces",
        "no (key, nonce) pair repeats over crashes, restores, failed writes and twins",
        10_000,
        lambda seed: Histories(seed, name="nonces", faults=False),
    ),
    Suite(
        "faults",
        "nothing acknowledged after a failed write or sync, nothing lost",
        10_000,
        lambda seed: Histories(seed, name="faults", faults=True),
    ),
    Suite(
        "kills",
        "everything acknowledged is read back after kill -9 of the real process",
        1_000,
        Killed,
    ),
    Suite(
        "failover",
        "writes resume within 1.5 s of a leader's kill -9, and every record is there once",
        50,
        Failovers,
    ),
    Suite(
        "handover",
        "a planned transfer and a drain stall producers under 200 ms; every record is there once",
        10,
        Handovers,
    ),
    Suite(
        "paused",
        "with one node stopped a fresh connection writes everywhere within 5 s, and clients go on",
        6,
        Paused,
    ),
    Suite(
        "repair",
        "a flipped bit or a file cut off on one of three replicas is repaired, and no client told",
        20,
        Repairs,
    ),
    Suite(
        "cluster",
        "three and five nodes under kills, pauses, cuts, full disks, power cuts and new members:"
        " 0 lost, 0 duplicated, 0 inconsistent",
        64,
        ClusterRuns,
    ),
    Suite("canary", "disks that lie are caught: the suite above can see a loss", 1, Canary),
)


def played(suite: Suite, seed: int, first: int, count: int, console: Console) -> bool:
    """Plays runs `first` to `first + count`; whether all held."""
    failures = 0
    runs = suite.make(seed)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress, runs.around():
        task = progress.add_task(suite.name, total=count)
        number = first
        while number < first + count and failures < MAX_FAILURES:
            try:
                done = runs.run(number)
            except Exception as error:  # noqa: BLE001 - whatever leaves a run is a finding
                failures += 1
                done = 1
                console.print(f"{suite.name}: run {number} of seed {seed} FAILED")
                console.print("".join(traceback.format_exception(error)[-3:]), markup=False)
                console.print(
                    f"play it again: make torture "
                    f"ARGS='{suite.name} --seed {seed} --from {number} --count 1'"
                )
            number += done
            progress.update(task, advance=done)
    held = "held" if not failures else "BROKEN"
    console.print(f"{suite.name:8} {held:7} {number - first} runs of seed {seed}: {runs.summary()}")
    return not failures


def main() -> int:
    """Plays what was asked for."""
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__.split("\n")[0])
    parser.add_argument("suite", nargs="*", help=", ".join(suite.name for suite in SUITES))
    parser.add_argument("--seed", type=int, default=1, help="every run follows from it")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first run")
    parser.add_argument("--count", type=int, help="how many runs of each suite")
    options = parser.parse_args()
    unknown = set(options.suite) - {suite.name for suite in SUITES}
    if unknown:
        parser.error(f"no suite {', '.join(sorted(unknown))}")
    console = Console(stderr=False)
    console.print(f"seed {options.seed}; a torture that was stopped goes on with --from RUN")
    held = True
    for suite in SUITES:
        if not options.suite or suite.name in options.suite:
            console.print(f"[bold]{suite.name}[/]: {suite.proves}")
            count = suite.count - options.first if options.count is None else options.count
            held &= played(suite, options.seed, options.first, count, console)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
