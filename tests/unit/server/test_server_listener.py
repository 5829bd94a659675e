"""Who comes in is known, counted and timed; who is not leaves a record and nothing else."""

import contextlib
import errno
import functools
import socket
from collections.abc import Awaitable, Callable
from typing import get_args

import pytest
import trio
import trio.testing

from appliance.authn.mtls import CertificatePrincipals
from appliance.broker.caller import Caller
from appliance.errors import AuthenticationFailed, ConfigurationError, ErrorCode, StorageError
from appliance.limits import (
    CONNECTION_SWEEP_S,
    MAX_FRAME_READ_S,
    MAX_HANDSHAKE_S,
    MAX_IDLE_S,
    MAX_STRANGERS_LINES_PER_S,
    MAX_THROTTLED_SOCKETS,
)
from appliance.server import listener as listener_module
from appliance.server.admission import AdmissionLimits, origin_of
from appliance.server.dialects import NativeDialect
from appliance.server.listener import Listener
from appliance.server.shares import Budgets
from appliance.server.tls import ServerContexts, TLSFiles, TLSStream, client_context, connect
from appliance.types import Principal, PrincipalKind
from appliance.wire.native import codec
from appliance.wire.requests import AnyRequest, AnyResponse, Metadata, Refused, Response
from appliance.wire.requests.peer import AnyPeerResponse, PeerResponse

ANSWER = Refused(ErrorCode.NONE, "")


class Broker:
    """Answers everything, and remembers who came and who was turned away."""

    meter = None

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.turned_away: list[str] = []
        self.requests = 0
        self.hold = False

    async def login(self, caller: Caller) -> None:
        self.callers.append(caller)

    async def login_failed(self, listener: str, address: str, reason: str) -> None:
        self.turned_away.append(f"{listener} {address} {reason}")
        raise StorageError("a record that cannot be kept does not let anyone in")

    async def dispatch(self, caller: Caller, request: AnyRequest) -> Response:
        self.requests += 1
        if self.hold:
            await trio.sleep_forever()
        return ANSWER


class Place:
    """A listener that serves, and what is behind it."""

    def __init__(self, listener: Listener[codec.NativeCall], port: int, broker: Broker) -> None:
        self.listener = listener
        self.port = port
        self.broker = broker


async def settle(holds: Callable[[], bool]) -> None:
    """Waits until something that is sure to come has come."""
    for _ in range(200_000):
        if holds():
            return
        await trio.lowlevel.checkpoint()
    raise AssertionError("it has not come")


async def ask(stream: TLSStream) -> None:
    await stream.send_all(b"".join(codec.encode_request(1, Metadata(None))))
    answer = await stream.receive_some()
    assert codec.decode_response(memoryview(answer)[4:]) == (1, ANSWER)


async def ends(stream: TLSStream) -> None:
    """Waits for the server to end the connection."""
    with contextlib.suppress(trio.BrokenResourceError):
        assert await stream.receive_some() == b""


@pytest.fixture
def place(authority) -> Callable[..., None]:
    """Runs a test's body beside a listener; time stands still but for what the body jumps."""

    async def play(
        body: Callable[[Place], Awaitable[None]], files: TLSFiles, limits: AdmissionLimits | None
    ) -> None:
        broker = Broker()
        listener = Listener(
            "native",
            NativeDialect(),
            broker,
            CertificatePrincipals("memorystreamer.local", allow_nodes=False).principal,
            contexts=ServerContexts(files),
            budgets=Budgets(strangers_share=1),
            admission_limits=limits,
        )
        port = await listener.bind("127.0.0.1", 0)
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.serve)
            await body(Place(listener, port, broker))
            nursery.cancel_scope.cancel()

    def run(
        body: Callable[[Place], Awaitable[None]],
        *,
        limits: AdmissionLimits | None = None,
        clock: trio.testing.MockClock | None = None,
    ) -> None:
        trio.run(functools.partial(play, body, authority.server(), limits), clock=clock)

    return run


def test_a_verified_client_is_served_as_its_principal(place, authority) -> None:
    async def body(here: Place) -> None:
        stream = await connect("127.0.0.1", here.port, client_context(authority.issue("alice")))
        await ask(stream)
        await ask(stream)
        alice = Principal(PrincipalKind.USER, "alice")
        assert here.broker.callers == [Caller(alice, "native", "127.0.0.1")]
        stream.abandon()

    place(body)


