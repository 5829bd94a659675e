"""The links between the nodes of a torture: proxies in between, which hold, slow or break them.

Every node advertises the port of a proxy of its own to the others, and dials from an address of its
own (see `program`), so a proxy knows both ends of a connection. What flows from A to B stands still
while that direction is held, whichever of the two opened the connection, and goes on afterwards: as
with packets that are lost and sent again, nothing is told to either end.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable

import trio

CHUNK = 64 * 1024
POLL_S = 0.02
OPEN_S = 20

Way = tuple[int, int]
"""From one node to another."""


def address_of(node: int) -> str:
    """Where a node dials from."""
    return f"127.0.1.{node}"


def node_at(address: str) -> int:
    return int(address.rpartition(".")[2])


class Links:
    """Every direction between two nodes, and the proxies; they run in a thread of their own."""

    def __init__(self) -> None:
        self._troubles: tuple[tuple[frozenset[Way], float], ...] = ()
        """Ways that are in trouble, and how late what they carry comes; replaced as a whole."""
        self.passed = 0
        """Bytes, in all."""
        self._streams: dict[trio.SocketStream, tuple[int, int]] = {}
        self._opened = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,), daemon=True)
        self._thread.start()
        if not self._opened.wait(OPEN_S):
            raise AssertionError("the proxies do not run")

    def open(self, node: int, target: int) -> int:
        """Makes the proxy of a node whose peers' listener is at `target`; its port."""

        async def start() -> int:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

            async def serve() -> None:
                await trio.serve_listeners(
                    lambda stream: self._carry(stream, node, target), [listener]
                )

            self._nursery.start_soon(serve)
            return listener.socket.getsockname()[1]

        return trio.from_thread.run(start, trio_token=self._token)

    def mend(self) -> None:
        """Everything passes again."""
        self._troubles = ()

    def cut_off(
        self, node: int, others: list[int], *, to: bool = True, back: bool = True
    ) -> Callable[[], None]:
        """Holds what a node sends to others, what they send to it, or both; gives what ends it."""
        return self._trouble(_ways(node, others, to=to, back=back), math.inf)

    def slow(self, node: int, others: list[int], late_s: float) -> Callable[[], None]:
        """Has whatever passes between a node and others come late; gives what ends it."""
        return self._trouble(_ways(node, others, to=True, back=True), late_s)

    def _trouble(self, ways: frozenset[Way], late_s: float) -> Callable[[], None]:
        trouble = ways, late_s
        self._troubles = (*self._troubles, trouble)

        def end() -> None:
            self._troubles = tuple(each for each in self._troubles if each is not trouble)

        return end

    def _late_s(self, way: Way) -> float:
        return max((late_s for ways, late_s in self._troubles if way in ways), default=0.0)

    def break_off(self, node: int) -> None:
        """Ends every connection of a node with others; new ones may be opened at once."""

        async def close() -> None:
            for stream, ends in list(self._streams.items()):
                if node in ends:
                    await trio.aclose_forcefully(stream)

        trio.from_thread.run(close, trio_token=self._token)

    def close(self) -> None:
        trio.from_thread.run_sync(self._nursery.cancel_scope.cancel, trio_token=self._token)
        self._thread.join()

    async def _serve(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._opened.set()
            await trio.sleep_forever()

    async def _carry(self, near: trio.SocketStream, node: int, target: int) -> None:
        """One connection, until either end closes it."""
        dialer = node_at(near.socket.getpeername()[0])
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await self._passage(dialer, node)
            await self._passage(node, dialer)
            far = await trio.open_tcp_stream("127.0.0.1", target)
            self._streams |= {near: (dialer, node), far: (dialer, node)}
            try:
                async with near, far, trio.open_nursery() as nursery:
                    scope = nursery.cancel_scope
                    nursery.start_soon(self._pump, near, far, (dialer, node), scope)
                    nursery.start_soon(self._pump, far, near, (node, dialer), scope)
            finally:
                del self._streams[near], self._streams[far]
        await trio.aclose_forcefully(near)

    async def _pump(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        way: tuple[int, int],
        scope: trio.CancelScope,
    ) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(CHUNK):
                await self._passage(*way)
                self.passed += len(data)
                await sink.send_all(data)
        await self._passage(*way)  # an end that a cut hides is not seen before the link is mended
        scope.cancel()

    async def _passage(self, sender: int, receiver: int) -> None:
        """Returns when what this sender sends may pass."""
        way, came_s = (sender, receiver), time.monotonic()
        while time.monotonic() < came_s + self._late_s(way):  # noqa: ASYNC110 - another thread's
            await trio.sleep(POLL_S)


def _ways(node: int, others: list[int], *, to: bool, back: bool) -> frozenset[Way]:
    there = {(node, other) for other in others if to}
    return frozenset(there | {(other, node) for other in others if back})
