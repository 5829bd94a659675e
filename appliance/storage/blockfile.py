"""The file calls of the data path: nothing else in this package touches a file.

Rules:

- Writes go where they are told (pwritev), reads never move a position (preadv), nothing is mapped:
  an I/O error there would kill the process.
- A write or sync that failed closes the file for good. A page read back after a failed sync proves
  nothing (fsyncgate), so there is no second try.
- Space is reserved before it is written, in doubling steps; ENOSPC arises there and nowhere else.
- A new name is durable only after its directory was synced; a document is replaced whole or not.

`Disk` and `BlockFile` are what a simulated disk implements.
"""

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Protocol

from appliance.errors import DirectoryInUse, StorageError, StorageFull
from appliance.limits import MAX_RESERVE_BYTES, MIN_RESERVE_BYTES
from appliance.types import Buffer

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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

    def write(self, position: int, data: Buffer) -> None:
        """Writes all of `data` with one call, or raises StorageError and is closed for good."""
        ...

    def sync(self) -> None:
        """Returns when everything written is durable, or raises StorageError.

        It is closed for good then.
        """
        ...

    def read_into(self, position: int, into: memoryview) -> int:
        """Reads up to `len(into)` bytes; fewer only at the end of the file."""
        ...

    def written_after(self, position: int) -> bool:
        """Whether anything but reserved space may lie at or after `position`."""
        ...

    def cut(self, length: int) -> None:
        """Makes the file exactly that long, durably."""
        ...

    def close(self) -> None:
        """Lets go of the file once nobody reads it any more."""
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
        """Puts a whole document in place of another, durably: the old or the new is found."""
        ...

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """A whole document, or None if there is none; raises StorageError if it is larger."""
        ...

    def make_directory(self, name: str) -> None:
        """A directory whose name is durable; one that is there is left as it is."""
        ...

    def names(self, directory: str) -> list[str]:
        """What a directory holds, sorted; nothing if there is no such directory."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file, or a directory with its files, durably; nothing if it is not there."""
        ...

    def lock(self) -> None:
        """Takes the directory for this process; raises DirectoryInUse."""
        ...

    def unlock(self) -> None:
        """Lets go of the directory."""
        ...


def _failed(action: str, error: OSError) -> StorageError:
    if error.errno in _NO_SPACE:
        return StorageFull(f"no space to {action}")
    return StorageError(f"cannot {action}: {os.strerror(error.errno or errno.EIO)}")