def test_an_unknown_authority_is_recorded_and_nothing_of_it_is_dispatched(
    place, authority, stranger
) -> None:
    foreign = stranger.issue("mallory")
    context = client_context(TLSFiles(foreign.certificate, foreign.key, authority.ca))

    async def body(here: Place) -> None:
        stream = await connect("127.0.0.1", here.port, context)
        with pytest.raises(AuthenticationFailed):
            await ask(stream)
        stream.abandon()
        await settle(lambda: bool(here.broker.turned_away))
        assert here.broker.turned_away[0].startswith("native 127.0.0.1 TLS: ")
        assert (here.broker.callers, here.broker.requests) == ([], 0)

    place(body)


def test_a_certificate_without_a_principal_is_turned_away(place, authority) -> None:
    context = client_context(authority.issue("a b"))

    async def body(here: Place) -> None:
        stream = await connect("127.0.0.1", here.port, context)
        await stream.send_all(b"".join(codec.encode_request(1, Metadata(None))))
        await ends(stream)
        assert len(here.broker.turned_away) == 1
        assert (here.broker.callers, here.broker.requests) == ([], 0)
        stream.abandon()

    place(body)


def test_plaintext_is_refused_without_a_record_of_a_login(place) -> None:
    async def body(here: Place) -> None:
        raw = await trio.open_tcp_stream("127.0.0.1", here.port)
        async with raw:
            await raw.send_all(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(trio.BrokenResourceError):
                while await raw.receive_some():
                    pass
        assert (here.broker.callers, here.broker.turned_away) == ([], [])

    place(body)


def test_a_handshake_that_takes_too_long_is_ended(place) -> None:
    clock = trio.testing.MockClock()

    async def body(here: Place) -> None:
        raw = await trio.open_tcp_stream("127.0.0.1", here.port)
        async with raw:
            await raw.send_all(b"\x16\x03\x01")
            await settle(lambda: here.listener._admission._total_handshakes == 1)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(MAX_HANDSHAKE_S + 0.1)
            await settle(lambda: here.listener._admission._total_handshakes == 0)

    place(body, clock=clock)


@pytest.mark.parametrize(
    ("sent", "limit"),
    [(b"", MAX_IDLE_S), (b"\x06", MAX_FRAME_READ_S), (b"\x06\x40\x00\x00slow", MAX_FRAME_READ_S)],
    ids=["idle", "within a size", "within a frame"],
)
def test_a_connection_that_brings_nothing_is_ended(place, authority, sent, limit) -> None:
    clock = trio.testing.MockClock()

    async def body(here: Place) -> None:
        stream = await connect("127.0.0.1", here.port, client_context(authority.issue("alice")))
        await ask(stream)
        if sent:
            await stream.send_all(sent)
            connections = here.listener._connections
            await settle(lambda: all(c._frame_since is not None for c in connections))
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(limit - 2)
        await trio.testing.wait_all_tasks_blocked()
        assert here.listener.connection_count == 1
        clock.jump(4)
        await ends(stream)
        stream.abandon()
        await settle(lambda: here.listener.connection_count == 0)

    place(body, clock=clock)


def test_connections_of_one_address_are_bounded(place, authority) -> None:
    context = client_context(authority.issue("alice"))

    async def body(here: Place) -> None:
        streams = [await connect("127.0.0.1", here.port, context) for _ in range(2)]
        for stream in streams:
            await ask(stream)
        with pytest.raises(trio.BrokenResourceError):
            await connect("127.0.0.1", here.port, context)
        streams[0].abandon()
        await settle(lambda: here.listener.connection_count == 1)
        await settle(lambda: here.listener._admission._total_connections == 1)
        streams[0] = await connect("127.0.0.1", here.port, context)
        for stream in streams:
            await ask(stream)
            stream.abandon()

    place(body, limits=AdmissionLimits(max_connections_per_address=2))


def test_handshakes_of_one_address_are_bounded_apart_from_connections(place, authority) -> None:
    async def body(here: Place) -> None:
        raw = [await trio.open_tcp_stream("127.0.0.1", here.port) for _ in range(2)]
        await settle(lambda: here.listener._admission._total_handshakes == 2)
        context = client_context(authority.issue("alice"))
        with pytest.raises(trio.BrokenResourceError):
            await connect("127.0.0.1", here.port, context)
        for stream in raw:
            await stream.aclose()
        await settle(lambda: here.listener._admission._total_handshakes == 0)
        served = await connect("127.0.0.1", here.port, context)
        await ask(served)
        served.abandon()

    place(body, limits=AdmissionLimits(max_handshakes_per_address=2))


def test_who_says_nothing_costs_no_tls(place, authority, monkeypatch) -> None:
    begun: list[TLSStream] = []

    def counted(*arguments) -> TLSStream:
        begun.append(TLSStream(*arguments))
        return begun[-1]

    monkeypatch.setattr(listener_module, "TLSStream", counted)
    clock = trio.testing.MockClock()

    async def body(here: Place) -> None:
        silent = [await trio.open_tcp_stream("127.0.0.1", here.port) for _ in range(20)]
        await settle(lambda: here.listener._admission._total_handshakes == 20)
        await trio.testing.wait_all_tasks_blocked()
        assert begun == []
        clock.jump(MAX_HANDSHAKE_S + 1)
        for stream in silent:
            assert await stream.receive_some(1) == b""
            await stream.aclose()
        await settle(lambda: here.listener._admission._total_connections == 0)
        assert begun == []
        served = await connect("127.0.0.1", here.port, client_context(authority.issue("alice")))
        await ask(served)
        served.abandon()
        assert len(begun) == 1

    place(body, clock=clock)


def test_a_flood_of_strangers_writes_few_lines(place, capsys) -> None:
    clock = trio.testing.MockClock()

    async def body(here: Place) -> None:
        for _ in range(60):
            stream = await trio.open_tcp_stream("127.0.0.1", here.port)
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some(100):
                    pass
            await stream.aclose()
        await settle(lambda: here.listener._admission._total_connections == 0)
        assert here.listener._lines.left_out == 60 - MAX_STRANGERS_LINES_PER_S
        clock.jump(CONNECTION_SWEEP_S + 1)
        await settle(lambda: here.listener._lines.left_out == 0)

    place(body, clock=clock)
    written = capsys.readouterr().out
    assert written.count("no handshake") == MAX_STRANGERS_LINES_PER_S
    assert "peers not let in without a line" in written


class Meter:
    """Lets every connection in, and holds nobody back."""

    def connection(self, *_: str) -> float:
        return 0.0

    def account(self, _: Caller) -> "Meter":
        return self

    def charge(self, *_: object) -> int:
        return 0


def metered_listener(authority, meter: Meter) -> Listener:
    broker = Broker()
    broker.meter = meter
    return Listener(
        "native",
        NativeDialect(),
        broker,
        CertificatePrincipals("memorystreamer.local", allow_nodes=False).principal,
        contexts=ServerContexts(authority.server()),
        budgets=Budgets(strangers_share=1),
    )


def test_clients_leave_descriptors_to_the_node(authority, monkeypatch) -> None:
    monkeypatch.setattr(listener_module, "descriptors_of_clients", lambda: highest)
    with contextlib.ExitStack() as probes:  # what else the process has open leaves gaps
        highest = max(probes.enter_context(socket.socket()).fileno() for _ in range(60)) + 1

    async def play() -> None:
        listener = metered_listener(authority, Meter())
        port = await listener.bind("127.0.0.1", 0)
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.serve)
            raw = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(40)]
            for refused in raw[-5:]:
                assert await refused.receive_some(1) == b""
            for stream in raw:
                await stream.aclose()
            await settle(lambda: listener._admission._total_connections == 0)
            served = await connect("127.0.0.1", port, client_context(authority.issue("alice")))
            await ask(served)
            served.abandon()
            nursery.cancel_scope.cancel()

    trio.run(play)


