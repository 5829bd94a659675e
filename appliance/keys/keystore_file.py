"""The one file of a local keystore: made once, read whole, replaced atomically.

Rules: 0600 from its first byte, in a directory that exists; what a crash leaves is the old file or
the new one; a file that others may read is refused, because its passphrase may have been guessed
at already.
"""

import os
from pathlib import Path
from typing import Protocol

from appliance.errors import ConfigurationError

MAX_KEYSTORE_BYTES = 16 * 1024 * 1024


class KeystoreFile(Protocol):
    """Where a keystore is kept. Every call raises ConfigurationError, naming the place."""

    def create(self, content: bytes) -> None:
        """Puts a new file there, durably; never over one that exists."""
        ...

    def read(self) -> bytes:
        """The whole content."""
        ...

    def replace(self, content: bytes) -> None:
        """Puts another content there, atomically and durably."""
        ...


class PathKeystoreFile:
    """A `KeystoreFile` in a file system."""

    def __init__(self, path: Path) -> None:
        """Touches nothing yet."""
        self._path = path

    def create(self, content: bytes) -> None:
        """See `KeystoreFile`: the finished file is linked into place, which never overwrites."""
        try:
            beside = self._written(content)
            try:
                os.link(beside, self._path, follow_symlinks=False)
            finally:
                beside.unlink()
            self._sync_directory()
        except FileExistsError:
            raise ConfigurationError(
                f"keystore {self._path} exists already: open it, or choose another path"
            ) from None
        except OSError as failure:
            raise self._named(failure, "written") from None

    def read(self) -> bytes:
        """See `KeystoreFile`."""
        try:
            with self._path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(MAX_KEYSTORE_BYTES + 1)
        except OSError as failure:
            raise self._named(failure, "read") from None
        if mode & 0o077:
            raise ConfigurationError(
                f"keystore {self._path} can be read by others: run `chmod 600 {self._path}`"
            )
        if len(content) > MAX_KEYSTORE_BYTES:
            raise ConfigurationError(f"keystore {self._path} is too large to be one")
        return content

    def replace(self, content: bytes) -> None:
        """See `KeystoreFile`."""
        try:
            self._written(content).replace(self._path)
            self._sync_directory()
        except OSError as failure:
            raise self._named(failure, "written") from None

    def __str__(self) -> str:
        return str(self._path)

    def _written(self, content: bytes) -> Path:
        beside = self._path.with_name(f".{self._path.name}.new")
        beside.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return beside

    def _sync_directory(self) -> None:
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _named(self, failure: OSError, done: str) -> ConfigurationError:
        return ConfigurationError(
            f"keystore {self._path} cannot be {done}: {os.strerror(failure.errno or 0)}"
        )
