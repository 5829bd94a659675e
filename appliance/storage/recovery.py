"""Opens a log's files after any stop: finds its end, cuts a torn tail, names damage.

1. Closed files must be as long, and end in the tag, as the manifest says.
2. The active file is read from its beginning, which also makes its index.
3. What cannot be read there is damage if the journal's mark or a later frame proves that it was
   durable; anything else is a torn tail, kept aside and cut. Where the mark lies, the log must be
   what the mark says, frame and entry.
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
from appliance.storage.marks import MarkRecord
from appliance.storage.segment import Frame, Tail, keep_aside
from appliance.types import EntryHeader, Index, Offset, Position


class Recovered(msgspec.Struct, frozen=True):
    """Where a log ends, and which term each of its entries is of."""

    last: Position
    end_offset: Offset
    epochs: EpochTable


def recover(files: LogFiles, disk: Disk, torn_name: str, *, mark: MarkRecord | None) -> Recovered:
    """Verifies and makes ready for writing. Blocks. Raises DamageDetected, StorageError.

    Args:
        files: the log's files, opened.
        disk: where a torn tail is kept, as `torn_name`.
        torn_name: see `disk`.
        mark: how far the node's journal attests that the log is durable.
    """
    durable_end = 0 if mark is None else _durable_end(files, mark)
    for file in files:
        if file is not files.active:
            file.check_end()
    active = files.active
    reader = active.reader()
    end = active.file.written_end(0)
    replay = _Replay(active, EpochTable(files.manifest.epoch_table))
    before, passed = active.beginning, 0
    for frame in reader.scan(before, end):
        replay.take(frame, before)
        before = reader.tail
        if mark is not None and before.position >= durable_end > passed:
            replay.check(mark, before)
        passed = before.position
    reader.judge_tail(end, durable_end)
    keep_aside(active.file, reader.tail.position, lambda torn: disk.replace(torn_name, torn))
    reader.settle(durable_end)
    active.begin_writing(reader.tail)
    return replay.found()


def _durable_end(files: LogFiles, mark: MarkRecord) -> int:
    """How much of the active file is durable by a mark; raises DamageDetected if they disagree.

    A file that the manifest does not name any more was let go of after the mark.
    """
    if files.manifest.sequence < mark.manifest:
        raise DamageDetected(
            f"the manifest of partition {mark.partition} was rolled back: the node journal knows "
            "a later one"
        )
    if files.active.entry.file == mark.file:
        return mark.length
    for file in files:
        closed = file.entry.closed
        if file.entry.file == mark.file and closed is not None and closed.length < mark.length:
            raise DamageDetected(f"file {mark.file} is closed before what the journal has marked")
    return 0


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

    def check(self, mark: MarkRecord, at: Tail) -> None:
        """Raises DamageDetected unless the log is at `at` what a mark says that it was there."""
        if (at.position, at.frame) != (
            mark.length,
            mark.frame,
        ) or self._position() != mark.position:
            raise DamageDetected(
                f"file {mark.file}: at {mark.length} bytes it is not what the journal has marked"
            )

    def found(self) -> Recovered:
        """What it came to."""
        return Recovered(self._position(), self._end_offset, self._epochs)

    def _position(self) -> Position:
        term = self._epochs.term_at(self._last)
        if term is None:
            raise DamageDetected("the manifest does not know the term of the log's last entry")
        return Position(term, self._last)
