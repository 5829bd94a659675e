"""What reading a data file takes, kept for few files at a time: the file, its keys, its index.

A closed file costs its entry in the manifest until somebody reads it. Its index comes from the
sealed index file beside it, which is believed only if its seal is right and it names the very end
that the manifest does; otherwise the file itself is read from end to end and the index made anew.

    index = version 1 | length of the file 8 | its last tag 16 | extents 4
            | (number 4 | salt 32)* | point*
"""

import struct
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from uuid import UUID

from appliance.crypto.aead import TAG_BYTES
from appliance.crypto.keyring import SALT_BYTES, file_key
from appliance.crypto.sealed import ExtentHeader, ExtentReader, FrameKind, Place, Purpose
from appliance.errors import DamageDetected, StorageFull
from appliance.limits import INDEX_CACHE_BYTES, MAX_DOCUMENT_BYTES
from appliance.ports import Entropy, SecretKey
from appliance.storage import layout
from appliance.storage.buffers import FlushBuffers
from appliance.storage.disk import BlockFile, Disk
from appliance.storage.document import open_document, seal_document
from appliance.storage.index import NO_TIME, POINT_BYTES, SparseIndex
from appliance.storage.manifest import ClosedEnd, FileEntry
from appliance.storage.segment import SegmentReader, Tail
from appliance.types import ClusterId, PartitionId

_HEAD: Final = struct.Struct(f">BQ{TAG_BYTES}sI")
_EXTENT: Final = struct.Struct(f">I{SALT_BYTES}s")
_VERSION: Final = 1
_OBJECTS_BYTES: Final = 1024
"""What one of these costs besides its points."""


class Contents:
    """An open data file, the openers of its extents, and its index."""

    __slots__ = ("extents", "file", "index", "key", "place")

    def __init__(
        self,
        file: BlockFile,
        place: Place,
        key: SecretKey,
        index: SparseIndex,
        extents: dict[int, ExtentReader] | None = None,
    ) -> None:
        """`key` is the file key of `place`."""
        self.file = file
        self.place = place
        self.key = key
        self.index = index
        self.extents = {} if extents is None else extents

    @property
    def size_bytes(self) -> int:
        """About what it takes of memory."""
        return len(self.index) * POINT_BYTES + _OBJECTS_BYTES

    def close(self) -> None:
        """Closes the file, then wipes its key: who reads it now is told that it is closed."""
        self.file.close()
        self.key.wipe()
        self.extents.clear()

    def reader(self) -> SegmentReader:
        """A reader of its own place in the file."""
        return SegmentReader(self.file, place=self.place, key=self.key, extents=self.extents)


class ContentsCache:
    """What all logs of a node share: contents of closed files read lately, and flush buffers."""

    def __init__(self, limit_bytes: int = INDEX_CACHE_BYTES) -> None:
        """Holds contents of about `limit_bytes`."""
        self.buffers = FlushBuffers()
        self._limit = limit_bytes
        self._guard = threading.Lock()
        self._held: OrderedDict[UUID, Contents] = OrderedDict()
        self._size = 0

    def get(self, file: UUID, load: Callable[[], Contents]) -> Contents:
        """What is held, or what `load` gives."""
        with self._guard:
            if file in self._held:
                self._held.move_to_end(file)
                return self._held[file]
        loaded = load()
        with self._guard:
            held = self._held.setdefault(file, loaded)
            self._held.move_to_end(file)
            self._size += held.size_bytes if held is loaded else 0
            while self._size > self._limit and len(self._held) > 1:
                self._size -= self._held.popitem(last=False)[1].size_bytes
        return held

    def forget(self, file: UUID) -> None:
        """Lets go of a file: who reads it now is told that it is closed."""
        with self._guard:
            held = self._held.pop(file, None)
            if held is not None:
                self._size -= held.size_bytes
                held.close()


