"""Checks every frame of a directory's files, of a stopped node or a running one.

1. The identity and the keys open, by seal and by commitment.
2. Every journal is whole, from its first frame to its end; the node journal gives the marks.
3. Every manifest opens, and is not older than the journal knows, nor the journal than it.
4. The snapshot that a manifest names opens; every file that it names is there, each frame of it
   verifies and follows the one before, entries follow one another, and a closed file ends as the
   manifest says.
5. What cannot be read at an end is damage if a mark or a later frame proves it durable; otherwise
   it is a tail: torn by a crash, or being written now.

Damage in a log is reported if a second look, which reads everything anew, finds it again: a running
node may have changed the files in between.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from uuid import UUID

import msgspec
import trio

from appliance.crypto.sealed import NO_FRAME, FrameKind, FrameRef, read_frame_header
from appliance.errors import DamageDetected, KeyProviderError, StorageError
from appliance.limits import MIB
from appliance.storage import layout
from appliance.storage.disk import BlockFile
from appliance.storage.examination import Examination, ExaminedLog, SealedFile
from appliance.storage.journal import BEGINNING
from appliance.storage.manifest import FileEntry
from appliance.storage.marks import MarkRecord, Remembered
from appliance.storage.segment import Frame, SegmentReader, Tail
from appliance.storage.snapshot import snapshot_name
from appliance.types import Index, Offset, PartitionId

_LOOKS = 3
OnBytes = Callable[[int], None]


class Weight(StrEnum):
    """What a finding means."""

    DAMAGE = "damage"
    """Something that was durable is not what it was."""
    TAIL = "tail"
    """The end of a file, torn or being written; nothing known to be acknowledged is in it."""
    NOTE = "note"
    """Worth knowing, no harm."""


class Finding(msgspec.Struct, frozen=True):
    """What was found, and where."""

    weight: Weight
    file: str
    cause: str
    frame: FrameRef | None = None


class Report(msgspec.Struct, frozen=True):
    """What a verification came to."""

    files: int
    frames: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def damaged(self) -> bool:
        """Whether anything that was durable is not what it was."""
        return any(finding.weight is Weight.DAMAGE for finding in self.findings)


class Verification:
    """One pass over a directory."""

    def __init__(self, examination: Examination, on_bytes: OnBytes) -> None:
        """`on_bytes` is told, from a thread, how many more bytes were read."""
        self._examination = examination
        self._on_bytes = on_bytes
        self._findings: list[Finding] = []
        self._files = self._frames = self._bytes = 0

    async def run(self) -> Report:
        """Looks at everything. Raises StorageError, KeyProviderError only if nothing opens."""
        remembered = await trio.to_thread.run_sync(self._check_journals)
        for partition in self._examination.partitions():
            self._findings += await self._check_log(partition, remembered)
        return Report(self._files, self._frames, self._bytes, tuple(self._findings))

    # --- journals ------------------------------------------------------------------------------

    def _check_journals(self) -> Remembered:
        """The node journal first: it has the marks of the others."""
        of_node, *others = self._examination.journals()
        self._findings += self._check_journal(*of_node, 0)
        remembered = self._remembered()
        try:
            self._examination.private.check(remembered.sequence)
        except DamageDetected as error:
            self._findings.append(Finding(Weight.DAMAGE, of_node[0], str(error)))
        for name, file in others:
            mark = remembered.marks.get(PartitionId(file))
            self._findings += self._check_journal(name, file, 0 if mark is None else mark.length)
        return remembered

    def _check_journal(self, name: str, file: UUID, marked: int) -> list[Finding]:
        try:
            sealed = self._examination.journal(name, file)
        except StorageError as error:
            return [Finding(Weight.DAMAGE, name, str(error))]
        try:
            return list(self._check_records(sealed, marked))
        finally:
            sealed.file.close()

    def _check_records(self, sealed: SealedFile, marked: int) -> Iterator[Finding]:
        reader, end = sealed.reader, sealed.file.size()
        self._files += 1
        for _ in self._counted(reader, BEGINNING, end):
            pass  # counting and verifying is what this is for
        if reader.tail.frame == NO_FRAME or reader.frames_seem_to_follow(end):
            yield _damage(sealed, end, "and what stands there had been durable")
        else:
            yield from _tail(sealed, end, marked)

    def _remembered(self) -> Remembered:
        """The node journal's marks, as far as it can be read; what cannot was found before."""
        try:
            return self._examination.remembered()
        except StorageError:
            return Remembered()

    # --- logs ----------------------------------------------------------------------------------

    async def _check_log(self, partition: PartitionId, remembered: Remembered) -> list[Finding]:
        found: list[Finding] = []
        for look in range(_LOOKS):
            try:
                log = await self._examination.log(partition)
            except (DamageDetected, KeyProviderError) as error:
                name = f"{partition}/manifest"
                found = [Finding(Weight.DAMAGE, name, str(error))]
                if "manifest" not in self._examination.disk.names(str(partition)):
                    return [Finding(Weight.NOTE, name, "no log: making or removing one was broken")]
                continue
            counted = self._files, self._frames, self._bytes
            found = await trio.to_thread.run_sync(self._look_at, log, remembered)
            if look > 0 or not any(finding.weight is Weight.DAMAGE for finding in found):
                return found
            remembered = await trio.to_thread.run_sync(self._remembered)
            self._files, self._frames, self._bytes = counted
        return found

    def _look_at(self, log: ExaminedLog, remembered: Remembered) -> list[Finding]:
        mark = remembered.marks.get(log.partition)
        found = list(self._check_sequences(log, remembered, mark))
        follower = _Follower(log.manifest.files[0].first_index, log.manifest.files[0].first_offset)
        for entry in log.manifest.files:
            found += self._check_file(log, entry, follower, mark)
        found += self._check_snapshot(log)
        found += self._check_names(log)
        return found

    def _check_snapshot(self, log: ExaminedLog) -> Iterator[Finding]:
        named = log.manifest.snapshot
        if named is msgspec.UNSET:
            return
        self._files += 1
        try:
            self._examination.check_snapshot(log, named)
        except StorageError as error:
            yield Finding(Weight.DAMAGE, snapshot_name(log.partition, named.file), str(error))

    @staticmethod
    def _check_sequences(
        log: ExaminedLog, remembered: Remembered, mark: MarkRecord | None
    ) -> Iterator[Finding]:
        name = f"{log.partition}/manifest"
        if mark is not None and log.manifest.sequence < mark.manifest:
            yield Finding(
                Weight.DAMAGE, name, "an older manifest: the node journal knows a later one"
            )
        if log.manifest.journal > remembered.sequence:
            yield Finding(
                Weight.DAMAGE, name, "an older node journal: this manifest knows a later one"
            )

    def _check_file(
        self, log: ExaminedLog, entry: FileEntry, follower: "_Follower", mark: MarkRecord | None
    ) -> list[Finding]:
        name = f"{log.partition}/{entry.file}"
        try:
            sealed = self._examination.data_file(log, entry)
        except StorageError as error:
            return [Finding(Weight.DAMAGE, name, str(error))]
        self._files += 1
        try:
            self._examination.check_index(log, entry)
            return list(self._check_frames(sealed, entry, follower, mark))
        except DamageDetected as error:
            cause = f"{error}; the index is made anew when it is needed"
            index = Finding(Weight.DAMAGE, f"{name}.index", cause)
            return [index, *self._check_frames(sealed, entry, follower, mark)]
        finally:
            sealed.file.close()

    def _check_frames(
        self, sealed: SealedFile, entry: FileEntry, follower: "_Follower", mark: MarkRecord | None
    ) -> Iterator[Finding]:
        reader, size = sealed.reader, sealed.file.size()
        closed = entry.closed
        end = size if closed is None else min(size, closed.length)
        marked = mark.length if mark is not None and mark.file == entry.file else 0
        begin = Tail(0, entry.first_tag, NO_FRAME, 0)
        for frame in self._counted(reader, begin, end):
            try:
                follower.take(frame, exact=closed is None)
            except DamageDetected as error:
                yield Finding(Weight.DAMAGE, sealed.name, str(error), frame.ref)
            if frame.end == marked and mark is not None and frame.ref != mark.frame:
                cause = "not the frame that the node journal has marked here"
                yield Finding(Weight.DAMAGE, sealed.name, cause, frame.ref)
        if closed is None:
            yield from _tail(sealed, end, marked)
        elif (reader.tail.position, reader.tail.tag) != (closed.length, closed.tag):
            yield _damage(sealed, closed.length, "and the manifest says that it was durable")
        elif _first_not_zero(sealed.file, closed.length, size) is not None:
            yield Finding(Weight.DAMAGE, sealed.name, "bytes stand after the final frame")

    def _counted(self, reader: SegmentReader, begin: Tail, end: int) -> Iterator[Frame]:
        for frame in reader.scan(begin, end):
            self._frames += 1
            self._bytes += frame.end - frame.position
            self._on_bytes(frame.end - frame.position)
            yield frame

    def _check_names(self, log: ExaminedLog) -> Iterator[Finding]:
        named = ("manifest", *(str(entry.file) for entry in log.manifest.files))
        whole = {f"{name}{end}" for name in named for end in ("", ".index", ".new")}
        if log.manifest.snapshot is not msgspec.UNSET:
            whole.add(snapshot_name(log.partition, log.manifest.snapshot.file).rpartition("/")[2])
        quarantined = {str(entry.file) for entry in log.manifest.set_aside}
        for name in self._examination.disk.names(str(log.partition)):
            file, _, suffix = name.partition(".")
            if suffix == "torn":
                cause = "what was cut from a torn end; never read again"
            elif name in whole:
                continue
            elif file in quarantined:
                cause = "damaged, or behind what is: kept, and never read again"
            else:
                cause = "no manifest names it; it is never read"
            yield Finding(Weight.NOTE, f"{log.partition}/{name}", cause)


