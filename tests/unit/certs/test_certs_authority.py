"""The shapes of issued certificates, and what the authority keeps and refuses."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certs_tooling.authority import Authority, Issued
from certs_tooling.errors import (
    AuthorityExists,
    InvalidName,
    NoAuthority,
    UnknownCertificate,
    UnusableDirectory,
)
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

NOW = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", now=lambda: NOW)


def certificate_of(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.certificate_pem)


def names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def crl_of(authority: Authority) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl(authority.crl_file.read_bytes())


def test_authority_signs_leaves_and_lists_only(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.certificate_file.read_bytes())
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert basic.critical
    assert basic.value == x509.BasicConstraints(ca=True, path_length=0)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign) == (True, True)
    assert not usage.value.digital_signature
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_node_certificate_serves_and_connects(authority: Authority) -> None:
    certificate = certificate_of(authority.issue_node(7, ["broker.example", "127.0.0.1", "::1"]))
    san = names(certificate)
    assert san.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://memorystreamer.local/node/7"
    ]
    assert san.get_values_for_type(x509.DNSName) == ["broker.example"]
    assert [str(a) for a in san.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert usages(certificate) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert basic.critical
    assert not basic.value.ca
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign


def test_client_certificate_connects_only_and_has_one_name(authority: Authority) -> None:
    certificate = certificate_of(authority.issue_client("alice"))
    assert [n.value for n in names(certificate)] == ["spiffe://memorystreamer.local/user/alice"]
    assert usages(certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH}


def test_server_certificate_speaks_for_no_node_and_no_user(authority: Authority) -> None:
    certificate = certificate_of(authority.issue_server("openbao", ["127.0.0.1"]))
    uris = names(certificate).get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == ["spiffe://memorystreamer.local/service/openbao"]
    assert usages(certificate) == {ExtendedKeyUsageOID.SERVER_AUTH}


def test_a_strict_verifier_accepts_both_directions(authority: Authority) -> None:
    root = x509.load_pem_x509_certificate(authority.certificate_file.read_bytes())
    policy = PolicyBuilder().store(Store([root])).time(NOW)
    node = certificate_of(authority.issue_node(1, ["localhost"]))
    client = certificate_of(authority.issue_client("alice"))
    policy.build_server_verifier(x509.DNSName("localhost")).verify(node, [])
    policy.build_client_verifier().verify(client, [])


def test_serial_numbers_are_random_and_long(authority: Authority) -> None:
    serials = {int(authority.issue_client("alice").serial, 16) for _ in range(8)}
    assert len(serials) == 8
    assert max(serials).bit_length() > 128
    assert max(serials) < 1 << 159


def test_no_leaf_outlives_the_authority(authority: Authority) -> None:
    root = x509.load_pem_x509_certificate(authority.certificate_file.read_bytes())
    leaf = certificate_of(authority.issue_client("alice", days=99_999))
    assert leaf.not_valid_after_utc == root.not_valid_after_utc


def test_revoked_certificate_is_on_the_list_and_the_number_grows(authority: Authority) -> None:
    first = crl_of(authority).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    issued, kept = authority.issue_client("alice"), authority.issue_client("bob")
    colons = ":".join(issued.serial[i : i + 2] for i in range(0, len(issued.serial), 2))
    authority.revoke(colons if len(issued.serial) % 2 == 0 else issued.serial.upper())
    held = crl_of(authority)
    assert held.get_revoked_certificate_by_serial_number(int(issued.serial, 16)) is not None
    assert held.get_revoked_certificate_by_serial_number(int(kept.serial, 16)) is None
    assert held.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == first + 1
    root = x509.load_pem_x509_certificate(authority.certificate_file.read_bytes())
    public = root.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert held.is_signature_valid(public)
    assert [entry.revoked_at for entry in authority.list()] == [NOW, None]


def test_a_second_revocation_keeps_the_first_time(tmp_path: Path) -> None:
    times = [NOW]
    authority = Authority.create(tmp_path / "ca", now=lambda: times[0])
    issued = authority.issue_client("alice")
    authority.revoke(issued.serial)
    times[0] = NOW + timedelta(days=1)
    assert authority.revoke(issued.serial).revoked_at == NOW


def test_unknown_serial_is_named(authority: Authority) -> None:
    with pytest.raises(UnknownCertificate, match="abc123"):
        authority.revoke("abc123")


def test_private_files_are_private(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue_client("alice")
    issued.save(certificate=tmp_path / "a.pem", key=tmp_path / "a-key.pem")
    for path in (tmp_path / "ca/ca-key.pem", tmp_path / "a-key.pem", tmp_path / "ca/ledger.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    key = serialization.load_pem_private_key((tmp_path / "a-key.pem").read_bytes(), None)
    assert key.public_key() == certificate_of(issued).public_key()
    assert "PRIVATE" not in repr(issued)


def test_reopened_authority_goes_on(tmp_path: Path) -> None:
    Authority.create(tmp_path, trust_domain="example.org").issue_client("alice")
    again = Authority.open(tmp_path)
    again.issue_node(2, ["localhost"])
    assert again.trust_domain == "example.org"
    assert [(e.kind, e.name) for e in again.list()] == [("client", "alice"), ("node", "2")]


def test_a_second_authority_in_one_directory_is_refused(authority: Authority) -> None:
    with pytest.raises(AuthorityExists):
        Authority.create(authority.certificate_file.parent)


def test_unfinished_set_up_starts_again(authority: Authority) -> None:
    authority.certificate_file.unlink()
    Authority.create(authority.certificate_file.parent).issue_client("alice")


def test_missing_authority_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NoAuthority, match="memorystreamer-certs init"):
        Authority.open(tmp_path)


def test_key_that_others_can_read_is_refused(authority: Authority) -> None:
    key = authority.certificate_file.parent / "ca-key.pem"
    key.chmod(0o640)
    with pytest.raises(UnusableDirectory, match="chmod 600"):
        Authority.open(key.parent)


def test_key_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    Authority.create(tmp_path / "other")
    (tmp_path / "other/ca-key.pem").replace(tmp_path / "ca/ca-key.pem")
    with pytest.raises(UnusableDirectory, match="not the key"):
        Authority.open(tmp_path / "ca")


def test_torn_ledger_is_named(authority: Authority) -> None:
    authority.certificate_file.with_name("ledger.json").write_text("{")
    with pytest.raises(UnusableDirectory, match="ledger"):
        Authority.open(authority.certificate_file.parent)


@pytest.mark.parametrize(
    "name", ["", "..", ".x", "a/b", "a\0b", "a\n", "ä", "a b", "a" * 129, "spiffe://x"]
)
def test_names_that_could_mean_something_else_are_refused(authority: Authority, name: str) -> None:
    with pytest.raises(InvalidName):
        authority.issue_client(name)
    assert authority.list() == ()


@pytest.mark.parametrize(
    "host", ["", "*.example", "a..b", "a b", "-a", "a\n", "ä.example", "a" * 64]
)
def test_hosts_that_are_no_plain_names_are_refused(authority: Authority, host: str) -> None:
    with pytest.raises(InvalidName):
        authority.issue_node(1, [host])


def test_node_without_host_or_with_a_negative_id_is_refused(authority: Authority) -> None:
    with pytest.raises(InvalidName):
        authority.issue_node(1, [])
    with pytest.raises(InvalidName):
        authority.issue_node(-1, ["localhost"])


@pytest.mark.parametrize("trust_domain", ["", "UPPER", "a/b", "a b", ".a", "a\n"])
def test_trust_domains_that_are_none_are_refused(tmp_path: Path, trust_domain: str) -> None:
    with pytest.raises(InvalidName):
        Authority.create(tmp_path / "ca", trust_domain=trust_domain)
    assert not (tmp_path / "ca").exists()
