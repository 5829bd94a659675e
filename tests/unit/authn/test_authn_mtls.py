"""One certificate, one principal: whatever two readers could read in two ways is refused."""

import datetime as dt
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from appliance.authn.mtls import CertificatePrincipals
from appliance.errors import AuthenticationFailed, ConfigurationError
from appliance.types import Principal, PrincipalKind

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = dt.datetime.now(dt.UTC)
DOMAIN = "spiffe://memorystreamer.local"
CLIENTS = CertificatePrincipals("memorystreamer.local", allow_nodes=False)
PEERS = CertificatePrincipals("memorystreamer.local", allow_nodes=True)
EMPTY = x509.Name([])


def uri(value: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(value)


def certificate(
    *names: x509.GeneralName,
    usage: tuple[x509.ObjectIdentifier, ...] | None = (Usage.CLIENT_AUTH,),
    subject: x509.Name = EMPTY,
    ca: bool | None = False,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("name", ["alice", "a", "a" * 249, "svc-1.eu_west", "0", "A"])
def test_a_user_is_its_name(name: str) -> None:
    expected = Principal(PrincipalKind.USER, name)
    assert CLIENTS.principal(certificate(uri(f"{DOMAIN}/user/{name}"))) == expected


def test_a_node_is_its_number_where_nodes_are_allowed() -> None:
    der = certificate(
        uri(f"{DOMAIN}/node/17"),
        x509.DNSName("localhost"),
        x509.IPAddress(IPv4Address("127.0.0.1")),
        usage=(Usage.SERVER_AUTH, Usage.CLIENT_AUTH),
    )
    assert PEERS.principal(der) == Principal(PrincipalKind.NODE, "17")
    with pytest.raises(AuthenticationFailed, match="not accepted on this listener"):
        CLIENTS.principal(der)


HOSTILE_URIS = (
    # Another trust domain, or one that looks alike.
    "spiffe://other.local/user/alice",
    "spiffe://memorystreamer.local.evil/user/alice",
    "spiffe://memorystreamer.localevil/user/alice",
    "spiffe://evil.memorystreamer.local/user/alice",
    "spiffe://MEMORYSTREAMER.local/user/alice",
    "spiffe://memorystreamer.local./user/alice",
    # Parts of a URI that a parser would take apart.
    "spiffe://evil@memorystreamer.local/user/alice",
    "spiffe://memorystreamer.local@evil/user/alice",
    "spiffe://memorystreamer.local:443/user/alice",
    f"{DOMAIN}/user/alice?as=admin",
    f"{DOMAIN}/user/alice#admin",
    f"{DOMAIN}/user/alice;v=1",
    # Other schemes and none.
    "SPIFFE://memorystreamer.local/user/alice",
    "https://memorystreamer.local/user/alice",
    "//memorystreamer.local/user/alice",
    "spiffe:/memorystreamer.local/user/alice",
    "/user/alice",
    "",
    # Paths that are not exactly two segments of the right kind.
    DOMAIN,
    f"{DOMAIN}/",
    f"{DOMAIN}/user",
    f"{DOMAIN}/user/",
    f"{DOMAIN}//user/alice",
    f"{DOMAIN}/user//alice",
    f"{DOMAIN}/user/alice/",
    f"{DOMAIN}/user/alice/admin",
    f"{DOMAIN}/user/../user/alice",
    f"{DOMAIN}/./user/alice",
    f"{DOMAIN}/User/alice",
    f"{DOMAIN}/users/alice",
    f"{DOMAIN}/admin/alice",
    # Names outside the alphabet.
    f"{DOMAIN}/user/.",
    f"{DOMAIN}/user/..",
    f"{DOMAIN}/user/-alice",
    f"{DOMAIN}/user/_alice",
    f"{DOMAIN}/user/al%69ce",
    f"{DOMAIN}/user/alice%00",
    f"{DOMAIN}/user/alice%2fadmin",
    f"{DOMAIN}/user/a b",
    f"{DOMAIN}/user/a,b",
    f"{DOMAIN}/user/a*",
    f"{DOMAIN}/user/a:b",
    f"{DOMAIN}/user/a\nb",
    f"{DOMAIN}/user/alice\n",
    f"{DOMAIN}/user/alice\r",
    f"{DOMAIN}/user/alice\x00",
    f"{DOMAIN}/user/alice ",
    f" {DOMAIN}/user/alice",
    f"{DOMAIN}/user/" + "a" * 250,
    # Numbers that are none, or that have two spellings.
    f"{DOMAIN}/node/",
    f"{DOMAIN}/node/01",
    f"{DOMAIN}/node/-1",
    f"{DOMAIN}/node/+1",
    f"{DOMAIN}/node/1_0",
    f"{DOMAIN}/node/one",
    f"{DOMAIN}/node/2147483648",
    f"{DOMAIN}/node/99999999999",
)


@pytest.mark.parametrize("value", HOSTILE_URIS, ids=ascii)
def test_uris_that_are_not_exactly_a_principal_are_refused(value: str) -> None:
    with pytest.raises(AuthenticationFailed) as refusal:
        PEERS.principal(certificate(uri(value)))
    assert "alice" not in str(refusal.value)


def test_letters_that_only_look_the_same_are_refused() -> None:
    """A name in Cyrillic, put past the builder, which would insist on ASCII as RFC 5280 does."""
    placeholder = "aliceXX"
    der = certificate(uri(f"{DOMAIN}/user/{placeholder}"))
    forged = der.replace(placeholder.encode(), "\u0430lice".encode() + b"x")
    assert forged != der
    with pytest.raises(AuthenticationFailed):
        CLIENTS.principal(forged)


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.DNSName("alice"),),
        (x509.RFC822Name("alice@memorystreamer.local"),),
        (x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")])),),
        (x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x05alice"),),
        (x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),),
        (x509.DNSName(f"{DOMAIN}/user/alice"),),
    ],
    ids=["none", "DNS", "e-mail", "directory", "other", "registered id", "a URI as a DNS name"],
)
def test_no_other_kind_of_name_makes_a_principal(names) -> None:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{DOMAIN}/user/alice")])
    with pytest.raises(AuthenticationFailed):
        CLIENTS.principal(certificate(*names, subject=subject))