def test_who_connects_too_fast_is_closed_when_the_wait_is_over(authority) -> None:
    clock = trio.testing.MockClock()

    class Early(Meter):
        """Lets the first connection in, and has each later one wait for 20 s."""

        waits = 0.0

        def connection(self, address: str, origin: str) -> float:
            assert address == origin == "127.0.0.1"
            wait_s, self.waits = self.waits, 20.0
            return wait_s

    async def play() -> None:
        listener = metered_listener(authority, Early())
        port = await listener.bind("127.0.0.1", 0)
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.serve)
            served = await connect("127.0.0.1", port, client_context(authority.issue("alice")))
            await ask(served)
            early = [
                await trio.open_tcp_stream("127.0.0.1", port)
                for _ in range(MAX_THROTTLED_SOCKETS + 2)
            ]
            await settle(lambda: len(listener._throttled) == MAX_THROTTLED_SOCKETS)
            for beyond in early[MAX_THROTTLED_SOCKETS:]:
                assert await beyond.receive_some(1) == b""
            clock.jump(19)
            await trio.testing.wait_all_tasks_blocked()
            assert len(listener._throttled) == MAX_THROTTLED_SOCKETS
            clock.jump(2)
            assert await early[0].receive_some(1) == b""
            await settle(lambda: not listener._throttled)
            await ask(served)
            served.abandon()
            for stream in early:
                await stream.aclose()
            nursery.cancel_scope.cancel()

    trio.run(play, clock=clock)


