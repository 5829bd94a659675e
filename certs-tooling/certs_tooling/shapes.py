"""The shapes of certificates and revocation lists, as values: no files, no clock.

Rules (RFC 5280; SPIFFE X509-SVID for the URI):
- ECDSA on P-256 with SHA-256: what OpenSSL 3.0, Java, Go and Node all verify without a setting;
- the authority signs leaves only (path length 0), and only certificates and revocation lists;
- a leaf's principal is its one URI name, `spiffe://<trust domain>/{user,node,service}/<name>`;
- nodes serve and connect, clients only connect, servers (such as OpenBao) only serve;
- serial numbers are 20 random bytes with the top bit clear (RFC 5280, section 4.1.2.2).

No name constraints: a constraint on URIs is refused by verifiers that do not know that form
(RFC 5280 section 4.2.1.10 makes them critical), and this authority serves one cluster only.
"""

import ipaddress
import re
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs_tooling.errors import InvalidName
from certs_tooling.ledger import CertificateKind, LedgerEntry

AUTHORITY_DAYS = 3650
LEAF_DAYS = 397
REVOCATION_LIST_DAYS = 397
"""Lists are carried by hand: one that ran out would lock everybody out, so it lives long."""
CLOCK_SKEW = timedelta(minutes=10)

_TRUST_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,252}[a-z0-9])?\Z")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\Z")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\Z")

_SEGMENTS: dict[CertificateKind, str] = {"node": "node", "client": "user", "server": "service"}
_USAGES: dict[CertificateKind, list[x509.ObjectIdentifier]] = {
    "node": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
}


class Subject(msgspec.Struct, frozen=True):
    """Whom a leaf speaks for; the hosts are names or addresses that it may be reached by."""

    kind: CertificateKind
    name: str
    hosts: tuple[str, ...] = ()

    def uri(self, trust_domain: str) -> str:
        """The principal, as the one URI name of the certificate."""
        return f"spiffe://{trust_domain}/{_SEGMENTS[self.kind]}/{self.name}"


def check_trust_domain(trust_domain: str) -> None:
    """Raises InvalidName unless it can stand in a SPIFFE id."""
    if not _TRUST_DOMAIN.match(trust_domain):
        raise InvalidName(
            f"{trust_domain!r} is no trust domain: use lower-case letters, digits, '.' and '-', "
            "such as memorystreamer.local"
        )


def check_subject(subject: Subject) -> None:
    """Raises InvalidName unless name and hosts can stand in a certificate of this authority."""
    if not _NAME.match(subject.name):
        raise InvalidName(
            f"{subject.name!r} is no name for a certificate: use up to 128 letters, digits, "
            "'.', '_' and '-', not starting with '.'"
        )
    if subject.kind != "client" and not subject.hosts:
        raise InvalidName(f"{subject.kind} {subject.name} needs at least one host name or address")
    for host in subject.hosts:
        host_name(host)


def host_name(host: str) -> x509.GeneralName:
    """A host as a certificate names it: an address or a DNS name, never a wildcard."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if len(host) <= 253 and all(_LABEL.match(label) for label in host.split(".")):
            return x509.DNSName(host.lower())
    raise InvalidName(f"{host!r} is neither an IP address nor a plain host name")


def sign_authority(
    key: ec.EllipticCurvePrivateKey, *, common_name: str, trust_domain: str, now: datetime
) -> x509.Certificate:
    """A self-signed authority that may sign leaves and revocation lists, and nothing else."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def sign_leaf(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    *,
    subject: Subject,
    trust_domain: str,
    now: datetime,
    days: int,
) -> x509.Certificate:
    """A certificate for `subject`; it never outlives the authority."""
    names = [x509.UniformResourceIdentifier(subject.uri(trust_domain))]
    end = min(now + timedelta(days=days), authority.not_valid_after_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(_leaf_name(subject, trust_domain))
        .issuer_name(authority.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - CLOCK_SKEW, authority.not_valid_before_utc))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_USAGES[subject.kind]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([*names, *(host_name(host) for host in subject.hosts)]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_authority_key_identifier(authority), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def sign_revocation_list(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    *,
    revoked: tuple[LedgerEntry, ...],
    number: int,
    now: datetime,
) -> x509.CertificateRevocationList:
    """A complete list (RFC 5280, section 5) of what was revoked."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(now - CLOCK_SKEW)
        .next_update(now + timedelta(days=REVOCATION_LIST_DAYS))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_key_identifier(authority), critical=False)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(int(entry.serial, 16))
            .revocation_date(entry.revoked_at or now)
            .build()
        )
    return builder.sign(authority_key, hashes.SHA256())


def _leaf_name(subject: Subject, trust_domain: str) -> x509.Name:
    """For people to read: no verifier here takes a principal or a host from it.

    A common name holds 64 characters at most (RFC 5280, appendix A), a name here up to 128.
    """
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{subject.kind} {subject.name}"[:64]),
        ]
    )


def _authority_key_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    extension = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(extension.value)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
