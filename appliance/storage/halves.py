"""A large piece of a log, read by two threads: opening frames takes a processor each.

The index says where the middle is. The second half is read while the first one is; it counts only
if the first came to where it begins, and together they keep the bound of the read.
"""

from functools import partial
from queue import SimpleQueue

import trio
from outcome import Outcome

from appliance.limits import READ_IN_HALVES_BYTES
from appliance.storage.files import LogFiles
from appliance.storage.reading import Collected, read_batches
from appliance.types import Offset

_Middle = tuple[Offset, int]
"""The offset that the second half begins with, and what the first half takes of the file."""


def read_piece(files: LogFiles, start: Offset, end: Offset, max_bytes: int) -> Collected:
    """Batches from `start` on, below `end`, at least one. Blocks. Raises DamageDetected."""
    middle = _middle(files, start, end, max_bytes)
    if middle is None or middle[0] >= end or middle[1] >= max_bytes:
        whole = Collected(start, end, max_bytes)
        read_batches(files, whole, start)
        return whole
    offset, taken = middle
    first = Collected(start, offset, max_bytes)
    second = Collected(offset, end, max_bytes - taken)
    ended: SimpleQueue[Outcome[None]] = SimpleQueue()
    trio.lowlevel.start_thread_soon(partial(read_batches, files, second, offset), ended.put)
    try:
        read_batches(files, first, start)
    finally:
        outcome = ended.get()
    outcome.unwrap()
    first.go_on_with(second, end)
    return first


def _middle(files: LogFiles, start: Offset, end: Offset, max_bytes: int) -> _Middle | None:
    """Where the second half of a large read begins, if both are of one file."""
    if max_bytes < READ_IN_HALVES_BYTES:
        return None
    file = next(files.from_offset(start))
    index = file.contents().index
    begin = index.before_offset(start).position
    wanted = min(max_bytes, index.place_of(end, file.end) - begin)
    if wanted < READ_IN_HALVES_BYTES:
        return None
    found = index.offset_from(begin + wanted // 2)
    if found is None or found[0] <= start:
        return None
    return found[0], found[1] - begin
