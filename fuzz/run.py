"""`make fuzz`: every harness for a while, by atheris where it is there, and the canary first.

Exit code 0 if all invariants held, 1 if one broke (the input is in fuzz/findings), 2 if the canary
was not found.
"""

import argparse
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from harnesses import CANARY, HARNESSES, Harness

FINDINGS = Path(__file__).parent / "findings"
GUIDED = Path(__file__).with_name("guided.py")


def mutated(source: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with some bytes changed, doubled, cut or put in."""
    data = bytearray(source.choice(seeds))
    for _ in range(source.randint(1, 6)):
        at = source.randint(0, len(data))
        kind = source.randint(0, 3)
        if kind == 0:
            data[at:at] = source.randbytes(source.randint(1, 8))
        elif kind == 1:
            del data[at : at + source.randint(1, 8)]
        elif kind == 2:
            data[at : at + 4] = source.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)))
        elif data:
            data[at % len(data)] ^= 1 << source.randint(0, 7)
    return bytes(data)


def first_failure(harness: Harness, seconds: float, seed: int) -> tuple[int, bytes | None]:
    """(inputs tried, the first that breaks the invariant or None), without coverage guidance."""
    source = random.Random(seed)
    tried, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        data = mutated(source, harness.seeds)
        tried += 1
        try:
            harness.run(data)
        except Exception:  # noqa: BLE001 - whatever leaves a parser is a finding
            return tried, data
    return tried, None


def main() -> int:
    """Runs what was asked for and prints a table."""
    parser = argparse.ArgumentParser(description="Fuzz every parser of the appliance.")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each harness")
    parser.add_argument("harness", nargs="*", help="names; all by default")
    options = parser.parse_args()
    FINDINGS.mkdir(exist_ok=True)
    known = {harness.name: harness for harness in (*HARNESSES, CANARY)}
    unknown = set(options.harness) - known.keys()
    if unknown:
        parser.error(f"no harness {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if first_failure(CANARY, 5.0, 1)[1] is None:
        print("the canary was not found: nothing is being tested")
        return 2
    broken = 0
    for harness in HARNESSES:
        if options.harness and harness.name not in options.harness:
            continue
        _, finding = first_failure(harness, options.seconds / 4, 1)
        if finding is not None:
            (FINDINGS / f"{harness.name}-input").write_bytes(finding)
        command = [sys.executable, str(GUIDED), harness.name, str(FINDINGS), str(options.seconds)]
        held = finding is None
        if find_spec("atheris") is not None:
            held &= subprocess.run(command, capture_output=True, check=False).returncode == 0
        broken += not held
        print(f"{harness.name:16} {'held' if held else 'BROKEN':8} {harness.invariant}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