class _Follower:
    """Where the entries of a log have come to."""

    def __init__(self, first_index: Index, first_offset: Offset) -> None:
        self._last = Index(first_index - 1)
        self._end_offset = first_offset

    def take(self, frame: Frame, *, exact: bool) -> None:
        """Raises DamageDetected if a frame's entries do not follow; a closed file may have gaps."""
        if frame.preamble.kind is FrameKind.VOID:
            index, offset = layout.read_void(frame.content)
            self._last, self._end_offset = Index(index - 1), offset
        elif frame.preamble.kind is FrameKind.ENTRIES:
            for header in layout.read_headers(frame.content, frame.preamble.count):
                ahead = header.index - self._last, header.base_offset - self._end_offset
                if exact and ahead != (1, 0):
                    raise DamageDetected("entries do not follow one another")
                self._last, self._end_offset = header.index, header.next_offset


def _tail(sealed: SealedFile, end: int, durable_end: int) -> Iterator[Finding]:
    """What follows the last frame that verifies, where a file may still grow."""
    reader = sealed.reader
    try:
        reader.judge_tail(end, durable_end)
    except DamageDetected:
        proof = (
            "a mark in the node journal" if durable_end > reader.tail.position else "a later frame"
        )
        yield _damage(sealed, end, f"and {proof} proves that it was durable")
        return
    start = _first_not_zero(sealed.file, reader.tail.position, end)
    if start is not None:
        cause = (
            f"bytes after position {reader.tail.position} are no whole frame: torn by a crash, or "
            "being written; no mark covers them"
        )
        yield Finding(Weight.TAIL, sealed.name, cause, _next(reader.tail))


