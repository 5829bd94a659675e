"""A listener for logins: nothing is answered before one, and nothing after its session's end."""

import base64
import contextlib
import hashlib
import hmac
import struct

import pytest
import trio
import trio.testing
from OpenSSL import SSL

from appliance.authn.login import Login
from appliance.authn.mechanisms import mechanisms
from appliance.authn.sasl_scram import SHA_256, credential
from appliance.limits import MAX_LOGIN_S
from appliance.server.dialects import KafkaDialect
from appliance.server.listener import Listener
from appliance.server.login_gate import ByLogin
from appliance.server.shares import Budgets
from appliance.server.tls import ServerContexts, TLSFiles, TLSStream
from appliance.wire.requests import MetadataResult

METADATA = struct.pack(">hhi", 3, 0, 7) + b"\xff\xff" + struct.pack(">i", 0)
PASSWORDS = {"alice": b"pencil", "bob": b"eraser"}


class Users:
    """Alice and Bob, by SCRAM-SHA-256."""

    def find(self, user, mechanism):
        password = PASSWORDS.get(user)
        if password is None or mechanism != SHA_256:
            return None
        salted = hashlib.pbkdf2_hmac("sha256", password, user.encode(), 4096)
        return credential(mechanism, salted, salt=user.encode(), iterations=4096)

    def shapes(self, mechanism):
        return {(4096, 5): 2} if mechanism == SHA_256 else {}

    def decoy_secret(self):
        return b"a secret of the cluster"


class Broker:
    meter = None

    def __init__(self):
        self.callers, self.failures, self.asked = [], [], []

    async def login(self, caller):
        self.callers.append(str(caller.principal))

    async def login_failed(self, listener, address, reason):
        self.failures.append(reason)

    async def dispatch(self, caller, request):
        self.asked.append((str(caller.principal), type(request).__name__))
        return MetadataResult("cluster", -1, (), ())


