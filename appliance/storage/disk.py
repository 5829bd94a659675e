"""What the storage engine asks of a disk: `Disk` and `BlockFile`.

The operating system's stand behind them in `storage.blockfile`, a simulated one in the tests.
"""

from collections.abc import Sequence
from typing import Protocol

from appliance.types import Buffer


class BlockFile(Protocol):
    """One open file. Calls block; they may come from any thread."""

    def size(self) -> int:
        """Length, reserved space included."""
        ...

    def reserve(self, end: int) -> None:
        """Makes sure of space up to `end`, and ahead of it.

        Raises StorageFull; nothing is lost.
        """
        ...

    def write(self, position: int, data: Sequence[Buffer]) -> None:
        """Writes all of `data`, one behind the other, with one call.

        Or raises StorageError and is closed for good.
        """
        ...

    def sync(self) -> None:
        """Returns when everything written is durable, or raises StorageError.

        It is closed for good then.
        """
        ...

    def read_into(self, position: int, into: memoryview) -> int:
        """Reads up to `len(into)` bytes; fewer only at the end of the file."""
        ...

    def written_end(self, position: int) -> int:
        """Where nothing but reserved space follows, at or after `position`."""
        ...

    def cut(self, length: int) -> None:
        """Makes the file exactly that long, durably."""
        ...

    def close(self) -> None:
        """Lets go of the file once nobody reads it any more."""
        ...


class ReadableDisk(Protocol):
    """What looking at a directory takes of a disk; `Disk` has more."""

    def open(self, name: str) -> BlockFile:
        """See `Disk.open`."""
        ...

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """See `Disk.read`."""
        ...

    def names(self, directory: str) -> list[str]:
        """See `Disk.names`."""
        ...


class Disk(Protocol):
    """A directory with everything below it; names are relative, with `/` between parts.

    `str()` of it is what an operator knows the directory by.
    """

    def create(self, name: str) -> BlockFile:
        """A new empty file whose name is durable; raises StorageError if there is one."""
        ...

    def open(self, name: str) -> BlockFile:
        """An existing file; raises StorageError if there is none."""
        ...

    def replace(self, name: str, content: Buffer) -> None:
        """Puts a whole document in place of another, durably: the old or the new is found.

        Raises StorageFull only while the old one stands; after any other StorageError either may.
        """
        ...

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """A whole document, or None if there is none; raises StorageError if it is larger."""
        ...

    def make_directory(self, name: str) -> None:
        """A directory whose name is durable; one that is there is left as it is."""
        ...

    def sync_all(self, files: Sequence[BlockFile]) -> float | None:
        """Makes everything written to these files durable in one call, and says how long it took.

        In seconds; None if there is no such call here, and nothing was done. Raises
        FileSystemFailed.
        """
        ...

    def names(self, directory: str) -> list[str]:
        """What a directory holds, sorted; nothing if there is no such directory."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file, or a directory with its files, durably; nothing if it is not there."""
        ...

    def settle(self) -> None:
        """Makes every name durable.

        A process before this one may have been killed between a change and its sync.
        """
        ...

    def lock(self) -> None:
        """Takes the directory for this process; raises DirectoryInUse."""
        ...

    def unlock(self) -> None:
        """Lets go of the directory."""
        ...
