"""Bytes on their way into a socket, and how plaintext is cut up before it is sealed.

Rules: what the socket takes at once costs no task switch; what it does not take waits here, in
order, and whoever sends is told how long.
"""

import socket
from collections.abc import Iterator, Sequence
from typing import Final

import trio

from appliance.limits import KIB
from appliance.types import Buffer

_SEAL_BYTES: Final = 512 * KIB
"""Plaintext encrypted before its ciphertext goes to the socket."""
_SMALL_BUFFER_BYTES: Final = 8 * KIB
"""Buffers up to this size are joined; larger ones are encrypted where they lie."""
_MAX_GATHERED: Final = 64


class Outbox:
    """What one socket has not taken yet; one task at a time waits for it to do so."""

    __slots__ = ("_socket", "_unsent", "_waiting", "stalled_since")

    def __init__(self, target: socket.socket) -> None:
        """Writes to `target`, a non-blocking socket."""
        self._socket = target
        self._unsent: list[Buffer] = []
        self._waiting = False
        self.stalled_since: float | None = None
        """When the peer last stopped taking bytes that wait for it (trio's clock), or None."""

    def add(self, data: bytes) -> None:
        """Puts `data` behind what waits already."""
        self._unsent.append(data)

    def push(self) -> bool:
        """Gives the socket what it takes at once; True when nothing is left. Raises OSError."""
        waiting = self._unsent
        while waiting:
            try:
                if len(waiting) == 1:
                    sent = self._socket.send(waiting[0])
                else:
                    sent = self._socket.sendmsg(waiting[:_MAX_GATHERED])
            except BlockingIOError:
                if self.stalled_since is None:
                    self.stalled_since = trio.current_time()
                return False
            self.stalled_since = None
            while waiting and sent >= len(waiting[0]):
                sent -= len(waiting.pop(0))
            if sent:
                waiting[0] = memoryview(waiting[0])[sent:]
        return True

    async def flush(self) -> None:
        """Returns when the socket has taken everything; no checkpoint if it does at once.

        Raises:
            trio.BusyResourceError: another task is waiting for the same.
            OSError: the connection is lost.
        """
        while not self.push():
            if self._waiting:
                raise trio.BusyResourceError("another task is sending")
            self._waiting = True
            try:
                await trio.lowlevel.wait_writable(self._socket)
            finally:
                self._waiting = False


def steps(buffers: Sequence[Buffer]) -> Iterator[Buffer]:
    """Joins small buffers and cuts large ones, uncopied, so that each step is worth its calls."""
    small = bytearray()
    for buffer in buffers:
        if len(buffer) <= _SMALL_BUFFER_BYTES:
            small += buffer
            if len(small) >= _SEAL_BYTES:
                yield small
                small = bytearray()
            continue
        if small:
            yield small
            small = bytearray()
        view = memoryview(buffer)
        for start in range(0, len(view), _SEAL_BYTES):
            yield view[start : start + _SEAL_BYTES]
    if small:
        yield small