class Client:
    """Speaks to the listener without a certificate."""

    def __init__(self, stream):
        self.stream = stream

    async def ask(self, frame):
        await self.stream.send_all(struct.pack(">i", len(frame)) + frame)
        with trio.fail_after(20):
            size = struct.unpack(">i", await self._exactly(4))[0]
            return (await self._exactly(size))[4:]

    async def _exactly(self, count):
        data = b""
        while len(data) < count:
            more = await self.stream.receive_some(count - len(data))
            if not more:
                raise trio.BrokenResourceError("closed")
            data += bytes(more)
        return data

    async def handshake(self, mechanism=SHA_256):
        header = struct.pack(">hhi", 17, 1, 1) + b"\xff\xff"
        body = await self.ask(header + struct.pack(">h", len(mechanism)) + mechanism.encode())
        return struct.unpack_from(">h", body)[0]

    async def authenticate(self, message):
        header = struct.pack(">hhi", 36, 1, 2) + b"\xff\xff"
        body = await self.ask(header + struct.pack(">i", len(message)) + message)
        error, size = struct.unpack_from(">hh", body)
        start = 4 + max(size, 0)
        count = struct.unpack_from(">i", body, start)[0]
        reply = body[start + 4 : start + 4 + count]
        return error, reply, struct.unpack_from(">q", body, start + 4 + count)[0]

    async def log_in(self, user="alice", password=None):
        assert await self.handshake() == 0
        first = f"n,,n={user},r=abc"
        error, reply, _ = await self.authenticate(first.encode())
        assert error == 0
        fields = dict(part.split("=", 1) for part in reply.decode().split(","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", password or PASSWORDS[user], base64.b64decode(fields["s"]), 4096
        )
        key = hmac.digest(salted, b"Client Key", "sha256")
        bare = f"c=biws,r={fields['r']}"
        signed = f"{first[3:]},{reply.decode()},{bare}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        last = f"{bare},p={base64.b64encode(proof).decode()}"
        error, _, lifetime_ms = await self.authenticate(last.encode())
        return error, lifetime_ms


class Place:
    def __init__(self, port, broker, now, authority):
        self.port, self.broker, self.now, self.authority = port, broker, now, authority

    @contextlib.asynccontextmanager
    async def client(self):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.load_verify_locations(bytes(self.authority.ca))
        context.set_verify(SSL.VERIFY_PEER)
        connection = SSL.Connection(context, None)
        connection.set_connect_state()
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            yield Client(await handshake(stream, connection))


async def handshake(stream, connection):
    """A client's TLS over a memory BIO, as plain as it gets."""

    class Plain:
        async def send_all(self, data):
            connection.sendall(data)
            await flush()

        async def receive_some(self, count):
            while True:
                try:
                    return connection.recv(count)
                except SSL.WantReadError:
                    if not await feed():
                        return b""
                except (SSL.ZeroReturnError, SSL.Error):
                    return b""

    async def flush():
        while True:
            try:
                data = connection.bio_read(65_536)
            except SSL.WantReadError:
                return
            await stream.send_all(data)

    async def feed():
        try:
            data = await stream.receive_some(65_536)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        if data:
            connection.bio_write(data)
        return bool(data)

    while True:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            await flush()
            await feed()
        else:
            await flush()
            return Plain()


@pytest.fixture
def play(authority):
    """Runs a test with a listener for logins and its place; `max_session_ms` bounds sessions."""

    def runs(body, *, max_session_ms=60_000, certificate="optional", clock=None):
        async def main():
            broker, now = Broker(), [1000]
            begins = mechanisms((SHA_256,), Users(), lambda count: bytes(range(count)), None)

            def begin():
                return Login(begins, now_ms=lambda: now[0], max_session_ms=max_session_ms)

            listener = Listener(
                "login",
                KafkaDialect(),
                broker,
                ByLogin(begin),
                contexts=ServerContexts(authority.server(), "preferred", certificate),
                budgets=Budgets(),
            )
            port = await listener.bind("127.0.0.1", 0)
            async with trio.open_nursery() as nursery:
                await nursery.start(listener.serve)
                await body(Place(port, broker, now, authority))
                listener.stop()
                nursery.cancel_scope.cancel()

        trio.run(main, clock=clock)

    return runs


async def closes(client, frame):
    with pytest.raises((trio.BrokenResourceError, AssertionError)):
        await client.ask(frame)


def test_a_client_without_a_certificate_logs_in_and_is_that_principal_from_then_on(play):
    async def body(place):
        async with place.client() as client:
            assert await client.log_in() == (0, 60_000)
            await client.ask(METADATA)
        assert place.broker.callers == ["User:alice"]
        assert place.broker.asked == [("User:alice", "Metadata")]

    play(body)


def test_before_the_login_nothing_but_the_table_of_versions_is_answered(play):
    async def body(place):
        async with place.client() as client:
            versions = await client.ask(struct.pack(">hhi", 18, 0, 1) + b"\xff\xff")
            assert struct.unpack_from(">hi", versions) > (0, 10)
            await closes(client, METADATA)
        assert place.broker.asked == []

    play(body)


def test_a_large_frame_before_the_login_is_not_read(play):
    async def body(place):
        async with place.client() as client:
            await closes(client, METADATA + bytes(20_000))
        assert place.broker.asked == []

    play(body)


@pytest.mark.parametrize(("user", "password"), [("alice", b"wrong"), ("nobody", b"pencil")])
def test_a_failed_login_is_recorded_told_and_the_end(play, user, password):
    async def body(place):
        async with place.client() as client:
            assert await client.log_in(user, password) == (58, 0)
            await closes(client, METADATA)
        assert place.broker.failures == ["name or password is wrong"]
        assert place.broker.callers == place.broker.asked == []

    play(body)


@pytest.mark.parametrize(("mechanism", "code"), [("PLAIN", 33), ("SCRAM-SHA-512", 33)])
def test_a_mechanism_that_is_not_offered_is_the_end(play, mechanism, code):
    async def body(place):
        async with place.client() as client:
            assert await client.handshake(mechanism) == code
            await closes(client, METADATA)

    play(body)


def test_a_session_ends_with_its_lifetime_unless_its_login_is_renewed(play):
    async def body(place):
        async with place.client() as client:
            assert await client.log_in() == (0, 5000)
            place.now[0] += 4000
            assert await client.log_in() == (0, 5000)
            place.now[0] += 4000
            await client.ask(METADATA)
            place.now[0] += 1000
            await closes(client, METADATA)
        assert place.broker.callers == ["User:alice"] * 2

    play(body, max_session_ms=5000)


def test_a_renewed_login_cannot_make_somebody_else_of_a_connection(play):
    async def body(place):
        async with place.client() as client:
            await client.log_in("alice")
            assert (await client.log_in("bob"))[0] == 58
            await closes(client, METADATA)
        assert place.broker.callers == ["User:alice"]
        assert place.broker.asked == []

    play(body)


def test_where_a_certificate_is_required_a_login_does_not_replace_it(play):
    async def body(place):
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            async with place.client() as client:
                await client.handshake()
        assert place.broker.callers == []

    play(body, certificate="required")


def test_a_login_that_takes_too_long_is_cut(play):
    async def body(place):
        async with place.client() as client:
            await client.handshake()
            with trio.fail_after(MAX_LOGIN_S + 5):
                assert await client.stream.receive_some(1) == b""

    play(body, clock=trio.testing.MockClock(rate=20))


def test_no_listener_without_a_login_lets_anybody_in_without_a_certificate(authority):
    files: TLSFiles = authority.server()
    contexts = ServerContexts(files)
    flags = contexts.current.openssl.get_verify_mode()
    assert flags & 2, "a certificate is required"
    assert TLSStream is not None
