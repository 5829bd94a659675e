"""Nobody is served or spoken to without proof of who they are, afresh on every connection."""

import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from OpenSSL import SSL

from appliance.errors import AuthenticationFailed, ConfigurationError
from appliance.server.tls import (
    HYBRID_GROUP,
    ServerContexts,
    TLSContext,
    TLSFiles,
    TLSStream,
    client_context,
    connect,
    server_context,
)


class Server:
    """Accepts one connection after another; remembers how each went."""

    def __init__(self, context: TLSContext) -> None:
        self.context = context
        self.port = 0
        self.outcomes: list[str | Exception] = []
        self.received = b""
        self.idle = trio.Event()

    async def run(self, task_status) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        async with listener:
            while True:
                stream = TLSStream(await listener.accept(), self.context)
                self.idle = trio.Event()
                try:
                    await stream.do_handshake()
                    self.outcomes.append(stream.group_name or "")
                    self.received += await stream.receive_some()
                    await stream.send_all(b"served")
                    await stream.aclose()
                except (AuthenticationFailed, trio.BrokenResourceError) as error:
                    self.outcomes.append(error)
                finally:
                    stream.abandon()
                    self.idle.set()


def against(context: TLSContext, body: Callable[[Server], Awaitable[None]]) -> Server:
    server = Server(context)

    async def play() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            await body(server)
            await server.idle.wait()
            nursery.cancel_scope.cancel()

    trio.run(play)
    return server


async def ask(port: int, context: TLSContext, host: str = "127.0.0.1") -> bytes:
    stream = await connect(host, port, context)
    try:
        await stream.send_all(b"secret")
        return await stream.receive_some()
    finally:
        stream.abandon()


async def in_thread(dialogue: Callable[[], object]) -> None:
    await trio.to_thread.run_sync(dialogue)


def stdlib_client(files: TLSFiles, *, certificate: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.ca)
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(files.certificate, files.key)
    return context


def test_both_sides_are_verified_and_the_key_exchange_is_hybrid(authority) -> None:
    async def body(server: Server) -> None:
        assert await ask(server.port, client_context(authority.issue("alice"))) == b"served"
        named = client_context(authority.issue("bob"), "required")
        stream = await connect("localhost", server.port, named)
        assert stream.group_name == HYBRID_GROUP
        await stream.send_all(b"secret")
        assert await stream.receive_some() == b"served"
        stream.abandon()

    server = against(server_context(authority.server(), "required"), body)
    assert server.outcomes[:2] == [HYBRID_GROUP, HYBRID_GROUP]


def test_an_unknown_authority_gets_an_alert_and_no_byte_of_it_is_read(authority, stranger) -> None:
    foreign = stranger.issue("mallory")
    files = TLSFiles(foreign.certificate, foreign.key, authority.ca)

    async def body(server: Server) -> None:
        with pytest.raises(AuthenticationFailed, match=r"unknown ca|certificate"):
            await ask(server.port, client_context(files))

    server = against(server_context(authority.server()), body)
    assert isinstance(server.outcomes[0], AuthenticationFailed)
    assert server.received == b""


def test_a_client_without_a_certificate_gets_an_alert(authority) -> None:
    context = stdlib_client(authority.issue("alice"), certificate=False)

    def dialogue(port: int) -> None:
        with ssl_connection(context, port) as connection:
            connection.send(b"secret")
            with pytest.raises(ssl.SSLError, match="ALERT"):
                connection.recv(1)

    async def body(server: Server) -> None:
        await in_thread(functools.partial(dialogue, server.port))

    server = against(server_context(authority.server()), body)
    assert isinstance(server.outcomes[0], AuthenticationFailed)
    assert server.received == b""


def ssl_connection(
    context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=5)
    try:
        return context.wrap_socket(raw, server_hostname="localhost", session=session)
    except BaseException:
        raw.close()
        raise


