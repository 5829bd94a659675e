"""TLS 1.3 with certificates on both sides, as `server.tls` promises it, over real sockets."""

import socket
import ssl

import msgspec
import pytest
import trio

from appliance.errors import AuthenticationFailed, ConfigurationError
from appliance.limits import MIB
from appliance.server import tls
from appliance.server.tls import HYBRID_GROUP, TLSFiles


async def over_loopback(server, files, client_side):
    """Runs `server(stream)` for one accepted connection, and `client_side(port)` beside it."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    outcome = {}

    async def serve():
        transport = await listener.accept()
        try:
            stream = await tls.accept(transport, tls.server_context(files))
        except AuthenticationFailed as refusal:
            outcome["refused"] = refusal
            return
        async with stream:
            outcome["server"] = await server(stream)

    with trio.fail_after(20):
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            outcome["client"] = await client_side(port)
    return outcome


async def _echo(stream):
    while data := await stream.receive_some():
        await stream.send_all(data)
    return stream.group


def test_the_hybrid_group_is_negotiated_and_bytes_come_back(pki):
    async def main():
        async def client(port):
            stream = await tls.connect(
                "127.0.0.1", port, tls.client_context(pki.client("a"), "required")
            )
            async with stream:
                await stream.send_all(b"hello")
                return await stream.receive_some()

        outcome = await over_loopback(_echo, pki.node(), client)
        assert outcome["client"] == b"hello"
        assert outcome["server"] == HYBRID_GROUP

    trio.run(main)


def test_large_frames_arrive_whole_through_receive_into(pki):
    payload = bytes(range(256)) * (3 * MIB // 256)

    async def receive(stream):
        target = bytearray(len(payload))
        view, at = memoryview(target), 0
        while at < len(target):
            at += await stream.receive_into(view[at:])
        return bytes(target)

    async def main():
        async def client(port):
            stream = await tls.connect("127.0.0.1", port, tls.client_context(pki.client("a")))
            async with stream:
                await stream.send_buffers([payload[:10], memoryview(payload)[10:]])
                assert await stream.receive_some() == b""

        outcome = await over_loopback(receive, pki.node(), client)
        assert outcome["server"] == payload

    trio.run(main)


async def _never_reads(stream):
    pytest.fail("an application byte could be read from a peer that is not known")


async def _stdlib_client(context, port, *, session=None):
    """Handshakes with the standard library in a thread, and says how it ended."""

    def attempt():
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=session) as wrapped,
        ):
            wrapped.sendall(b"secret")
            answer = wrapped.recv(6), wrapped.session_reused, wrapped.session
            wrapped.unwrap().close()
            return answer

    return await trio.to_thread.run_sync(attempt)


def _stdlib_context(files: TLSFiles, *, with_certificate: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.authority))
    if with_certificate:
        context.load_cert_chain(files.certificate, files.key)
    return context


def test_a_certificate_of_another_authority_gets_an_alert_and_no_byte_is_read(pki, foreign_pki):
    stranger = foreign_pki.client("mallory")
    files = TLSFiles(stranger.certificate, stranger.key, pki.node().authority)

    async def main():
        async def client(port):
            with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca|alert"):
                await _stdlib_client(_stdlib_context(files), port)

        outcome = await over_loopback(_never_reads, pki.node(), client)
        assert "refused" in outcome

    trio.run(main)


def test_a_client_without_a_certificate_gets_an_alert(pki):
    async def main():
        async def client(port):
            context = _stdlib_context(pki.client("a"), with_certificate=False)
            with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
                await _stdlib_client(context, port)

        assert "refused" in await over_loopback(_never_reads, pki.node(), client)

    trio.run(main)


def test_tls_1_2_is_refused(pki):
    async def main():
        async def client(port):
            context = _stdlib_context(pki.client("a"))
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(ssl.SSLError):
                await _stdlib_client(context, port)

        assert "refused" in await over_loopback(_never_reads, pki.node(), client)

    trio.run(main)


def test_an_offered_session_gets_a_full_handshake(pki):
    async def main():
        context = _stdlib_context(pki.client("a"))
        sessions = []
        for _ in range(2):

            async def client(port):
                session = sessions[-1] if sessions else None
                _, reused, kept = await _stdlib_client(context, port, session=session)
                sessions.append(kept)
                return reused

            outcome = await over_loopback(_echo, pki.node(), client)
            assert outcome["client"] is False

    trio.run(main)


def test_a_server_for_another_host_is_refused_before_a_byte_is_sent(pki):
    async def main():
        async def received(stream):
            return await stream.receive_some()

        async def client(port):
            with pytest.raises(AuthenticationFailed, match=r"not for 127\.0\.0\.1"):
                await tls.connect("127.0.0.1", port, tls.client_context(pki.client("a")))

        async def tolerant(stream):
            with pytest.raises(trio.BrokenResourceError):
                await received(stream)

        await over_loopback(tolerant, pki.node(7, ("elsewhere.example",)), client)

    trio.run(main)


def test_a_revoked_certificate_is_refused(tmp_path, pki):
    own = type(pki)(tmp_path)
    issued = own.authority.issue_client("leaver")
    issued.save(certificate=tmp_path / "l.pem", key=tmp_path / "l-key.pem")
    own.authority.revoke(issued.serial)
    node = own.node()
    files = TLSFiles(node.certificate, node.key, node.authority, tmp_path / "ca" / "crl.pem")
    leaver = TLSFiles(tmp_path / "l.pem", tmp_path / "l-key.pem", node.authority)

    async def main():
        async def client(port):
            with pytest.raises(ssl.SSLError, match=r"(?i)revoked"):
                await _stdlib_client(_stdlib_context(leaver), port)

        outcome = await over_loopback(_never_reads, files, client)
        assert "verify failed" in str(outcome["refused"])

    trio.run(main)


def test_a_peer_that_vanishes_is_not_taken_for_one_that_has_finished(pki):
    async def main():
        async def server(stream):
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

        async def client(port):
            stream = await tls.connect("127.0.0.1", port, tls.client_context(pki.client("a")))
            await trio.aclose_forcefully(stream._transport)

        await over_loopback(server, pki.node(), client)

    trio.run(main)


def test_plaintext_is_refused(pki):
    async def main():
        async def client(port):
            plain = await trio.open_tcp_stream("127.0.0.1", port)
            async with plain:
                await plain.send_all(b"\x00\x00\x00\x10" + bytes(16))
                assert await plain.receive_some() != b"hello"

        assert "refused" in await over_loopback(_never_reads, pki.node(), client)

    trio.run(main)


@pytest.mark.parametrize("broken", ["certificate", "key", "authority"])
def test_a_file_that_cannot_be_used_is_named(pki, tmp_path, broken):
    missing = tmp_path / "missing.pem"
    files = msgspec.structs.replace(pki.node(), **{broken: missing})
    with pytest.raises(ConfigurationError, match=str(missing)):
        tls.server_context(files)


def test_a_key_of_another_certificate_is_named(pki):
    files = msgspec.structs.replace(pki.node(), key=pki.client("other").key)
    with pytest.raises(ConfigurationError, match="fits the others"):
        tls.server_context(files)
