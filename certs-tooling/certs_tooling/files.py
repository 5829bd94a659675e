"""Files that survive a crash whole: written beside their place, synced, renamed, synced again.

Rules: a private file is born 0600 and never passes through a wider mode; a reader sees the old
content or the new one, never a part; one process at a time changes an authority's directory.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certs_tooling.errors import UnusableDirectory

PRIVATE = 0o600
PUBLIC = 0o644


def make_private_directory(path: Path) -> None:
    """Makes `path` (and its parents) if missing; only its owner may enter it.

    Raises UnusableDirectory when it cannot be made or belongs to someone else.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as failure:
        raise UnusableDirectory(
            f"cannot use the directory {path}: {failure.strerror}; choose one that you own"
        ) from failure


def replace(path: Path, content: bytes, *, mode: int = PRIVATE) -> None:
    """Puts `content` at `path` atomically and durably, with `mode` from its first byte on."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def read_private(path: Path) -> bytes:
    """The content of a file that only its owner may read.

    Raises UnusableDirectory when others may read it: its secret must be taken for known.
    """
    if path.stat().st_mode & 0o077:
        raise UnusableDirectory(
            f"{path} can be read by others: run `chmod 600 {path}`, and if others use this "
            "machine, make a new authority"
        )
    return path.read_bytes()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the directory's lock, waiting for another process to let go of it."""
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
