"""A private certificate authority in one directory.

    DIR/ca.pem        its certificate, to be trusted by nodes and clients
    DIR/ca-key.pem    its key (PKCS#8, 0600): keep it offline where you can
    DIR/crl.pem       what was revoked; nodes read it
    DIR/ledger.json   what was issued

Rules: `ca.pem` is written last, so a directory without it never issued anything and may be set up
again; the ledger is durable before a certificate leaves; the key of a leaf exists only in what
`issue_*` returns and where its receiver saves it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs_tooling import files, ledger, shapes
from certs_tooling.errors import (
    AuthorityExists,
    InvalidName,
    NoAuthority,
    UnknownCertificate,
    UnusableDirectory,
)
from certs_tooling.ledger import Ledger, LedgerEntry
from certs_tooling.shapes import LEAF_DAYS, Subject

DEFAULT_TRUST_DOMAIN = "memorystreamer.local"

Now = Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class Issued(msgspec.Struct, frozen=True):
    """A new certificate and its key, in PEM; the key is kept nowhere else."""

    subject: Subject
    serial: str
    certificate_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        """Names the certificate, never the key."""
        return f"Issued({self.subject!r}, serial={self.serial})"

    def save(self, *, certificate: Path, key: Path) -> None:
        """Writes both, atomically: the key first, 0600, in directories that must exist."""
        files.replace(key, self.key_pem)
        files.replace(certificate, self.certificate_pem, mode=files.PUBLIC)


class Authority:
    """Issues and revokes; every change is durable when the call returns."""

    def __init__(
        self,
        directory: Path,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        now: Now,
    ) -> None:
        """Use `create` or `open`."""
        self._directory = directory
        self._certificate = certificate
        self._key = key
        self._now = now

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        trust_domain: str = DEFAULT_TRUST_DOMAIN,
        common_name: str = "MemoryStreamer private authority",
        now: Now = _utc_now,
    ) -> "Authority":
        """Makes a new authority; `directory` becomes 0700.

        Raises AuthorityExists when one is there, InvalidName, UnusableDirectory.
        """
        shapes.check_trust_domain(trust_domain)
        files.make_private_directory(directory)
        with files.locked(directory):
            if cls.exists(directory):
                raise AuthorityExists(
                    f"{directory} holds an authority already: issue from it, or choose another "
                    "directory"
                )
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = shapes.sign_authority(
                key, common_name=common_name, trust_domain=trust_domain, now=now()
            )
            files.replace(directory / "ca-key.pem", _key_pem(key))
            authority = cls(directory, certificate, key, now)
            authority._write(Ledger(trust_domain=trust_domain, crl_number=1))
            pem = certificate.public_bytes(serialization.Encoding.PEM)
            files.replace(directory / "ca.pem", pem, mode=files.PUBLIC)
        return authority

    @classmethod
    def open(cls, directory: Path, *, now: Now = _utc_now) -> "Authority":
        """Opens an authority. Raises NoAuthority, or UnusableDirectory when parts do not fit."""
        if not cls.exists(directory):
            raise NoAuthority(
                f"{directory} holds no authority: run `memorystreamer-certs init --dir {directory}`"
            )
        try:
            certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
            key = serialization.load_pem_private_key(
                files.read_private(directory / "ca-key.pem"), password=None
            )
        except (OSError, ValueError) as failure:
            raise UnusableDirectory(
                f"ca.pem or ca-key.pem in {directory} cannot be read: restore them from a backup"
            ) from failure
        if (
            not isinstance(key, ec.EllipticCurvePrivateKey)
            or key.public_key() != certificate.public_key()
        ):
            raise UnusableDirectory(f"ca-key.pem in {directory} is not the key of its ca.pem")
        authority = cls(directory, certificate, key, now)
        authority._ledger()
        return authority

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether `directory` holds an authority whose set-up was completed."""
        return (directory / "ca.pem").is_file()

    @property
    def certificate_file(self) -> Path:
        """What nodes and clients trust (PEM)."""
        return self._directory / "ca.pem"

    @property
    def crl_file(self) -> Path:
        """What nodes read to refuse revoked certificates (PEM)."""
        return self._directory / "crl.pem"

    @property
    def trust_domain(self) -> str:
        """The host part of every principal's URI."""
        return self._ledger().trust_domain

    def issue_node(self, node_id: int, hosts: Sequence[str], *, days: int = LEAF_DAYS) -> Issued:
        """A certificate to serve and to connect with, for one node reachable at `hosts`."""
        if not 0 <= node_id < 1 << 31:
            raise InvalidName(f"{node_id} is no node id: use a number from 0 to 2147483647")
        return self._issue(Subject("node", str(node_id), tuple(hosts)), days)

    def issue_client(self, name: str, *, days: int = LEAF_DAYS) -> Issued:
        """A certificate to connect with, for the user `name`."""
        return self._issue(Subject("client", name), days)

    def issue_server(self, name: str, hosts: Sequence[str], *, days: int = LEAF_DAYS) -> Issued:
        """A certificate to serve with only, for what stands beside the nodes, such as OpenBao."""
        return self._issue(Subject("server", name, tuple(hosts)), days)

    def revoke(self, serial: str) -> LedgerEntry:
        """Revokes by serial number (hexadecimal, colons allowed) and writes the new list.

        Raises UnknownCertificate. Nodes refuse the certificate once they have read the list.
        """
        wanted = serial.replace(":", "").lower().lstrip("0")
        with files.locked(self._directory):
            held = self._ledger()
            if wanted not in {entry.serial for entry in held.certificates}:
                raise UnknownCertificate(
                    f"no certificate with serial number {serial!r} was issued here: "
                    "`memorystreamer-certs list` shows all"
                )
            changed = held.with_revoked(wanted, self._now())
            self._write(changed)
        return next(entry for entry in changed.certificates if entry.serial == wanted)

    def list(self) -> tuple[LedgerEntry, ...]:
        """Every certificate that was issued, oldest first."""
        return self._ledger().certificates

    def renew_crl(self) -> None:
        """Signs the revocation list anew, for another term."""
        with files.locked(self._directory):
            held = self._ledger()
            self._write(msgspec.structs.replace(held, crl_number=held.crl_number + 1))

    def _issue(self, subject: Subject, days: int) -> Issued:
        shapes.check_subject(subject)
        if days < 1:
            raise InvalidName("a certificate is valid for one day at least")
        key = ec.generate_private_key(ec.SECP256R1())
        with files.locked(self._directory):
            held = self._ledger()
            certificate = shapes.sign_leaf(
                self._certificate,
                self._key,
                key.public_key(),
                subject=subject,
                trust_domain=held.trust_domain,
                now=self._now(),
                days=days,
            )
            entry = LedgerEntry(
                serial=f"{certificate.serial_number:x}",
                kind=subject.kind,
                name=subject.name,
                hosts=subject.hosts,
                not_before=certificate.not_valid_before_utc,
                not_after=certificate.not_valid_after_utc,
            )
            ledger.save(self._directory / "ledger.json", held.with_entry(entry))
        return Issued(
            subject,
            entry.serial,
            certificate.public_bytes(serialization.Encoding.PEM),
            _key_pem(key),
        )

    def _ledger(self) -> Ledger:
        return ledger.load(self._directory / "ledger.json")

    def _write(self, changed: Ledger) -> None:
        """The ledger, then the list made from it: a crash between them is mended by the next."""
        ledger.save(self._directory / "ledger.json", changed)
        revoked = shapes.sign_revocation_list(
            self._certificate,
            self._key,
            revoked=tuple(entry for entry in changed.certificates if entry.revoked_at),
            number=changed.crl_number,
            now=self._now(),
        )
        files.replace(
            self._directory / "crl.pem",
            revoked.public_bytes(serialization.Encoding.PEM),
            mode=files.PUBLIC,
        )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
