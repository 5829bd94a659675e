"""The file calls of the data path: nothing else in this package touches a file.

Rules:

- Writes go where they are told (pwritev), reads never move a position (preadv), nothing is mapped:
  an I/O error there would kill the process.
- A write or sync that failed closes the file for good. A page read back after a failed sync proves
  nothing (fsyncgate), so there is no second try.
- Space is reserved before it is written, in doubling steps; ENOSPC arises there and nowhere else.
- A little space is kept from data files, in the lock, so that documents can be replaced on a full
  disk: without a new manifest nothing could be removed.
- A new name is durable only after its directory was synced; a document is replaced whole or not.

- Descriptors are few: the file that was used least lately lets go of its own, unless it holds what
  was not synced (the next sync must report what became of it), and opens again when it is used.
"""

import ctypes
import errno
import fcntl
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from appliance.errors import DirectoryInUse, FileSystemFailed, StorageError, StorageFull
from appliance.limits import (
    DOCUMENT_RESERVE_BYTES,
    MAX_OPEN_FILES,
    MAX_RESERVE_BYTES,
    MIN_RESERVE_BYTES,
)
from appliance.storage.disk import BlockFile
from appliance.types import Buffer

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _find_syncfs() -> Callable[[int], int] | None:
    try:
        function: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    return function


_syncfs = _find_syncfs()


def _failed(action: str, error: OSError) -> StorageError:
    if error.errno in _NO_SPACE:
        return StorageFull(f"no space to {action}")
    return StorageError(f"cannot {action}: {os.strerror(error.errno or errno.EIO)}")


def _ended(action: str, error: OSError) -> StorageError:
    """Of a file that is closed for good, whatever the reason was."""
    return StorageError(f"cannot {action}: {os.strerror(error.errno or errno.EIO)}")


_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class Descriptors:
    """The open descriptors of one disk, least lately used first."""

    def __init__(self, limit: int = MAX_OPEN_FILES) -> None:
        """Keeps at most `limit` open, besides those in use or not synced."""
        self._limit = limit
        self._guard = threading.Lock()
        self._open: OrderedDict[PosixFile, None] = OrderedDict()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def acquire(self, file: "PosixFile", *, reading: bool) -> int:
        """A descriptor that stays open until `release`; raises StorageError."""
        with self._guard:
            if file.closing or (file.failed and not reading):
                raise StorageError("the file is closed")
            if file.descriptor is None:
                self._adopt(file, file.reopened())
            self._open.move_to_end(file)
            file.users += 1
            return file.descriptor or 0

    def adopt(self, file: "PosixFile", descriptor: int) -> None:
        """Takes in a file that was opened just now."""
        with self._guard:
            self._adopt(file, descriptor)

    def _adopt(self, file: "PosixFile", descriptor: int) -> None:
        file.descriptor = descriptor
        self._open[file] = None
        for other in tuple(self._open)[: max(0, len(self._open) - self._limit)]:
            if other is not file and not other.users and not other.unsynced:
                self._let_go(other)

    def release(self, file: "PosixFile") -> None:
        """One user less; the last one closes what is to be closed."""
        with self._guard:
            file.users -= 1
            if file.closing and not file.users:
                self._let_go(file)

    def close(self, file: "PosixFile") -> None:
        """Closes a file for good, once nobody uses it any more."""
        with self._guard:
            file.closing = True
            if not file.users:
                self._let_go(file)

    def _let_go(self, file: "PosixFile") -> None:
        if file.descriptor is not None:
            os.close(file.descriptor)
            file.descriptor = None
            del self._open[file]


