"""Each harness holds on its seeds and some thousand mutations, and the canary is found."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[3] / "fuzz"


def _loaded(name):
    if str(FUZZ) not in sys.path:
        sys.path.insert(0, str(FUZZ))
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", FUZZ / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = _loaded("run")


@pytest.mark.parametrize("harness", runner.HARNESSES, ids=lambda harness: harness.name)
def test_the_invariant_holds_on_seeds_and_mutations(harness):
    source = random.Random(7)
    for seed in harness.seeds:
        harness.run(seed)
    for _ in range(1_000):
        harness.run(runner.mutated(source, harness.seeds))


def test_the_canary_is_found():
    tried, finding = runner.first_failure(runner.CANARY, 5.0, 1)
    assert finding is not None
    assert tried >= 1
