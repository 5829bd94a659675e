"""Opens a log's files after any stop: finds its end, cuts a torn tail, names damage.

1. Closed files must be as long, and end in the tag, as the manifest says.
2. The active file is read from its beginning, which also makes its index.
3. What cannot be read there is damage if the journal's mark or a later frame proves that it was
   durable; anything else is a torn tail, kept aside and cut.
4. Writing goes on in a new extent.
"""

import msgspec

from appliance.crypto.aead import TAG_BYTES
from appliance.crypto.sealed import FrameKind
from appliance.errors import DamageDetected
from appliance.ports import Entropy
from appliance.storage import layout
from appliance.storage.blockfile import Disk
from appliance.storage.files import LogFile, LogFiles
from appliance.storage.segment import keep_aside
from appliance.types import Index, Offset, Position, Term


class Recovered(msgspec.Struct, frozen=True):
    """Where a log ends."""

    last: Position
    end_offset: Offset


def recover(
    files: LogFiles, disk: Disk, torn_name: str, *, durable_end: int, entropy: Entropy
) -> Recovered:
    """Verifies and makes ready for writing. Blocks. Raises DamageDetected, StorageError.

    Args:
        files: the log's files, opened.
        disk: where a torn tail is kept, as `torn_name`.
        torn_name: see `disk`.
        durable_end: the length of the active file that the node's journal attests, or 0.
        entropy: for the salts and nonces of what is written from here on.
    """
    term = Term(0)
    for file in files:
        if file is not files.active:
            _check_closed(file)
    active = files.active
    index, end_offset = active.entry.first_index, active.entry.first_offset
    last = Index(index - 1)
    reader = active.reader()
    end = active.file.size()
    before = active.beginning
    for frame in reader.scan(before, end):
        if frame.preamble.kind is FrameKind.ENTRIES:
            headers = layout.read_headers(frame.content, frame.preamble.count)
            for header in headers:
                if header.index != last + 1 or header.base_offset != end_offset:
                    raise DamageDetected("entries do not follow one another")
                last, term, end_offset = header.index, header.term, header.next_offset
            active.index.note(headers[0].index, headers[0].base_offset, before)
        before = reader.tail
    reader.judge_tail(end, durable_end)
    keep_aside(active.file, reader.tail.position, lambda torn: disk.replace(torn_name, torn))
    active.begin_writing(reader.tail, entropy)
    if last < index and index > 1:
        term = _last_term(files)
    return Recovered(Position(term, last), end_offset)


def _check_closed(file: LogFile) -> None:
    closed = file.entry.closed
    if closed is None:
        raise DamageDetected(f"file {file.entry.file} is followed by another and is not closed")
    tag = bytearray(TAG_BYTES)
    filled = file.file.read_into(closed.length - TAG_BYTES, memoryview(tag))
    if filled != TAG_BYTES or bytes(tag) != closed.tag:
        raise DamageDetected(f"file {file.entry.file} does not end as its manifest says")


def _last_term(files: LogFiles) -> Term:
    """The term of the last entry before the active file."""
    *_, before, _ = files
    term = Term(0)
    for frame in before.frames_before_index(Index(files.active.entry.first_index - 1)):
        if frame.preamble.kind is FrameKind.ENTRIES:
            term = layout.read_headers(frame.content, frame.preamble.count)[-1].term
    return term