class PosixFile:
    """A file of the operating system; its descriptor comes and goes."""

    __slots__ = ("_descriptors", "_identity", "_path", "_reserved", "closing", "descriptor",
                 "failed", "unsynced", "users")  # fmt: skip

    def __init__(self, path: str, descriptor: int, descriptors: Descriptors) -> None:
        """Owns an open descriptor, which `descriptors` may close and open again.

        The path is text: a `Path` has the interpreter keep account of each of its names.
        """
        status = os.fstat(descriptor)
        self._path = path
        self._identity = (status.st_dev, status.st_ino)
        self._reserved = status.st_size
        self._descriptors = descriptors
        self.descriptor: int | None = None
        self.users = 0
        self.closing = self.failed = self.unsynced = False
        descriptors.adopt(self, descriptor)

    def reopened(self) -> int:
        """A new descriptor of the same file; raises StorageError."""
        try:
            descriptor = os.open(self._path, _FLAGS)
        except OSError as error:
            raise _failed(f"open {self._name}", error) from None
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != self._identity:
            os.close(descriptor)
            raise StorageError(f"another file took the place of {self._name}")
        return descriptor

    @property
    def _name(self) -> str:
        return Path(self._path).name

    def size(self) -> int:
        """See `BlockFile.size`."""
        return self._reserved

    def reserve(self, end: int) -> None:
        """See `BlockFile.reserve`."""
        if end <= self._reserved:
            return
        step = min(max(self._reserved, MIN_RESERVE_BYTES), MAX_RESERVE_BYTES)
        ahead = max(end, self._reserved + step)
        with self._using() as descriptor:
            try:
                self._allocate(descriptor, ahead)
            except StorageFull:
                if ahead == end:
                    raise
                self._allocate(descriptor, end)

    def _allocate(self, descriptor: int, end: int) -> None:
        try:
            os.posix_fallocate(descriptor, self._reserved, end - self._reserved)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                self._fail()
            raise _failed("reserve space", error) from None
        self._reserved = end

    def write(self, position: int, data: Sequence[Buffer]) -> None:
        """See `BlockFile.write`."""
        with self._using() as descriptor:
            self.unsynced = True
            try:
                written = os.pwritev(descriptor, data, position)
            except OSError as error:
                self._fail()
                raise _ended("write", error) from None
            if written != sum(map(len, data)):
                self._fail()
                raise StorageError("cannot write: fewer bytes were taken than given")

    def sync(self) -> None:
        """See `BlockFile.sync`."""
        with self._using() as descriptor:
            try:
                os.fdatasync(descriptor)
            except OSError as error:
                self._fail()
                raise _ended("sync", error) from None
            self.unsynced = False

    def read_into(self, position: int, into: memoryview) -> int:
        """See `BlockFile.read_into`."""
        with self._using(reading=True) as descriptor:
            done = 0
            try:
                while done < len(into):
                    count = os.preadv(descriptor, [into[done:]], position + done)
                    if count == 0:
                        break
                    done += count
            except OSError as error:
                raise _failed("read", error) from None
            return done

    def written_end(self, position: int) -> int:
        """See `BlockFile.written_end`: holes and reserved blocks are known to the file system."""
        end = position
        with self._using() as descriptor:
            try:
                while True:
                    data = os.lseek(descriptor, end, os.SEEK_DATA)
                    end = os.lseek(descriptor, data, os.SEEK_HOLE)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise _failed("read", error) from None
        return end

    def cut(self, length: int) -> None:
        """See `BlockFile.cut`."""
        with self._using() as descriptor:
            try:
                os.ftruncate(descriptor, length)
                os.fsync(descriptor)
            except OSError as error:
                self._fail()
                raise _failed("cut", error) from None
            self._reserved = length

    def close(self) -> None:
        """See `BlockFile.close`."""
        self._descriptors.close(self)

    def _fail(self) -> None:
        self.failed = True

    def _using(self, *, reading: bool = False) -> "_Use":
        return _Use(self._descriptors, self, self._descriptors.acquire(self, reading=reading))


class _Use:
    """Keeps a descriptor open while a thread uses it, so that its number is not taken by others."""

    __slots__ = ("_descriptor", "_descriptors", "_file")

    def __init__(self, descriptors: Descriptors, file: PosixFile, descriptor: int) -> None:
        self._descriptors = descriptors
        self._file = file
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        self._descriptors.release(self._file)


