"""Files that were written once, from a fixed seed, pin the format: they open, and come out again.

If a test here fails, the format has changed: give it another number, keep reading this one, and
only then write new files with `python -m tests.unit.storage.test_storage_golden`.
"""

from pathlib import Path

import pytest
import trio

from appliance.storage.examination import Examination
from appliance.storage.verification import Verification
from tests.simulation import threads
from tests.simulation.disk import SimulatedDisk
from tests.simulation.node import SimulatedNode, small_segments

GOLDEN = Path(__file__).parent / "golden"
LARGE = b"large" * 300


async def a_log(node):
    """A closed file, a void, a journal and a vote."""
    await node.create()
    await node.append(b"one", b"two", LARGE, term=1)
    await node.append(LARGE, LARGE, term=1, records=2)
    await node.append(b"three", b"four", term=2)
    await node.truncate(node.log.last.index - 1)
    await node.record(b"who did what")
    await node.vote(3)
    await node.stop()


async def a_snapshot(node):
    """A log that begins behind a snapshot."""
    await node.create()
    for number in range(4):
        await node.append(b"%d" % number + LARGE, term=1)
    await node.raise_start(2, applied=3, state=b"what three entries amount to")
    await node.stop()


STORIES = {"format-1": a_log, "format-1-snapshot": a_snapshot}


def written(name):
    """A node that has lived through a story, from a fixed seed."""
    node = SimulatedNode("golden")
    with threads.inline(), small_segments():
        trio.run(STORIES[name], node)
    return node


def kept(name):
    """The files of then, by their names in the directory."""
    golden = GOLDEN / name
    paths = sorted(path for path in golden.rglob("*") if path.is_file())
    return {str(path.relative_to(golden)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", STORIES)
def test_the_files_of_then_open_and_hold_what_was_written(name):
    node = written(name)

    async def read():
        examination = await Examination.open(SimulatedDisk.holding(kept(name)), node.keys)
        report = await Verification(examination, lambda _: None).run()
        assert report.frames > 4
        assert not report.findings
        await node.open(SimulatedDisk.holding(kept(name)))

    with threads.inline(), small_segments():
        trio.run(read)


@pytest.mark.parametrize("name", STORIES)
def test_the_same_seed_writes_the_same_files_byte_for_byte(name):
    assert written(name).disk.files() == kept(name)


if __name__ == "__main__":
    for story in STORIES:
        for name, content in written(story).disk.files().items():
            path = GOLDEN / story / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
