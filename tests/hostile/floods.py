"""Ten thousand slow connections, from a few processes with raw sockets and many addresses.

A way of being slow is a generator over one connection: it yields what it waits for (an event of
the socket, or seconds) and returns when the node has ended the connection; its slot then opens
another one. How fast connections are opened is paced, since the machine's two cores are the node's
as well, and the processor time that this takes is told beside the node's.
"""

import contextlib
import errno
import heapq
import itertools
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from appliance.server.sandbox import raise_descriptors
from tests.hostile.attackers import Attackers, Reins

GONE: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_READ: Final = select.EPOLLIN | GONE
_WRITE: Final = select.EPOLLOUT | GONE
_REFUSED_PAUSE_S: Final = 1.0
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)
_NATIVE_FRAME: Final = struct.pack(">IBBHI", 16 * 1024, 1, 0, 0, 1)
FIELDS: Final = ("tried", "open", "up", "ended", "most", "cpu_ms")

Step = Generator["int | float", None, None]
Way = Callable[["Slot"], Step]


class Plan(Struct, frozen=True):
    """One flood: which way, of how many connections, from how many addresses, opened how fast."""

    way: str
    connections: int
    addresses: int
    opens_per_s: float
    user: str | None = "nobody"
    listeners: tuple[str, ...] = ("kafka", "native", "login")