class ReadOnlyDisk:
    """A directory that is only looked at; see `ReadableDisk`."""

    def __init__(self, root: Path) -> None:
        """For a directory that may be another process's, or a copy."""
        self._root = root
        self._descriptors = Descriptors()

    def __str__(self) -> str:
        """The path of the directory."""
        return str(self._root)

    def open(self, name: str) -> BlockFile:
        """See `Disk.open`; what is opened here cannot be written."""
        path = f"{self._root}/{name}"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise _failed(f"open {name}", error) from None
        return PosixFile(path, descriptor, self._descriptors)

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """See `Disk.read`."""
        return _read(self._root / name, name, max_bytes)

    def names(self, directory: str) -> list[str]:
        """See `Disk.names`."""
        return _names(self._root / directory, directory)


class PosixDisk:
    """A directory of the operating system, mode 0700, files 0600."""

    def __init__(self, root: Path, *, max_open: int = MAX_OPEN_FILES) -> None:
        """Makes `root` if it is not there; keeps about `max_open` descriptors."""
        self._root = root
        self._descriptors = Descriptors(max_open)
        self._lock: int | None = None
        try:
            if not root.is_dir():
                root.mkdir(mode=0o700, parents=True)
                _sync_directory(root.parent)
            self._root_descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
        path = f"{self._root}/{name}"
        try:
            file = PosixFile(path, os.open(path, flags | _FLAGS, 0o600), self._descriptors)
            if flags & os.O_CREAT:
                _sync_directory(Path(path).parent)
        except OSError as error:
            raise _failed(f"open {name}", error) from None
        return file

    def replace(self, name: str, content: Buffer) -> None:
        """See `Disk.replace`."""
        try:
            self._replace(name, content)
        except StorageFull:
            if not self._give_reserve():
                raise
            self._replace(name, content)

    def _replace(self, name: str, content: Buffer) -> None:
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
        except OSError as error:
            raise _failed(f"replace {name}", error) from None
        try:
            _sync_directory(path.parent)
        except OSError as error:  # never StorageFull: the new document may well be there
            raise _ended(f"replace {name}", error) from None

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """See `Disk.read`."""
        return _read(self._root / name, name, max_bytes)

    def make_directory(self, name: str) -> None:
        """See `Disk.make_directory`."""
        path = self._root / name
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            _sync_directory(path.parent)
        except OSError as error:
            raise _failed(f"make {name}", error) from None

    def sync_all(self, files: Sequence[BlockFile]) -> float | None:
        """See `Disk.sync_all`: syncfs on a descriptor that was open before anything was written.

        Since Linux 5.8 it reports what could not be written back since then.
        """
        if _syncfs is None:
            return None
        begun = time.monotonic()
        if _syncfs(self._root_descriptor) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise FileSystemFailed(f"cannot sync the file system of {self._root}: {reason}")
        for file in files:
            if isinstance(file, PosixFile):
                file.unsynced = False
        return time.monotonic() - begun

    def names(self, directory: str) -> list[str]:
        """See `Disk.names`."""
        return _names(self._root / directory, directory)

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
        self._keep_reserve()

    def _keep_reserve(self) -> None:
        """Keeps space for documents, in the lock, if there is any."""
        if self._lock is not None:
            with suppress(OSError):
                os.posix_fallocate(self._lock, 0, DOCUMENT_RESERVE_BYTES)

    def _give_reserve(self) -> bool:
        """Gives up the space that was kept; whether there was any."""
        if self._lock is None or not os.fstat(self._lock).st_blocks:
            return False
        with suppress(OSError):
            os.ftruncate(self._lock, 0)
        return True

    def settle(self) -> None:
        """See `Disk.settle`."""
        try:
            for entry in self._root.iterdir():
                if entry.is_dir():
                    _sync_directory(entry)
            _sync_directory(self._root)
        except OSError as error:
            raise _failed(f"sync {self._root}", error) from None

    def lock(self) -> None:
        """See `Disk.lock`."""
        descriptor = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise DirectoryInUse(f"{self._root} is in use by another process") from None
        self._lock = descriptor
        self._keep_reserve()

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


def _read(path: Path, name: str, max_bytes: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed(f"read {name}", error) from None
    if len(content) > max_bytes:
        raise StorageError(f"{name} is larger than {max_bytes} bytes")
    return content


def _names(path: Path, directory: str) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _failed(f"list {directory}", error) from None
