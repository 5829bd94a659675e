"""Opens a log's files after any stop: finds its end, cuts a torn tail, names damage.

1. Closed files must be as long, and end in the tag, as the manifest says.
2. The active file is read from its beginning, which also makes its index.
3. What cannot be read there is damage if the journal's mark or a later frame proves that it was
   durable; anything else is a torn tail, kept aside and cut.
4. What remains and no mark attests is made durable: after a kill it may be in memory only.
5. Writing goes on in a new extent.
"""

import msgspec

from appliance.crypto.sealed import FrameKind
from appliance.errors import DamageDetected
from appliance.storage import layout
from appliance.storage.disk import Disk
from appliance.storage.epochs import EpochTable
from appliance.storage.files import LogFiles
from appliance.storage.logfile import LogFile
from appliance.storage.segment import Frame, Tail, keep_aside
from appliance.types import EntryHeader, Index, Offset, Position


class Recovered(msgspec.Struct, frozen=True):
    """Where a log ends, and which term each of its entries is of."""

    last: Position
    end_offset: Offset
    epochs: EpochTable


def recover(files: LogFiles, disk: Disk, torn_name: str, *, durable_end: int) -> Recovered:
    """Verifies and makes ready for writing. Blocks. Raises DamageDetected, StorageError.

    Args:
        files: the log's files, opened.
        disk: where a torn tail is kept, as `torn_name`.
        torn_name: see `disk`.
        durable_end: the length of the active file that the node's journal attests, or 0.
    """
    for file in files:
        if file is not files.active:
            file.check_end()
    active = files.active
    reader = active.reader()
    end = active.file.size()
    replay = _Replay(active, EpochTable(files.manifest.epoch_table))
    before = active.beginning
    for frame in reader.scan(before, end):
        replay.take(frame, before)
        before = reader.tail
    reader.judge_tail(end, durable_end)
    keep_aside(active.file, reader.tail.position, lambda torn: disk.replace(torn_name, torn))
    reader.settle(durable_end)
    active.begin_writing(reader.tail)
    return replay.found()


class _Replay:
    """Follows the active file's frames: entries go on, voids go back."""

    def __init__(self, active: LogFile, epochs: EpochTable) -> None:
        self._active = active
        self._epochs = epochs
        self._last = Index(active.entry.first_index - 1)
        self._end_offset = active.entry.first_offset

    def take(self, frame: Frame, before: Tail) -> None:
        """Takes the next frame, which follows `before`."""
        if frame.preamble.kind is FrameKind.ENTRIES:
            headers = layout.read_headers(frame.content, frame.preamble.count)
            for header in headers:
                self._follow(header)
            self._active.note(layout.entries_of(frame.content, headers), before)
        elif frame.preamble.kind is FrameKind.VOID:
            index, offset = layout.read_void(frame.content)
            if not self._active.entry.first_index <= index <= self._last + 1:
                raise DamageDetected("a void frame takes back what is not there")
            self._active.note_void(frame.position, index)
            self._epochs.void_from(index)
            self._last, self._end_offset = Index(index - 1), offset

    def _follow(self, header: EntryHeader) -> None:
        if header.index != self._last + 1 or header.base_offset != self._end_offset:
            raise DamageDetected("entries do not follow one another")
        self._epochs.note(header.term, header.index, self._end_offset)
        self._last, self._end_offset = header.index, header.next_offset

    def found(self) -> Recovered:
        """What it came to."""
        term = self._epochs.term_at(self._last)
        if term is None:
            raise DamageDetected("the manifest does not know the term of the log's last entry")
        return Recovered(Position(term, self._last), self._end_offset, self._epochs)
