"""One harness under atheris, in a process of its own, which atheris ends.

Our modules alone are instrumented, as they are imported: instrumenting all that is loaded takes
longer than most runs. Arguments: harness, folder for findings, seconds.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
with atheris.instrument_imports(include=["appliance"]):
    from harnesses import CANARY, HARNESSES


def main(name: str, findings: Path, seconds: float) -> None:
    """Starts from the seeds, and from what an earlier run found to be worth keeping."""
    harness = {harness.name: harness for harness in (*HARNESSES, CANARY)}[name]
    corpus = findings / "corpus" / harness.name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(harness.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    arguments = [
        sys.argv[0],
        f"-max_total_time={max(1, int(seconds))}",
        f"-artifact_prefix={findings}/{harness.name}-",
        "-print_final_stats=0",
        str(corpus),
    ]
    atheris.Setup(arguments, harness.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
