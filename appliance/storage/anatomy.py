"""What a sealed file is made of, frame by frame: places, sizes, kinds, ranges, never a record."""

from collections.abc import Iterator

import msgspec

from appliance.crypto.sealed import NO_FRAME, FrameKind, FrameRef
from appliance.errors import ConfigurationError
from appliance.storage import layout
from appliance.storage.examination import Examination, ExaminedLog, SealedFile
from appliance.storage.journal import BEGINNING
from appliance.storage.manifest import FileEntry
from appliance.storage.segment import Frame, Tail
from appliance.types import EntryHeader


class FrameRow(msgspec.Struct, frozen=True):
    """One frame: where it stands and what it holds; ranges are empty where there are no entries."""

    ref: FrameRef
    position: int
    size_bytes: int
    kind: str
    count: int
    entries: str = ""
    indexes: str = ""
    terms: str = ""
    offsets: str = ""


class Anatomy(msgspec.Struct, frozen=True):
    """One file: what its manifest says of it, and every frame that can be read."""

    name: str
    state: str
    size_bytes: int
    frames: tuple[FrameRow, ...]
    readable_bytes: int


async def anatomy(examination: Examination, wanted: str) -> Anatomy:
    """Of a data file or a journal, named by its UUID or by its path in the directory.

    Raises ConfigurationError if there is no such file, DamageDetected, KeyProviderError.
    """
    file = wanted.removesuffix("/").rpartition("/")[2].removeprefix("node-")
    for name, journal in examination.journals():
        if file == str(journal):
            return _of(examination.journal(name, journal), BEGINNING, "a journal")
    for partition in examination.partitions():
        if file in examination.disk.names(str(partition)):
            log = await examination.log(partition)
            for entry in log.manifest.files:
                if file == str(entry.file):
                    return _of_data(examination, log, entry)
    raise ConfigurationError(f"{wanted}: no journal and no manifest has such a file")


async def files(examination: Examination) -> list[tuple[str, str]]:
    """(name, what it is) of every file that can be looked into."""
    found = [(name, "journal") for name, _ in examination.journals()]
    for partition in examination.partitions():
        log = await examination.log(partition)
        found += [(f"{partition}/{entry.file}", _state(entry)) for entry in log.manifest.files]
    return found


def _state(entry: FileEntry) -> str:
    state = "active" if entry.closed is None else f"closed at {entry.closed.length} bytes"
    return f"{state}, from index {entry.first_index}, offset {entry.first_offset}"


def _of_data(examination: Examination, log: ExaminedLog, entry: FileEntry) -> Anatomy:
    begin = Tail(0, entry.first_tag, NO_FRAME, 0)
    state = f"{_state(entry)}, key epoch {entry.key_epoch}"
    return _of(examination.data_file(log, entry), begin, state)


def _of(sealed: SealedFile, begin: Tail, state: str) -> Anatomy:
    try:
        size = sealed.file.size()
        rows = tuple(_row(frame) for frame in sealed.reader.scan(begin, size))
        return Anatomy(sealed.name, state, size, rows, sealed.reader.tail.position)
    finally:
        sealed.file.close()


def _row(frame: Frame) -> FrameRow:
    kind, count = frame.preamble.kind, frame.preamble.count
    row = FrameRow(frame.ref, frame.position, frame.end - frame.position, kind.name.lower(), count)
    if kind is FrameKind.VOID:
        index, offset = layout.read_void(frame.content)
        return msgspec.structs.replace(row, indexes=f"from {index}", offsets=f"from {offset}")
    if kind is not FrameKind.ENTRIES:
        return row
    headers = layout.read_headers(frame.content, count)
    return msgspec.structs.replace(
        row,
        entries=", ".join(_kinds(headers)),
        indexes=_range(headers[0].index, headers[-1].index),
        terms=_range(headers[0].term, headers[-1].term),
        offsets=_range(headers[0].base_offset, headers[-1].next_offset - 1),
    )


def _kinds(headers: list[EntryHeader]) -> Iterator[str]:
    counts: dict[str, int] = {}
    for header in headers:
        name = header.kind.name.lower().replace("_", "-")
        counts[name] = counts.get(name, 0) + 1
    return (f"{count} {name}" for name, count in counts.items())


def _range(first: int, last: int) -> str:
    if last < first:
        return ""
    return str(first) if first == last else f"{first} to {last}"