class FileHome:
    """Where the data files of one log lie, and what they are sealed with."""

    __slots__ = ("_cache", "_cluster", "_disk", "_partition", "_rebuilding", "buffers",
                 "data_keys", "entropy")  # fmt: skip

    def __init__(
        self,
        disk: Disk,
        cluster: ClusterId,
        partition: PartitionId,
        *,
        data_keys: dict[int, SecretKey],
        entropy: Entropy,
        cache: ContentsCache,
    ) -> None:
        """`data_keys` has the key of each epoch; `cache` is the node's."""
        self._disk = disk
        self._cluster = cluster
        self._partition = partition
        self._cache = cache
        self._rebuilding = threading.Lock()
        self.buffers = cache.buffers
        self.data_keys = data_keys
        self.entropy = entropy

    def created(self, entry: FileEntry, beginning: Tail) -> Contents:
        """A new empty file, whose name is durable."""
        return self._begun(entry, self._disk.create(self._name(entry.file)), beginning)

    def opened(self, entry: FileEntry, beginning: Tail) -> Contents:
        """A file that is to be scanned from its beginning."""
        return self._begun(entry, self._disk.open(self._name(entry.file)), beginning)

    def _begun(self, entry: FileEntry, file: BlockFile, beginning: Tail) -> Contents:
        index = SparseIndex.beginning_at(entry.first_index, entry.first_offset, beginning)
        return Contents(file, *self._sealing(entry, Purpose.LOG), index)

    def closed(self, entry: FileEntry, closed: ClosedEnd, beginning: Tail) -> Contents:
        """A closed file with its index. Blocks. Raises DamageDetected."""
        return self._cache.get(entry.file, lambda: self._load(entry, closed, beginning))

    def keep(self, entry: FileEntry, contents: Contents) -> None:
        """Keeps what was open of a file that has just been closed."""
        self._cache.get(entry.file, lambda: contents)

    def _load(self, entry: FileEntry, closed: ClosedEnd, beginning: Tail) -> Contents:
        contents = self.opened(entry, beginning)
        document = self._disk.read(f"{self._name(entry.file)}.index", MAX_DOCUMENT_BYTES)
        if document is not None:
            place, key = self._sealing(entry, Purpose.INDEX)
            try:
                _fill(contents, open_document(document, place=place, key=key), closed)
            except DamageDetected:
                contents = self.opened(entry, beginning)
            else:
                return contents
        with self._rebuilding:
            _rebuild(contents, closed, beginning)
            self.save_index(entry, contents, closed)
        return contents

    def save_index(self, entry: FileEntry, contents: Contents, closed: ClosedEnd) -> None:
        """Puts the index of a closed file beside it; without space, it is made when needed."""
        place, key = self._sealing(entry, Purpose.INDEX)
        document = seal_document(
            _content(contents, closed), clear=b"", place=place, key=key, entropy=self.entropy
        )
        try:
            self._disk.replace(f"{self._name(entry.file)}.index", document)
        except StorageFull:
            return

    def check_end(self, entry: FileEntry, closed: ClosedEnd) -> None:
        """Raises DamageDetected unless a closed file ends as its manifest says."""
        file = self._disk.open(self._name(entry.file))
        tag = bytearray(TAG_BYTES)
        try:
            filled = file.read_into(closed.length - TAG_BYTES, memoryview(tag))
        finally:
            file.close()
        if filled != TAG_BYTES or bytes(tag) != closed.tag:
            raise DamageDetected(f"file {entry.file} does not end as its manifest says")

    def removed(self, entry: FileEntry) -> None:
        """Removes a file and its index."""
        self.forget(entry)
        self._disk.remove(self._name(entry.file))
        self._disk.remove(f"{self._name(entry.file)}.index")

    def remove_torn(self) -> None:
        """Removes what was ever cut from the ends of this log's files."""
        for name in self._disk.names(str(self._partition)):
            if name.endswith(".torn"):
                self._disk.remove(f"{self._partition}/{name}")

    def forget(self, entry: FileEntry) -> None:
        """Lets go of what is held of a closed file."""
        self._cache.forget(entry.file)

    def _sealing(self, entry: FileEntry, purpose: Purpose) -> tuple[Place, SecretKey]:
        place = Place(purpose, self._cluster, self._partition, entry.file)
        return place, file_key(self.data_keys[entry.key_epoch], place.encoded())

    def _name(self, file: UUID) -> str:
        return f"{self._partition}/{file}"


def _content(contents: Contents, closed: ClosedEnd) -> bytes:
    headers = [reader.header for reader in tuple(contents.extents.values())]
    return b"".join(
        (
            _HEAD.pack(_VERSION, closed.length, closed.tag, len(headers)),
            *(_EXTENT.pack(header.number, header.salt) for header in headers),
            contents.index.encoded(),
        )
    )


def _fill(contents: Contents, content: bytes, closed: ClosedEnd) -> None:
    """Takes in an index that was unsealed; raises DamageDetected if it is of another file's end."""
    version, length, tag, count = _HEAD.unpack_from(content)
    points_at = _HEAD.size + count * _EXTENT.size
    points = bytearray(content[points_at:])
    if (version, length, tag) != (_VERSION, closed.length, closed.tag):
        raise DamageDetected("an index is of another end of its file")
    if not points or len(points) % POINT_BYTES:
        raise DamageDetected("an index is cut short")
    for at in range(_HEAD.size, points_at, _EXTENT.size):
        header = ExtentHeader(*_EXTENT.unpack_from(content, at))
        contents.extents[header.number] = ExtentReader(
            place=contents.place, key=contents.key, header=header
        )
    contents.index = SparseIndex(points)


def _rebuild(contents: Contents, closed: ClosedEnd, beginning: Tail) -> None:
    """Reads a closed file from end to end; raises DamageDetected if it is not what it was."""
    reader = contents.reader()
    before, max_time = beginning, NO_TIME
    for frame in reader.scan(before, closed.length):
        if frame.preamble.kind is FrameKind.ENTRIES:
            headers = layout.read_headers(frame.content, frame.preamble.count)
            contents.index.note(headers[0].index, headers[0].base_offset, before, max_time)
            max_time = max(max_time, layout.max_time_ms(layout.entries_of(frame.content, headers)))
        elif frame.preamble.kind is FrameKind.VOID:
            contents.index.void_from(layout.read_void(frame.content)[0])
        before = reader.tail
    if (reader.tail.position, reader.tail.tag) != (closed.length, closed.tag):
        raise reader.unreadable()