def _damage(sealed: SealedFile, end: int, proof: str) -> Finding:
    tail = sealed.reader.tail
    cause = f"{_cause(sealed.file, tail, end)}, {proof}"
    return Finding(Weight.DAMAGE, sealed.name, cause, _next(tail))


def _next(tail: Tail) -> FrameRef:
    """The frame that cannot be read."""
    if tail.frame == NO_FRAME:
        return FrameRef(0, 0)
    return FrameRef(tail.frame.extent, tail.frame.number + 1)


def _cause(file: BlockFile, tail: Tail, end: int) -> str:
    """Why the frame after `tail` cannot be read, as far as the bytes tell."""
    head = bytearray(64)
    filled = file.read_into(tail.position, memoryview(head))
    if tail.position >= min(file.size(), end):
        return "the file is cut short"
    if not any(head[:filled]):
        return "there are zeros where a frame must be"
    header = read_frame_header(head[:filled], 0)
    if header is None:
        return "no frame of this format begins here"
    if tail.position + header.frame_bytes > file.size():
        return "the frame reaches beyond the end of the file"
    if header.number != tail.frame.number + 1:
        return f"frame {header.number} of an extent stands here: left out, repeated or reordered"
    return "the frame was changed, or was sealed for another place or under another key"


def _first_not_zero(file: BlockFile, start: int, end: int) -> int | None:
    """The position of the first byte from `start` on that is not zero."""
    at = start
    while at < end:
        window = bytearray(min(MIB, end - at))
        filled = file.read_into(at, memoryview(window))
        rest = window[:filled].lstrip(b"\x00")
        if rest:
            return at + filled - len(rest)
        at += max(1, filled)
    return None
