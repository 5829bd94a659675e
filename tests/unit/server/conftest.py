"""Real certificates from the project's own authority, made once."""

from pathlib import Path

import pytest
from certs_tooling.authority import Authority

from appliance.server.tls import TLSFiles

HOSTS = ("127.0.0.1", "localhost")


class Pki:
    """An authority's directory, and the files of those whom it certifies."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority.create(directory / "ca")

    def node(
        self, node_id: int = 1, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    ) -> TLSFiles:
        return self._saved(f"node-{node_id}", self.authority.issue_node(node_id, list(hosts)))

    def client(self, name: str) -> TLSFiles:
        return self._saved(f"client-{name}", self.authority.issue_client(name))

    def _saved(self, label, issued) -> TLSFiles:
        certificate = self.directory / f"{label}.pem"
        key = self.directory / f"{label}-key.pem"
        issued.save(certificate=certificate, key=key)
        return TLSFiles(
            certificate=certificate, key=key, authority=self.directory / "ca" / "ca.pem"
        )


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def foreign_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority that nobody here trusts."""
    return Pki(tmp_path_factory.mktemp("foreign-pki"))
