"""Puts a closed file's entries, changed one by one, into a new file that takes its place.

1. The new file is written beside the old one, frame after frame, each changed in a thread and the
   loop free in between; a final frame ends it, and everything is synced.
2. The manifest names it instead of the old one.
3. The old file is removed.
A crash before 2 leaves garbage, one after it an old file that nobody names. Entries keep index,
term and offsets, so nothing else of the log changes.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence

import trio

from appliance.crypto.sealed import FrameKind
from appliance.limits import MAX_FRAME_PAYLOAD_BYTES
from appliance.storage import layout
from appliance.storage.files import LogFiles
from appliance.storage.layout import Stamp
from appliance.storage.logfile import LogFile
from appliance.storage.manifest import ClosedEnd
from appliance.storage.reading import live_entries
from appliance.types import Entry

Change = Callable[[Entry, bool], Entry]
"""What takes an entry's place; told whether it is the last one of its file."""
Rest = Callable[[int], Awaitable[None]]
"""Awaited after so many bytes were written, and lets others run at least."""


async def no_rest(_: int) -> None:
    """Goes on at once."""
    await trio.lowlevel.checkpoint()


def unchanged(entry: Entry, _: bool) -> Entry:
    """A `Change` that leaves every entry as it is."""
    return entry


class Rewritten:
    """A new file beside the old one, and how it ends."""

    def __init__(self, old: LogFile, fresh: LogFile) -> None:
        """For `rewrite`."""
        self.old = old
        self.fresh = fresh
        self.closed: ClosedEnd | None = None
        self.wanted = False
        """Whether it is to take the old one's place: something changed, or its key is newer."""


async def rewrite(
    files: LogFiles, old: LogFile, change: Change, stamp: Stamp, rest: Rest = no_rest
) -> Rewritten:
    """Step 1. Raises DamageDetected, StorageError; the new file is garbage then."""
    made = await trio.to_thread.run_sync(files.begin_rewrite, old)
    rewritten = Rewritten(old, made)
    rewritten.wanted = made.entry.key_epoch != old.entry.key_epoch
    last = await trio.to_thread.run_sync(_last_index, old)
    groups = _groups(old)
    try:
        while size := await trio.to_thread.run_sync(
            _rewrite_next, rewritten, groups, change, stamp, last
        ):
            await rest(size)
        rewritten.closed = await trio.to_thread.run_sync(made.end_writing, FrameKind.FINAL)
    finally:
        if rewritten.closed is None or not rewritten.wanted:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(made.remove)
    return rewritten


def _groups(old: LogFile) -> Iterator[Sequence[Entry]]:
    """The entries of a file as they share frames: small frames are put together."""
    gathered: list[Entry] = []
    size = 0
    for frame in old.frames_before_index(old.entry.first_index):
        group = live_entries(old, frame)
        added = sum(map(layout.entry_bytes, group))
        if gathered and size + added > MAX_FRAME_PAYLOAD_BYTES:
            yield gathered
            gathered, size = [], 0
        gathered += group
        size += added
    if gathered:
        yield gathered


def _last_index(old: LogFile) -> int:
    """Of the last batch that is not void."""
    return max((entry.header.index for group in _groups(old) for entry in group), default=0)


def _rewrite_next(
    rewritten: Rewritten,
    groups: Iterator[Sequence[Entry]],
    change: Change,
    stamp: Stamp,
    last: int,
) -> int:
    """Writes a group, in one frame unless it has grown; how many bytes, 0 when none is left."""
    group = next(groups, None)
    if group is None:
        return 0
    changed = [change(entry, entry.header.index == last) for entry in group]
    rewritten.wanted |= any(new is not entry for new, entry in zip(changed, group, strict=True))
    fresh = rewritten.fresh
    before = fresh.writer.tail
    flush = fresh.seal(
        [
            (FrameKind.ENTRIES, len(part), layout.lay_out(part, stamp))
            for part in _frames_of(changed)
        ]
    )
    fresh.put(flush)
    fresh.synced(flush)
    fresh.note(changed, before)
    return flush.end - flush.position


def _frames_of(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Entries as frames may hold them: together within the bound, or one alone."""
    begun = size = 0
    for place, entry in enumerate(entries):
        added = layout.entry_bytes(entry)
        if place > begun and size + added > MAX_FRAME_PAYLOAD_BYTES:
            yield entries[begun:place]
            begun, size = place, 0
        size += added
    yield entries[begun:]
