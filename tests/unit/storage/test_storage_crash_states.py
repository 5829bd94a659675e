"""After a crash at any step, in any state that it may leave, a log opens and holds what it must.

Each story is driven on a simulated disk and photographed before every step that it takes. Of each
photograph the legal states after a kill and after a power cut are made; a node starts from each.
"""

import pytest
import trio

from tests.simulation import threads
from tests.simulation.node import Photographer, SimulatedNode, small_segments
from tests.simulation.states import after_crash

LARGE = b"large" * 300


def no_faults(_action, _name):
    return None


def nothing(_number, _atom):
    return False


async def append(node):
    await node.append(b"one", b"two", term=1)
    await node.append(LARGE, term=1)
    await node.append(b"three" * 200, b"four", term=2, records=3)


async def append_after_a_mark(node):
    await node.append(b"one", term=1)
    await node.mark()
    await node.append(b"two", b"three", term=1)
    await node.mark()
    await node.append(b"four", term=1)


async def roll(node):
    for number in range(5):
        await node.append(b"%d" % number + LARGE, term=1)


async def truncate(node):
    await node.append(b"one", b"two", b"three", term=1)
    await node.append(b"four", term=1)
    await node.truncate(2)
    await node.append(b"other", term=2)
    await node.truncate(0)
    await node.append(b"new", term=3)


async def truncate_across_files(node):
    for number in range(5):
        await node.append(b"%d" % number + LARGE, term=1)
    await node.truncate(2)
    await node.append(b"other" + LARGE, LARGE, term=2)


async def begin_anew_after_a_snapshot(node):
    await node.append(b"one", b"two", term=1)
    await node.reset(term=4, index=90, offset=1000)
    await node.append(b"three", term=5)
    await node.mark()
    await node.reset(term=6, index=200, offset=2000)
    await node.append(b"four", term=6)


async def raise_the_start(node):
    for number in range(5):
        await node.append(b"%d" % number + LARGE, term=1)
    await node.raise_start(1)
    await node.raise_start(4)
    await node.append(b"next", term=1)
    await node.raise_start(6)


async def free_behind_a_snapshot(node):
    for number in range(4):
        await node.append(b"%d" % number + LARGE, term=1)
    await node.raise_start(2, applied=2, state=b"of two")
    await node.append(b"next", term=1)
    await node.raise_start(4, state=b"of five" * 100)
    await node.raise_start(4, state=b"not asked for")
    await node.append(b"last", term=1)


async def keep_the_state_of_a_log_that_stays(node):
    for number in range(2):
        await node.append(b"%d" % number + LARGE, term=1)
        await node.keep(b"of %d" % number)
    await node.append(b"taken back", term=1)
    await node.truncate(2)
    await node.append(b"next", term=2)
    await node.raise_start(1, applied=2, state=b"of one that went")
    await node.keep(b"of all")


async def take_a_snapshot_of_another(node):
    await node.append(b"one", term=1)
    await node.reset(term=4, index=90, offset=1000, state=b"up to 90")
    await node.append(b"two" + LARGE, b"three", term=5)
    await node.mark()
    await node.raise_start(1002, state=b"up to 92")
    await node.reset(term=6, index=200, offset=2000, state=b"up to 200")
    await node.append(b"four", term=6)


async def rewrap_and_rotate(node):
    await node.append(b"one" + LARGE, term=1)
    await node.rotate()
    await node.rewrap()
    await node.append(LARGE, term=1)
    await node.append(b"two" + LARGE, term=1)
    await node.rotate()
    await node.rewrap()
    await node.append(b"three", term=1)


async def rekey(node):
    for number in range(3):
        await node.append(b"%d" % number + LARGE, term=1)
    await node.truncate(1)
    await node.rekey()
    await node.append(b"last", term=2)


async def retention(node):
    for number in range(4):
        await node.append(b"%d" % number + LARGE, term=1)
    await node.raise_start(2, applied=1)
    await node.raise_start(4, applied=4)
    await node.append(b"next", term=1)


async def compaction(node):
    for number in range(4):
        await node.append(b"%d" % number + LARGE, b"small", term=1)
    await node.compact(lambda index: index % 3 == 0)
    await node.append(b"next", term=1)
    await node.compact(lambda index: index == 3)


async def create_and_delete(node):
    await node.create_other()
    await node.append_other(b"one", b"two" + LARGE)
    await node.append(b"beside it", term=1)
    await node.append_other(LARGE)
    await node.delete_other()
    await node.create_other()
    await node.append_other(b"three")


async def shred(node):
    await node.create_other()
    await node.append_other(b"secret", LARGE)
    await node.mark()
    await node.append(b"beside it", term=1)
    await node.shred_other()
    await node.append(b"next", term=1)


async def vote_and_record(node):
    await node.vote(1)
    await node.record(b"who did what", b"and when")
    await node.vote(2)
    await node.record(b"again")
    await node.vote(3)


async def stop_and_go_on(node):
    await node.append(b"one", b"two", term=1)
    await node.stop()
    await node.open(node.disk.image().after_a_kill())
    await node.append(b"three", term=1)
    await node.stop()


STORIES = (
    append,
    append_after_a_mark,
    roll,
    truncate,
    truncate_across_files,
    begin_anew_after_a_snapshot,
    raise_the_start,
    free_behind_a_snapshot,
    keep_the_state_of_a_log_that_stays,
    take_a_snapshot_of_another,
    rewrap_and_rotate,
    rekey,
    retention,
    compaction,
    create_and_delete,
    shred,
    vote_and_record,
    stop_and_go_on,
)


async def photographed(story):
    """A story, driven to its end, and a photograph from before each of its steps."""
    node = SimulatedNode(story.__name__)
    await node.create()
    camera = Photographer(node, lambda _: True)
    await story(node)
    camera.take()
    node.disk.on_step = no_faults
    return node, camera.photographs


async def resumed(node, disk, ledger):
    """A node that starts from a crashed disk, and what it found and took survives the next cut."""
    node.ledger = ledger
    await node.open(disk)
    await node.open(node.disk.image().after_a_power_cut(nothing))
    await node.append(b"after", term=9)
    await node.open(node.disk.image().after_a_power_cut(nothing))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_no_crash_loses_what_was_acknowledged_and_every_log_opens(story):
    async def main():
        node, photographs = await photographed(story)
        for number, (image, ledger) in enumerate(photographs):
            for what, disk in after_crash(image, (story.__name__, number)):
                try:
                    await resumed(node, disk, ledger)
                except Exception as error:
                    raise AssertionError(f"step {number}, {what}") from error

    with threads.inline(), small_segments():
        trio.run(main)
