"""A disk whose writes stay in this process' memory until they are synced: kill -9 is a power cut.

What is written is read back at once, as from a page cache, and reaches the file when the file, or
the whole disk, is synced. Some writes are carried out early and in part, sector by sector, as an
operating system does it. Reserved space, names and whole documents are durable when the call
returns, as `storage.disk.Disk` promises.

Where the file `forget` stands beside the directory, syncs do nothing and say that they did: a disk
that lies, for the canary.
"""

import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import StorageError
from appliance.storage.blockfile import PosixDisk
from appliance.storage.disk import BlockFile
from appliance.types import Buffer

SECTOR = 512
EARLY = 0.3
"""Share of writes that are carried out in part before their sync."""
FORGET = "forget"


class Pages:
    """What one file holds in memory, whoever has it open."""

    def __init__(self, path: Path) -> None:
        self.guard = threading.Lock()
        self.writes: list[tuple[int, bytes]] = []
        self._path = path

    def hold(self, position: int, content: bytes) -> None:
        with self.guard:
            self.writes.append((position, content))
            if random.random() < EARLY:
                starts = range(0, len(content), SECTOR)
                self._carry_out(
                    [
                        (position + start, content[start : start + SECTOR])
                        for start in starts
                        if random.random() < 0.5
                    ]
                )

    def settle(self) -> None:
        """Makes everything durable."""
        with self.guard:
            if self.writes:
                self._carry_out(self.writes)
                self.writes.clear()

    def _carry_out(self, writes: Sequence[tuple[int, bytes]]) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                for position, content in writes:
                    os.pwrite(descriptor, content, position)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(f"cannot write: {error.strerror}") from None

    def lay_over(self, position: int, into: memoryview, count: int) -> int:
        """Puts what is held over `count` bytes that the file gave; how many there are then."""
        with self.guard:
            for start, content in self.writes:
                first = max(start, position)
                last = min(start + len(content), position + len(into))
                if first < last:
                    if first - position > count:
                        into[count : first - position] = bytes(first - position - count)
                    into[first - position : last - position] = content[first - start : last - start]
                    count = max(count, last - position)
        return count


class HeldFile:
    """See `storage.disk.BlockFile`."""

    def __init__(self, disk: "HeldDisk", inner: BlockFile, pages: Pages) -> None:
        self._disk = disk
        self._inner = inner
        self._pages = pages

    def size(self) -> int:
        return self._inner.size()

    def reserve(self, end: int) -> None:
        self._inner.reserve(end)

    def write(self, position: int, data: Sequence[Buffer]) -> None:
        self._pages.hold(position, b"".join(data))

    def sync(self) -> None:
        if not self._disk.forgets:
            self._pages.settle()

    def read_into(self, position: int, into: memoryview) -> int:
        return self._pages.lay_over(position, into, self._inner.read_into(position, into))

    def written_end(self, position: int) -> int:
        with self._pages.guard:
            held = max((at + len(content) for at, content in self._pages.writes), default=0)
        return max(held, self._inner.written_end(position))

    def cut(self, length: int) -> None:
        self._pages.settle()
        self._inner.cut(length)

    def close(self) -> None:
        self._inner.close()


class HeldDisk(PosixDisk):
    """See `storage.disk.Disk`; put where the node's assembly takes a `PosixDisk`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._directory = root
        self._pages: dict[str, Pages] = {}

    @property
    def forgets(self) -> bool:
        return (self._directory.parent / FORGET).exists()

    def create(self, name: str) -> BlockFile:
        return self._held(name, super().create(name))

    def open(self, name: str) -> BlockFile:
        return self._held(name, super().open(name))

    def _held(self, name: str, inner: BlockFile) -> BlockFile:
        pages = self._pages.setdefault(name, Pages(self._directory / name))
        return HeldFile(self, inner, pages)

    def sync_all(self, files: Sequence[BlockFile]) -> float | None:
        if not self.forgets:
            for pages in list(self._pages.values()):
                pages.settle()
        return 0.0

    def remove(self, name: str) -> None:
        super().remove(name)
        for held in [held for held in self._pages if held == name or held.startswith(f"{name}/")]:
            del self._pages[held]
