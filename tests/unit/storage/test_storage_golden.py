"""Files that were written once, from a fixed seed, pin the format: they open, and come out again.

If a test here fails, the format has changed: give it another number, keep reading this one, and
only then write new files with `python -m tests.unit.storage.test_storage_golden`.
"""

from pathlib import Path

import trio

from appliance.storage.examination import Examination
from appliance.storage.verification import Verification
from tests.simulation import threads
from tests.simulation.disk import SimulatedDisk
from tests.simulation.node import SimulatedNode, small_segments

GOLDEN = Path(__file__).parent / "golden" / "format-1"
LARGE = b"large" * 300


def written():
    """A node with a closed file, a void, a journal and a vote, from a fixed seed."""
    node = SimulatedNode("golden")

    async def story():
        await node.create()
        await node.append(b"one", b"two", LARGE, term=1)
        await node.append(LARGE, LARGE, term=1, records=2)
        await node.append(b"three", b"four", term=2)
        await node.truncate(node.log.last.index - 1)
        await node.record(b"who did what")
        await node.vote(3)
        await node.stop()

    with threads.inline(), small_segments():
        trio.run(story)
    return node


def kept():
    """The files of then, by their names in the directory."""
    paths = sorted(path for path in GOLDEN.rglob("*") if path.is_file())
    return {str(path.relative_to(GOLDEN)): path.read_bytes() for path in paths}


def test_the_files_of_then_open_and_hold_what_was_written():
    node = written()

    async def read():
        examination = await Examination.open(SimulatedDisk.holding(kept()), node.keys)
        report = await Verification(examination, lambda _: None).run()
        assert report.frames > 8
        assert not report.findings
        await node.open(SimulatedDisk.holding(kept()))

    with threads.inline(), small_segments():
        trio.run(read)


def test_the_same_seed_writes_the_same_files_byte_for_byte():
    assert written().disk.files() == kept()


if __name__ == "__main__":
    for name, content in written().disk.files().items():
        path = GOLDEN / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