def test_tls_1_2_is_refused(authority) -> None:
    context = stdlib_client(authority.issue("alice"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def dialogue(port: int) -> None:
        with pytest.raises(ssl.SSLError):
            ssl_connection(context, port)

    async def body(server: Server) -> None:
        await in_thread(functools.partial(dialogue, server.port))

    server = against(server_context(authority.server()), body)
    assert len(server.outcomes) == 1
    assert isinstance(server.outcomes[0], Exception)


def test_plaintext_is_refused(authority) -> None:
    async def body(server: Server) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(b"\x00\x00\x00\x10plaintext frames")
            answer = await stream.receive_some()
            assert answer[:1] in (b"\x15", b"")  # A TLS alert, or just the end.

    server = against(server_context(authority.server()), body)
    assert isinstance(server.outcomes[0], trio.BrokenResourceError)
    assert server.received == b""


def test_a_required_hybrid_group_refuses_who_cannot(authority) -> None:
    files = authority.issue("alice")

    async def body(server: Server) -> None:
        context = client_context(files)
        context.openssl.set_tmp_ecdh(ec.SECP256R1())
        with pytest.raises((AuthenticationFailed, trio.BrokenResourceError)):
            await ask(server.port, context)

    server = against(server_context(authority.server(), "required"), body)
    assert isinstance(server.outcomes[0], AuthenticationFailed)
    assert server.received == b""


def test_no_session_can_be_taken_up_again(authority) -> None:
    """Neither by the client of the same context nor with a session that another server gave."""
    context = stdlib_client(authority.issue("alice"))
    lenient = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    files = authority.server()
    lenient.load_cert_chain(files.certificate, files.key)

    def foreign_session() -> ssl.SSLSession:
        listener = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            raw, _ = listener.accept()
            with lenient.wrap_socket(raw, server_side=True) as connection:
                connection.send(b"x")
                connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        with listener, ssl_connection(context, listener.getsockname()[1]) as connection:
            connection.recv(1)
            session = connection.session
            connection.send(b"x")
            thread.join()
        assert session is not None
        assert session.has_ticket
        return session

    def dialogue(port: int) -> None:
        session: ssl.SSLSession | None = foreign_session()
        for _ in range(3):
            with ssl_connection(context, port, session) as connection:
                assert not connection.session_reused
                connection.send(b"hello")
                assert connection.recv(6) == b"served"
                session = connection.session  # Whatever it holds, the next round offers it.

    async def body(server: Server) -> None:
        await in_thread(functools.partial(dialogue, server.port))

    server = against(server_context(authority.server()), body)
    assert server.received == b"hello" * 3


@pytest.mark.parametrize("usage", [(), (Usage.SERVER_AUTH,)])
def test_a_servers_certificate_is_no_clients(authority, usage) -> None:
    files = authority.issue("alice", usage=usage)

    async def body(server: Server) -> None:
        if usage:
            with pytest.raises(AuthenticationFailed):
                await ask(server.port, client_context(files))
        else:  # TLS lets it pass; the principal's check refuses it (see the tests of authn).
            assert await ask(server.port, client_context(files)) == b"served"

    against(server_context(authority.server()), body)


@pytest.mark.parametrize(
    "sans",
    [
        (x509.DNSName("elsewhere"),),
        (x509.DNSName("*"), x509.DNSName("*.localhost")),
        (x509.DNSName("127.0.0.1"),),
        (x509.IPAddress(IPv6Address("::1")),),
        (x509.UniformResourceIdentifier("https://127.0.0.1"),),
    ],
    ids=str,
)
def test_a_wrong_host_name_is_refused_before_a_byte_is_sent(authority, sans) -> None:
    files = authority.issue("localhost", usage=(Usage.SERVER_AUTH,), sans=sans)
    client = client_context(authority.issue("alice"))

    async def body(server: Server) -> None:
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(AuthenticationFailed, match="not for"):
                await ask(server.port, client, host)

    assert against(server_context(files), body).received == b""


@pytest.mark.parametrize("usage", [(), (Usage.CLIENT_AUTH,)])
def test_a_clients_certificate_is_no_servers(authority, usage) -> None:
    files = authority.issue("server", usage=usage, sans=(x509.DNSName("localhost"),))

    async def body(server: Server) -> None:
        with pytest.raises(AuthenticationFailed):
            await ask(server.port, client_context(authority.issue("alice")), "localhost")

    assert against(server_context(files), body).received == b""


def test_a_server_of_an_unknown_authority_is_refused(authority, stranger) -> None:
    async def body(server: Server) -> None:
        with pytest.raises(AuthenticationFailed):
            await ask(server.port, client_context(authority.issue("alice")))

    assert against(server_context(stranger.server()), body).received == b""


def test_a_revoked_certificate_is_refused_from_the_next_reload_on(authority) -> None:
    alice, bob = authority.issue("alice"), authority.issue("bob")
    files = authority.server(crl=authority.revocation_list())
    contexts = ServerContexts(files)

    async def body(server: Server) -> None:
        assert await ask(server.port, client_context(alice)) == b"served"
        authority.revocation_list(alice)
        contexts.reload()
        server.context = contexts.current
        # The accept under way still has the old context; the connection after it has the new one.
        assert await ask(server.port, client_context(bob)) == b"served"
        with pytest.raises(AuthenticationFailed, match="revoked"):
            await ask(server.port, client_context(alice))
        assert await ask(server.port, client_context(bob)) == b"served"

    against(contexts.current, body)


def test_a_reload_that_fails_keeps_the_context_in_force(authority) -> None:
    files = authority.server(crl=authority.revocation_list())
    contexts = ServerContexts(files)
    before = contexts.current
    assert files.crl is not None
    files.crl.write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"crl\.pem"):
        contexts.reload()
    assert contexts.current is before


@pytest.mark.parametrize("field", ["certificate", "key", "ca"])
def test_a_file_that_cannot_be_used_is_named(authority, field: str) -> None:
    files = authority.server()
    path = getattr(files, field)
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match=path.name):
        server_context(files)
    path.unlink()
    with pytest.raises(ConfigurationError, match=path.name):
        server_context(files)


def test_a_handshake_has_a_limit_of_bytes(authority) -> None:
    async def body(server: Server) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            # Records of a handshake message that declares 64 KiB and never ends.
            message = b"\x01\x00\xff\xff" + bytes(16_380)
            for _ in range(4):
                await stream.send_all(b"\x16\x03\x01\x40\x00" + message)
                message = bytes(16_384)
            with contextlib.suppress(trio.BrokenResourceError):
                assert await stream.receive_some() == b""

    server = against(server_context(authority.server()), body)
    assert [str(outcome) for outcome in server.outcomes] == ["the handshake is too large"]


def test_openssl_is_new_enough_for_the_hybrid_group() -> None:
    assert SSL.OPENSSL_VERSION_NUMBER >= 0x30500000
