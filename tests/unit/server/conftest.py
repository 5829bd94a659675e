"""Real certificates and real sockets on loopback for the tests of connections."""

import datetime as dt
import functools
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

from appliance.server.connection import Connection, ConnectionLimits
from appliance.server.dialects import NativeDialect
from appliance.server.shares import Budgets
from appliance.server.tls import TLSFiles, TLSStream, client_context, connect, server_context
from appliance.wire.session import State
from tests.unit.server.server_scene import CALLER, Body, Broker, Client, Scene

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


class Authority:
    """A certificate authority for one test session, with its files in one directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(self.name, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False),
                critical=True,
            )
            .sign(self.key, hashes.SHA256())
        )
        self.ca = directory / f"{name}.pem"
        self.ca.write_bytes(certificate.public_bytes(Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(issuer_key, critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )

    def issue(
        self,
        name: str,
        *,
        usage: tuple[x509.ObjectIdentifier, ...] = (Usage.CLIENT_AUTH,),
        sans: tuple[x509.GeneralName, ...] | None = None,
        crl: Path | None = None,
    ) -> TLSFiles:
        """Files of a new certificate, trusting this authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = sans or (
            x509.UniformResourceIdentifier(f"spiffe://memorystreamer.local/user/{name}"),
        )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            self._builder(subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        files = TLSFiles(
            self.directory / f"{name}.crt", self.directory / f"{name}.key", self.ca, crl
        )
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def server(self, *, crl: Path | None = None) -> TLSFiles:
        """Files of a server on loopback."""
        return self.issue(
            "server",
            usage=(Usage.SERVER_AUTH, Usage.CLIENT_AUTH),
            sans=(x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))),
            crl=crl,
        )

    def revocation_list(self, *revoked: TLSFiles) -> Path:
        """A fresh revocation list that names these certificates."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(NOW - DAY)
            .next_update(NOW + DAY)
        )
        for files in revoked:
            serial = x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW).build()
            )
        path = self.directory / "crl.pem"
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """An authority that servers do not trust."""
    return Authority(tmp_path, "stranger")


class Pair:
    """A server's and a client's stream, joined and up."""

    def __init__(self, server: TLSStream, client: TLSStream) -> None:
        self.server = server
        self.client = client


@pytest.fixture
def join() -> Callable[[Authority, Callable[[Pair], Awaitable[None]]], None]:
    """Runs a test's body with two ends of one connection."""

    async def play(authority: Authority, body: Callable[[Pair], Awaitable[None]]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        contexts = server_context(authority.server()), client_context(authority.issue("alice"))
        ends: list[TLSStream] = []

        async def accept() -> None:
            stream = TLSStream(await listener.accept(), contexts[0])
            await stream.do_handshake()
            ends.append(stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            client = await connect("127.0.0.1", port, contexts[1])
        try:
            await body(Pair(ends[0], client))
        finally:
            ends[0].abandon()
            client.abandon()
            await listener.aclose()

    def run(authority: Authority, body: Callable[[Pair], Awaitable[None]]) -> None:
        trio.run(functools.partial(play, authority, body))

    return run


@pytest.fixture
def play(authority, join) -> Callable[..., None]:
    """Runs a test's body against a connection, and checks that all memory came back."""

    async def on_pair(
        body: Body, limits: ConnectionLimits, budgets: Budgets, broker: Broker, pair
    ) -> None:
        connection = Connection(
            pair.server, CALLER, NativeDialect(), broker, budgets=budgets, limits=limits
        )
        scene = Scene(connection, broker, budgets, Client(pair.client))

        async def serve() -> None:
            await connection.serve()
            await pair.server.aclose()
            scene.ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await body(scene)
            pair.client.abandon()
        assert connection.state is State.CLOSED
        assert budgets.client_requests.free == budgets.client_requests.capacity
        assert budgets.client_replies.free == budgets.client_replies.capacity

    def run(
        body: Body,
        *,
        limits: ConnectionLimits | None = None,
        budgets: Budgets | None = None,
        broker: Broker | None = None,
    ) -> None:
        # A broker holds an event, so it is made here, where trio runs or is about to.
        join(
            authority,
            functools.partial(
                on_pair,
                body,
                limits or ConnectionLimits(max_close_s=0.05),
                budgets or Budgets(),
                broker or Broker(),
            ),
        )

    return run
