"""A sample of `make simulate` and `make mutants`, and that a seed is all there is to a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cores.run import run as core_run
from mutants import CANARY, PATCHES, ROOT, hunt, names
from nodes.run import run as node_run
from replicas.run import run as replica_run
from simulate import TIERS, Total, seeds_of

SIMULATE = Path(__file__).parent / "simulate.py"
SAMPLE = 60


def test_a_sample_of_seeds_holds_every_property() -> None:
    total = seeds_of("core", range(SAMPLE))
    assert total.failed == []
    assert [what for what in total.never_reached(TIERS["core"]) if "property" in what] == []


def test_a_sample_of_seeds_holds_with_the_real_format_on_simulated_disks() -> None:
    """Seed 3 once applied entries that were about to be taken back."""
    assert seeds_of("replica", range(40)).failed == []


def test_a_sample_of_seeds_holds_with_whole_nodes() -> None:
    """In seed 2 all nodes fall at once, and in none is a property left unjudged."""
    total = seeds_of("node", range(2, 3))
    assert total.failed == []
    assert [what for what in total.never_reached(TIERS["node"]) if "property" in what] == []


def test_a_property_that_was_never_reached_is_a_failure() -> None:
    assert len(Total().never_reached(TIERS["core"])) > 20


@pytest.mark.parametrize("tier", ["core", "replica", "node"])
def test_the_same_seed_gives_the_same_trace_in_another_process(tier: str) -> None:
    """To the letter, whatever strings hash to there."""
    hashes = set()
    for hash_seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, str(SIMULATE), "--tier", tier, "--replay", "11"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        hashes.add(next(line for line in found.stdout.split("\n") if "trace hash" in line))
    play = {"core": core_run, "replica": replica_run, "node": node_run}[tier]
    assert hashes == {f"trace hash {play(11, traced=True).trace_hash}"}


def test_the_trace_does_not_change_what_happens() -> None:
    plain, traced = core_run(12), core_run(12, traced=True)
    assert (plain.faults, plain.reached) == (traced.faults, traced.reached)


def test_there_are_deliberate_bugs_and_each_still_applies(tmp_path: Path) -> None:
    assert len(names()) >= 30
    (tmp_path / "appliance").symlink_to(ROOT / "appliance")
    for name in (*names(), CANARY):
        patch = (PATCHES / f"{name}.patch").read_text()
        source = ""
        for line in patch.splitlines():
            if line.startswith("--- a/"):
                source = (tmp_path / line[6:]).read_text()
            elif line[:1] == "-":
                assert line[1:] in source, name


@pytest.mark.parametrize("name", [CANARY, "follower-skips-fsync", "vote-before-durable"])
def test_a_deliberate_bug_is_caught_by_a_checker(name: str) -> None:
    verdict = hunt(name, seeds=20)
    assert verdict.caught, verdict.text
