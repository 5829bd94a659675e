"""`make mutants`: deliberate bugs, and the checker that catches each.

    make mutants                           all of them
    make mutants ARGS="vote-twice"         some, by name

Each patch in tests/mutants is applied to a copy of the package, and the copy is simulated until a
checker objects. The package as it is must pass, and the canary must fail. Exit code 0 if 95% or
more are caught.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).parents[2]
PATCHES = ROOT / "tests" / "mutants"
CANARY = "canary"
SEEDS = 300
MUST_CATCH = 0.95


class Verdict(NamedTuple):
    """What became of one bug."""

    name: str
    caught: bool
    text: str


def names() -> list[str]:
    """Every bug but the canary."""
    return sorted(path.stem for path in PATCHES.glob("*.patch") if path.stem != CANARY)


def hunt(name: str | None, seeds: int = SEEDS) -> Verdict:
    """Simulates the package with one bug in it, or as it is, until a checker objects."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        shutil.copytree(
            ROOT / "appliance", Path(folder) / "appliance", ignore=shutil.ignore_patterns("*.pyc")
        )
        if name is not None:
            patch = subprocess.run(
                ["git", "apply", "-p1", str(PATCHES / f"{name}.patch")],
                cwd=folder, capture_output=True, text=True, check=False,
                env={**os.environ, "GIT_CEILING_DIRECTORIES": str(Path(folder).parent)},
            )  # fmt: skip
            if patch.returncode:
                return Verdict(name, False, f"the patch does not apply: {patch.stderr.strip()}")
        found = subprocess.run(
            [sys.executable, str(ROOT / "tests/simulation/simulate.py"), "--tier", "core",
             "--hunt", str(seeds)],
            cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    lines = found.stdout.strip().splitlines() or [found.stderr.strip()[-300:]]
    place, *rest = lines
    if place != f"appliance from {folder}/appliance":
        return Verdict(name or "as it is", False, f"another package was simulated: {place}")
    return Verdict(name or "as it is", found.returncode == 1, " ".join(rest))


def main() -> int:
    """Hunts what was asked for and prints who caught what."""
    parser = argparse.ArgumentParser(description="Hunt deliberate bugs by simulation.")
    parser.add_argument("name", nargs="*", help="of patches in tests/mutants; all by default")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="for each bug")
    options = parser.parse_args()
    console = Console(highlight=False, width=None if os.isatty(1) else 120)
    asked = options.name or names()
    control = [hunt(CANARY, options.seeds), hunt(None, options.seeds)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda name: hunt(name, options.seeds), asked)
        verdicts: list[Verdict] = []
        for verdict in track(results, "hunting", total=len(asked), console=console):
            verdicts.append(verdict)
            word = "caught" if verdict.caught else "MISSED"
            console.print(f"{word} {verdict.name:34} {verdict.text}", soft_wrap=True, markup=False)
    caught = sum(verdict.caught for verdict in verdicts)
    canary, clean = control
    console.print(f"canary: {'caught, as it must be' if canary.caught else 'NOT CAUGHT'}")
    console.print(f"the package as it is: {f'FAILS {clean.text}' if clean.caught else 'passes'}")
    console.print(f"{caught} of {len(verdicts)} caught within {options.seeds} seeds")
    held = canary.caught and not clean.caught and caught >= MUST_CATCH * len(verdicts)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