class Slot:
    """A place for one connection at a time."""

    def __init__(self, worker: "_Worker", number: int) -> None:
        """Its address and its listener follow from its number."""
        plan = worker.plan
        host = number % plan.addresses
        self.source = f"127.{64 + host // 62_500}.{host // 250 % 250}.{1 + host % 250}"
        self.listener = plan.listeners[number % len(plan.listeners)]
        self.port = worker.ports[self.listener]
        self.worker = worker
        self.socket: socket.socket | None = None
        self.steps: Step | None = None

    def connect(self) -> Step:
        """A TCP connection from this slot's address."""
        raw = self.socket = socket.socket()
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.bind((self.source, 0))
        if raw.connect_ex(("127.0.0.1", self.port)) not in {0, errno.EINPROGRESS}:
            raise OSError
        yield _WRITE
        if raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError

    def handshake(self) -> Step:
        """TLS, with the user's certificate if the plan has a user."""
        yield from self.connect()
        assert self.socket is not None
        secured = self.worker.context.wrap_socket(
            self.socket, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        self.socket = secured
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                yield _READ
            except ssl.SSLWantWriteError:
                yield _WRITE
            else:
                self.worker.add("up", 1)
                return

    def send(self, data: bytes) -> Step:
        """All of `data`; gives up nothing, waits where the node does not read."""
        assert self.socket is not None
        while data:
            try:
                data = data[self.socket.send(data) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                yield _WRITE

    def until_ended(self) -> Step:
        """Until the node ends the connection; reads nothing."""
        yield GONE
        self.worker.add("ended", 1)

    def drip(self, data: bytes, every_s: float = 1.0) -> Step:
        """A byte a second."""
        assert self.socket is not None
        for byte in data:
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                self.socket.send(bytes((byte,)))
            yield every_s
        yield from self.until_ended()


def silent(slot: Slot) -> Step:
    """Connects, and says nothing."""
    yield from slot.connect()
    yield from slot.until_ended()


def hello(slot: Slot) -> Step:
    """Sends a ClientHello, and never goes on."""
    yield from slot.connect()
    yield from slot.send(slot.worker.client_hello)
    yield from slot.until_ended()


def hello_in_drops(slot: Slot) -> Step:
    """Sends a ClientHello a byte a second."""
    yield from slot.connect()
    yield from slot.drip(slot.worker.client_hello)


def idle(slot: Slot) -> Step:
    """Ends its handshake, and asks nothing."""
    yield from slot.handshake()
    yield from slot.until_ended()


def request_in_drops(slot: Slot) -> Step:
    """Declares a request of 16 KiB, and sends it a byte a second."""
    yield from slot.handshake()
    head = (
        _NATIVE_FRAME if slot.listener == "native" else struct.pack(">Ihhih", 16_384, 18, 0, 1, -1)
    )
    yield from slot.send(head)
    yield from slot.drip(bytes(16_384))


def large_in_drops(slot: Slot) -> Step:
    """Declares a request of 100 MiB, sends 1 MiB of it at once, and the rest a byte a second."""
    yield from slot.handshake()
    yield from slot.send(struct.pack(">I", 100 << 20))
    yield from slot.send(bytes(1 << 20))
    yield from slot.drip(bytes(1 << 16))


def deaf(slot: Slot) -> Step:
    """Asks on and on, and reads no answer."""
    yield from slot.handshake()
    assert slot.socket is not None
    slot.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while True:
        yield from slot.send(_API_VERSIONS * 200)
        yield 0.2


def reconnecting(slot: Slot) -> Step:
    """Ends its handshake, leaves, and comes again."""
    yield from slot.handshake()


def stranger(slot: Slot) -> Step:
    """Ends its handshake without a certificate, reads the alert, and comes again."""
    yield from slot.handshake()
    yield _READ


WAYS: Final[dict[str, Way]] = {
    way.__name__: way
    for way in (
        silent, hello, hello_in_drops, idle, request_in_drops, large_in_drops, deaf, reconnecting,
        stranger,
    )
}  # fmt: skip


class _Worker:
    """One process of a flood: slots, what each waits for, and how fast new ones are opened."""

    def __init__(
        self,
        plan: Plan,
        numbers: Sequence[int],
        ports: dict[str, int],
        context: ssl.SSLContext,
        reins: Reins,
    ) -> None:
        self.plan = plan
        self.ports = ports
        self.context = context
        self._told = reins.told
        self._until = reins.until
        self._poll = select.epoll()
        self._waiting: dict[int, Slot] = {}
        self._timers: list[tuple[float, int, Slot]] = []
        self._order = itertools.count()
        self._to_open = [Slot(self, number) for number in reversed(numbers)]
        self.client_hello = _client_hello(context)

    def add(self, field: str, count: int) -> None:
        """Counts something that the runner is told."""
        with self._told.get_lock():
            self._told[FIELDS.index(field)] += count
            if field == "open":
                most = FIELDS.index("most")
                self._told[most] = max(self._told[most], self._told[FIELDS.index("open")])

    def run(self, opens_per_s: float) -> None:
        begun, opened, spent = time.monotonic(), 0, 0.0
        while not self._until.is_set():
            now = time.monotonic()
            allowed = (now - begun) * opens_per_s
            while self._to_open and opened < allowed:
                opened += 1
                self.add("tried", 1)
                self._begin(self._to_open.pop())
            opened = max(opened, int(allowed) - 50)  # What was not used is not saved up.
            while self._timers and self._timers[0][0] <= now:
                self._go_on(heapq.heappop(self._timers)[2])
            for number, _ in self._poll.poll(0.01, 1024):
                slot = self._waiting.pop(number, None)
                if slot is not None:
                    self._go_on(slot)
            took = time.process_time()
            self.add("cpu_ms", int((took - spent) * 1000))
            spent += int((took - spent) * 1000) / 1000

    def _begin(self, slot: Slot) -> None:
        slot.steps = WAYS[self.plan.way](slot)
        self.add("open", 1)
        self._go_on(slot)

    def _go_on(self, slot: Slot) -> None:
        assert slot.steps is not None
        try:
            wants = next(slot.steps)
        except (StopIteration, OSError, ssl.SSLError):
            self._end(slot)
            return
        if isinstance(wants, float):
            heapq.heappush(self._timers, (time.monotonic() + wants, next(self._order), slot))
            return
        assert slot.socket is not None
        number = slot.socket.fileno()
        self._waiting[number] = slot
        try:
            self._poll.modify(number, wants | select.EPOLLONESHOT)
        except FileNotFoundError:
            self._poll.register(number, wants | select.EPOLLONESHOT)

    def _end(self, slot: Slot) -> None:
        self.add("open", -1)
        if slot.socket is not None:
            slot.socket.close()
            slot.socket = None
        if slot.steps is not None:
            slot.steps.close()
            slot.steps = None
        self._to_open.insert(0, slot)


class Flood(Attackers):
    """A plan carried out by processes."""

    def __init__(
        self, plan: Plan, ports: dict[str, int], folder: Path, *, processes: int = 2
    ) -> None:
        """`folder` holds the certificates of the appliance's clients."""
        self.plan = plan
        numbers = range(plan.connections)
        shares = [
            (plan, numbers[place::processes], ports, folder, plan.opens_per_s / processes)
            for place in range(processes)
        ]
        super().__init__(FIELDS, _flood, shares)


def _flood(
    reins: Reins,
    plan: Plan,
    numbers: Sequence[int],
    ports: dict[str, int],
    folder: Path,
    opens_per_s: float,
) -> None:
    raise_descriptors()
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.check_hostname = False
    if plan.user is not None:
        context.load_cert_chain(folder / f"{plan.user}.pem", folder / f"{plan.user}.key")
    worker = _Worker(plan, numbers, ports, context, reins)
    reins.wait_for_start()
    worker.run(opens_per_s)


def _client_hello(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