@pytest.mark.parametrize(
    "second", [f"{DOMAIN}/user/admin", f"{DOMAIN}/user/alice", "https://example.org/"]
)
def test_a_second_uri_is_refused_wherever_it_stands(second: str) -> None:
    first = uri(f"{DOMAIN}/user/alice")
    for names in ((first, uri(second)), (uri(second), first), (first, x509.DNSName("x"), first)):
        with pytest.raises(AuthenticationFailed, match="exactly one"):
            CLIENTS.principal(certificate(*names))


@pytest.mark.parametrize(
    "subject",
    [
        [(NameOID.COMMON_NAME, "admin")],
        [(NameOID.COMMON_NAME, "alice"), (NameOID.COMMON_NAME, "admin")],
        [(NameOID.COMMON_NAME, "alice,CN=admin")],
        [(NameOID.COMMON_NAME, "alice\x00.evil")],
        [(NameOID.ORGANIZATION_NAME, "O"), (NameOID.USER_ID, "admin")],
    ],
    ids=str,
)
def test_the_subject_says_nothing(subject) -> None:
    name = x509.Name([x509.RelativeDistinguishedName([x509.NameAttribute(*a)]) for a in subject])
    der = certificate(uri(f"{DOMAIN}/user/alice"), subject=name)
    assert CLIENTS.principal(der) == Principal(PrincipalKind.USER, "alice")


@pytest.mark.parametrize(
    "usage",
    [None, (Usage.SERVER_AUTH,), (Usage.ANY_EXTENDED_KEY_USAGE,), (Usage.CODE_SIGNING,)],
    ids=str,
)
def test_a_certificate_that_is_not_for_clients_is_refused(usage) -> None:
    with pytest.raises(AuthenticationFailed):
        CLIENTS.principal(certificate(uri(f"{DOMAIN}/user/alice"), usage=usage))


def test_an_authority_is_no_principal_and_constraints_may_be_left_out() -> None:
    name = uri(f"{DOMAIN}/user/alice")
    with pytest.raises(AuthenticationFailed, match="authority"):
        CLIENTS.principal(certificate(name, ca=True))
    assert CLIENTS.principal(certificate(name, ca=None)).name == "alice"


def test_an_extension_that_is_there_twice_is_refused() -> None:
    """Two alternative names, of which two libraries might each believe another one."""
    der = certificate(uri(f"{DOMAIN}/user/alice"))
    basic = bytes.fromhex("0603551d13")  # Basic constraints, made a second alternative name.
    assert basic in der
    with pytest.raises(AuthenticationFailed):
        CLIENTS.principal(der.replace(basic, bytes.fromhex("0603551d11")))


ALICE = certificate(uri(f"{DOMAIN}/user/alice"))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.data())
def test_damaged_certificates_are_refused_or_name_the_same_kind(data: st.DataObject) -> None:
    der = bytearray(ALICE)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        principal = CLIENTS.principal(bytes(der))
    except AuthenticationFailed:
        return
    assert principal.kind is PrincipalKind.USER


def test_an_unheard_of_version_is_refused() -> None:
    version = b"\xa0\x03\x02\x01\x02"
    assert version in ALICE
    with pytest.raises(AuthenticationFailed):
        CLIENTS.principal(ALICE.replace(version, b"\xa0\x03\x02\x01\x30"))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_are_refused(der: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        CLIENTS.principal(der)


@pytest.mark.parametrize("domain", ["", "A.local", "a/b", "a local", "a@b", "a%41", "-a", "a."])
def test_a_trust_domain_is_checked_at_start(domain: str) -> None:
    with pytest.raises(ConfigurationError):
        CertificatePrincipals(domain, allow_nodes=False)


def test_only_a_node_is_let_in_where_nodes_meet() -> None:
    node = certificate(uri(f"{DOMAIN}/node/7"))
    assert PEERS.node(node) == Principal(PrincipalKind.NODE, "7")
    with pytest.raises(AuthenticationFailed, match="only certificates of nodes"):
        PEERS.node(certificate(uri(f"{DOMAIN}/user/alice")))
    with pytest.raises(AuthenticationFailed, match="not accepted on this listener"):
        CLIENTS.principal(node)