class PosixFile:
    """A file of the operating system."""

    def __init__(self, descriptor: int) -> None:
        """Owns an open descriptor."""
        self._descriptor = descriptor
        self._reserved = os.fstat(descriptor).st_size
        self._guard = threading.Lock()
        self._users = 0
        self._closing = False
        self._failed = False

    def size(self) -> int:
        """See `BlockFile.size`."""
        return self._reserved

    def reserve(self, end: int) -> None:
        """See `BlockFile.reserve`."""
        if end <= self._reserved:
            return
        step = min(max(self._reserved, MIN_RESERVE_BYTES), MAX_RESERVE_BYTES)
        ahead = max(end, self._reserved + step)
        with self._using():
            try:
                self._allocate(ahead)
            except StorageFull:
                if ahead == end:
                    raise
                self._allocate(end)

    def _allocate(self, end: int) -> None:
        try:
            os.posix_fallocate(self._descriptor, self._reserved, end - self._reserved)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                self._fail()
            raise _failed("reserve space", error) from None
        self._reserved = end

    def write(self, position: int, data: Buffer) -> None:
        """See `BlockFile.write`."""
        with self._using():
            try:
                written = os.pwritev(self._descriptor, [data], position)
            except OSError as error:
                self._fail()
                raise _failed("write", error) from None
            if written != len(data):
                self._fail()
                raise StorageError("cannot write: fewer bytes were taken than given")

    def sync(self) -> None:
        """See `BlockFile.sync`."""
        with self._using():
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                self._fail()
                raise _failed("sync", error) from None

    def read_into(self, position: int, into: memoryview) -> int:
        """See `BlockFile.read_into`."""
        with self._using(reading=True):
            done = 0
            try:
                while done < len(into):
                    count = os.preadv(self._descriptor, [into[done:]], position + done)
                    if count == 0:
                        break
                    done += count
            except OSError as error:
                raise _failed("read", error) from None
            return done

    def written_after(self, position: int) -> bool:
        """See `BlockFile.written_after`: holes and reserved blocks are known to the file system."""
        with self._using():
            try:
                os.lseek(self._descriptor, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return False
                raise _failed("read", error) from None
            return True

    def cut(self, length: int) -> None:
        """See `BlockFile.cut`."""
        with self._using():
            try:
                os.ftruncate(self._descriptor, length)
                os.fsync(self._descriptor)
            except OSError as error:
                self._fail()
                raise _failed("cut", error) from None
            self._reserved = length

    def close(self) -> None:
        """See `BlockFile.close`."""
        with self._guard:
            if self._closing:
                return
            self._closing = True
            if self._users == 0:
                os.close(self._descriptor)

    def _fail(self) -> None:
        self._failed = True

    def _using(self, *, reading: bool = False) -> "_Use":
        with self._guard:
            if self._closing or (self._failed and not reading):
                raise StorageError("the file is closed")
            self._users += 1
        return _Use(self)

    def release(self) -> None:
        """One user less; the last one closes what is to be closed."""
        with self._guard:
            self._users -= 1
            if self._closing and self._users == 0:
                os.close(self._descriptor)


class _Use:
    """Keeps a descriptor open while a thread uses it, so that its number is not taken by others."""

    __slots__ = ("_file",)

    def __init__(self, file: PosixFile) -> None:
        self._file = file

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._file.release()


class PosixDisk:
    """A directory of the operating system, mode 0700, files 0600."""

    def __init__(self, root: Path) -> None:
        """Makes `root` if it is not there."""
        self._root = root
        self._lock: int | None = None
        try:
            if not root.is_dir():
                root.mkdir(mode=0o700, parents=True)
                _sync_directory(root.parent)
        except OSError as error:
            raise _failed(f"make {root}", error) from None

    def __str__(self) -> str:
        """The path of the directory."""
        return str(self._root)

    def create(self, name: str) -> BlockFile:
        """See `Disk.create`."""
        return self._opened(name, os.O_CREAT | os.O_EXCL)

    def open(self, name: str) -> BlockFile:
        """See `Disk.open`."""
        return self._opened(name, 0)

    def _opened(self, name: str, flags: int) -> BlockFile:
        path = self._root / name
        try:
            flags |= os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            file = PosixFile(os.open(path, flags, 0o600))
            if flags & os.O_CREAT:
                _sync_directory(path.parent)
        except OSError as error:
            raise _failed(f"open {name}", error) from None
        return file

    def replace(self, name: str, content: Buffer) -> None:
        """See `Disk.replace`."""
        path = self._root / name
        fresh = path.with_name(path.name + ".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(fresh, flags, 0o600)
            try:
                written = os.write(descriptor, content)
                if written != len(content):
                    raise StorageFull(f"no space to replace {name}")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            fresh.replace(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise _failed(f"replace {name}", error) from None

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """See `Disk.read`."""
        try:
            with (self._root / name).open("rb") as file:
                content = file.read(max_bytes + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(f"read {name}", error) from None
        if len(content) > max_bytes:
            raise StorageError(f"{name} is larger than {max_bytes} bytes")
        return content

    def make_directory(self, name: str) -> None:
        """See `Disk.make_directory`."""
        path = self._root / name
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            _sync_directory(path.parent)
        except OSError as error:
            raise _failed(f"make {name}", error) from None

    def names(self, directory: str) -> list[str]:
        """See `Disk.names`."""
        try:
            return sorted(entry.name for entry in (self._root / directory).iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _failed(f"list {directory}", error) from None

    def remove(self, name: str) -> None:
        """See `Disk.remove`."""
        path = self._root / name
        try:
            if path.is_dir():
                for entry in path.iterdir():
                    entry.unlink()
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            if path.parent.is_dir():
                _sync_directory(path.parent)
        except OSError as error:
            raise _failed(f"remove {name}", error) from None

    def lock(self) -> None:
        """See `Disk.lock`."""
        descriptor = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise DirectoryInUse(f"{self._root} is in use by another process") from None
        self._lock = descriptor

    def unlock(self) -> None:
        """See `Disk.unlock`."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