def test_stop_closes_the_port_and_ends_connections_on_purpose(authority) -> None:
    context = client_context(authority.issue("alice"))

    async def play() -> None:
        listener = Listener(
            "native",
            NativeDialect(),
            Broker(),
            CertificatePrincipals("memorystreamer.local", allow_nodes=False).principal,
            contexts=ServerContexts(authority.server()),
            budgets=Budgets(strangers_share=1),
        )
        port = await listener.bind("127.0.0.1", 0)
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.serve)
            stream = await connect("127.0.0.1", port, context)
            await ask(stream)
            listener.stop()
            assert await stream.receive_some() == b""
            await stream.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await connect("127.0.0.1", port, context)

    trio.run(play)


def test_connections_of_a_principal_can_be_cut(place, authority) -> None:
    async def body(here: Place) -> None:
        alice = await connect("127.0.0.1", here.port, client_context(authority.issue("alice")))
        bob = await connect("127.0.0.1", here.port, client_context(authority.issue("bob")))
        await ask(alice)
        await ask(bob)
        here.listener.cut(Principal(PrincipalKind.USER, "alice"), "revoked")
        await ends(alice)
        await ask(bob)
        alice.abandon()
        bob.abandon()

    place(body)


def test_running_out_of_descriptors_is_survived(place, authority) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0.02)

    async def body(here: Place) -> None:
        first = await connect("127.0.0.1", here.port, client_context(authority.issue("alice")))
        await ask(first)
        first.abandon()

    class Exhausted:
        """A listening socket that has no descriptors to give, twice."""

        def __init__(self, real: trio.SocketListener) -> None:
            self.socket = self
            self.real = real
            self.failures = [errno.EMFILE, errno.ECONNABORTED, errno.ENFILE]

        async def accept(self):
            if self.failures:
                raise OSError(self.failures.pop(), "nothing left")
            return await self.real.socket.accept()

        def getsockname(self):
            return self.real.socket.getsockname()

        def close(self) -> None:
            self.real.socket.close()

    real = trio.open_tcp_listeners

    async def exhausted(*args, **kwargs):
        return [Exhausted(listener) for listener in await real(*args, **kwargs)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio, "open_tcp_listeners", exhausted)
        place(body, clock=clock)


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_an_address_that_cannot_be_had_is_one_clear_error(authority, host: str) -> None:
    async def play(port: int) -> None:
        listener = Listener(
            "kafka",
            NativeDialect(),
            Broker(),
            CertificatePrincipals("memorystreamer.local", allow_nodes=False).principal,
            contexts=ServerContexts(authority.server()),
            budgets=Budgets(strangers_share=1),
        )
        with pytest.raises(ConfigurationError, match=rf"listeners\.kafka: bind {host}:{port}"):
            await listener.bind(host, port)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        trio.run(play, taken.getsockname()[1])


def test_addresses_are_counted_by_what_one_host_has() -> None:
    assert origin_of("10.0.0.1") == "10.0.0.1"
    assert origin_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert origin_of("2001:db8:1:2::3") == origin_of("2001:db8:1:2:ffff::9")
    assert origin_of("2001:db8:1:2::3") != origin_of("2001:db8:1:3::3")
    assert origin_of("fe80::1%eth0") == origin_of("fe80::2")


def test_every_response_is_one_that_the_codecs_take() -> None:
    """The dialects' casts rest on this."""
    assert set(Response.__subclasses__()) - {PeerResponse} == set(get_args(AnyResponse))
    assert set(PeerResponse.__subclasses__()) == set(get_args(AnyPeerResponse))
