"""The ledger: what was issued and what was revoked, in one small JSON file.

Rules: an entry is durable before its certificate leaves the authority, so no certificate exists
that could not be revoked; entries are never removed; serial numbers are lower-case hexadecimal.
"""

from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from certs_tooling import files
from certs_tooling.errors import UnusableDirectory

CertificateKind = Literal["node", "client", "server"]


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One issued certificate; `revoked_at` is None while it stands."""

    serial: str
    kind: CertificateKind
    name: str
    hosts: tuple[str, ...] = ()
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None = None


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an authority remembers besides its key and its own certificate."""

    version: Literal[1] = 1
    trust_domain: str
    crl_number: int
    certificates: tuple[LedgerEntry, ...] = ()

    def with_entry(self, entry: LedgerEntry) -> "Ledger":
        """This ledger and one more certificate."""
        return msgspec.structs.replace(self, certificates=(*self.certificates, entry))

    def with_revoked(self, serial: str, at: datetime) -> "Ledger":
        """This ledger with one certificate revoked; a second revocation keeps the first time."""
        return msgspec.structs.replace(
            self,
            crl_number=self.crl_number + 1,
            certificates=tuple(
                msgspec.structs.replace(entry, revoked_at=entry.revoked_at or at)
                if entry.serial == serial
                else entry
                for entry in self.certificates
            ),
        )


def load(path: Path) -> Ledger:
    """Reads the ledger. Raises UnusableDirectory when it is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ledger)
    except (OSError, msgspec.DecodeError) as failure:
        raise UnusableDirectory(
            f"{path} cannot be read as a ledger: restore it from a backup; without it nothing "
            "can be revoked"
        ) from failure


def save(path: Path, ledger: Ledger) -> None:
    """Replaces the ledger durably."""
    files.replace(path, msgspec.json.format(msgspec.json.encode(ledger), indent=2))
