"""Where the quickstart keeps what it makes: DIR, one folder per concern, all of it 0700.

    DIR/certs/ca/            the private authority (keep its key offline in production)
    DIR/client/              certificates and profiles of admin, producer, consumer, nobody
    DIR/policy.csv           the policy that a new cluster starts with
    DIR/openbao/             the key server that is tried out here, or
    DIR/keystore             the keystore that a passphrase seals
    DIR/nodes/ID/            node.toml, node.pem, node.key, pid, data/
    DIR/quickstart.lock      marks DIR as ours, and locks it while a quickstart runs

Below `nodes` and `openbao` no principal, topic or group is named.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certs_tooling import files
from msgspec import Struct

from appliance.errors import ConfigurationError


class NodeFolder(Struct, frozen=True):
    """One node's folder."""

    root: Path
    id: int

    @property
    def config(self) -> Path:
        """The node's configuration."""
        return self.root / "node.toml"

    @property
    def certificate(self) -> Path:
        """The node's certificate (PEM)."""
        return self.root / "node.pem"

    @property
    def key(self) -> Path:
        """The key of the node's certificate (PEM, 0600)."""
        return self.root / "node.key"

    @property
    def data(self) -> Path:
        """The node's data directory."""
        return self.root / "data"

    @property
    def pid(self) -> Path:
        """Holds the node's process id while it runs."""
        return self.root / "pid"


class Layout(Struct, frozen=True):
    """The paths under one DIR."""

    root: Path

    @property
    def authority(self) -> Path:
        """The private authority."""
        return self.root / "certs" / "ca"

    @property
    def client(self) -> Path:
        """Certificates and profiles of the four users."""
        return self.root / "client"

    @property
    def policy(self) -> Path:
        """The policy that a new cluster starts with."""
        return self.root / "policy.csv"

    @property
    def openbao(self) -> Path:
        """The key server's folder."""
        return self.root / "openbao"

    @property
    def keystore(self) -> Path:
        """The local keystore."""
        return self.root / "keystore"

    @property
    def node_count(self) -> int:
        """How many nodes an earlier start has made."""
        count = 0
        while self.node(count + 1).config.exists():
            count += 1
        return count

    def node(self, node: int) -> NodeFolder:
        """The folder of one node."""
        return NodeFolder(self.root / "nodes" / str(node), node)

    @contextmanager
    def claimed(self, nodes: int) -> Iterator[None]:
        """Makes the folders that are missing and holds DIR's lock.

        Raises:
            ConfigurationError: DIR cannot be used, holds something else, or is in use.
        """
        try:
            self._make(nodes)
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"cannot use {error.filename or self.root}: {error.strerror};"
                " choose another place with --dir"
            ) from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigurationError(
                    f"another quickstart runs on {self.root}: stop it, or choose another --dir"
                ) from None
            yield
        finally:
            os.close(lock)

    @property
    def _lock(self) -> Path:
        return self.root / "quickstart.lock"

    def _make(self, nodes: int) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(self.root.iterdir()) and not self._lock.exists():
            raise ConfigurationError(
                f"{self.root} holds other files: choose an empty or a new directory with --dir"
            )
        folders = [self.authority.parent, self.client, self.root / "nodes"]
        folders += [self.node(node).root for node in range(1, nodes + 1)]
        self.root.chmod(0o700)
        for folder in folders:
            folder.mkdir(mode=0o700, exist_ok=True)


def replace(path: Path, content: str | bytes) -> None:
    """Writes a file as a whole, 0600, unless it holds just this already."""
    data = content.encode() if isinstance(content, str) else content
    if not path.exists() or path.read_bytes() != data:
        files.replace(path, data)
