"""Replies of one connection, in the order of its requests, many to one TLS write.

Rules:
- A reply goes out when it is there and all before it have gone; who waits costs no task.
- Whatever is small and ready goes straight into the socket from the task that made it ready to go,
  be it this connection's or the flush of a log; the writer's task takes over where the socket or
  the budget makes it wait, and reports what was lost.
- Encoding and sealing are the user's time (`server.turns`): what is more than a write's worth waits
  for the next slice, and the writer's task sends it.
- The memory of a request is given back when its reply is encoded, that of a reply when the socket
  has it.
"""

from collections import deque
from typing import Final, Generic

import trio

from appliance.broker.pending import Pending
from appliance.limits import KIB
from appliance.server.budget import Purse
from appliance.server.dialect import C, Dialect
from appliance.server.metering import clock, telling
from appliance.server.tls import TLSStream
from appliance.server.turns import UsersTurns
from appliance.types import Buffer
from appliance.wire.requests import Response

_SMALL_WRITE_BYTES: Final = 64 * KIB
_WRITE_BYTES: Final = 256 * KIB
"""Enough replies for one write."""
_WRITE_REPLIES: Final = 32
"""As many as small ones may be of one write: each has its price, whatever its size."""


class _Write:
    """Encoded replies on their way; their bytes are `held` in the budget, or not yet."""

    __slots__ = ("buffers", "held", "size")

    def __init__(self, buffers: list[Buffer], size: int) -> None:
        self.buffers = buffers
        self.size = size
        self.held = False


class ReplyQueue(Generic[C]):
    """Everything one connection still has to answer."""

    def __init__(
        self,
        stream: TLSStream,
        dialect: Dialect[C],
        *,
        requests: Purse,
        replies: Purse,
        turns: UsersTurns,
    ) -> None:
        """Writes to `stream`; gives back to `requests` what the reader took there."""
        self.turns = turns
        """Whose time it takes."""
        self._stream = stream
        self._dialect = dialect
        self._requests = requests
        self._replies = replies
        self.entries: deque[tuple[C, Response | Pending, int, int]] = deque()
        """Requests that are not answered, with what their answers are, or will be."""
        self.lingering = False
        """Something may be ready to go that nobody has tried to send."""
        self._write: _Write | None = None
        self._lost: trio.BrokenResourceError | None = None
        self._writer = trio.lowlevel.ParkingLot()
        self._waiters = trio.lowlevel.ParkingLot()

    @property
    def idle(self) -> bool:
        """True when every request is answered and its reply has left."""
        return not self.entries and self._write is None

    def add(self, call: C, reply: Response | Pending, charge: int, throttle_ms: int = 0) -> None:
        """Queues a reply; `charge` is what its request holds in the budget, in bytes.

        `throttle_ms` is what the reply says of how long its client is held back.
        """
        self.entries.append((call, reply, charge, throttle_ms))
        if isinstance(reply, Pending) and reply.response is None:
            reply.on_resolved(self._resolved)
        else:
            self.lingering = True

    def wake(self) -> None:
        """Has the writer's task send what is ready, because the caller may be away for long."""
        self.lingering = False
        if self._ready():
            self._writer.unpark()

    def flush_now(self) -> None:
        """Sends what is ready as far as that needs no waiting. Raises BrokenResourceError."""
        self.lingering = False
        begun = clock()
        try:
            self._send_ready()
        finally:
            self.turns.spent_s += clock() - begun

    def _send_ready(self) -> None:
        sent = 0
        while self._write is None and self._ready():
            if sent and self.turns.used_up:
                self._writer.unpark()
                return
            sent += 1
            write = self._collect()
            self._write = write
            if write.size > _SMALL_WRITE_BYTES or not self._replies.try_acquire(write.size):
                break
            write.held = True
            data = write.buffers[0] if len(write.buffers) == 1 else b"".join(write.buffers)
            write.buffers = []
            if not self._stream.send_now(data):
                break
            self._finish(write)
        if self._write is not None:
            self._writer.unpark()

    async def run(self) -> None:
        """The writer's task. Raises BrokenResourceError when the connection is lost."""
        while True:
            if self._lost is not None:
                raise self._lost
            if self._write is None and not self._ready():
                await self._writer.park()
                continue
            async with self.turns:
                write = self._next_write()
            if write is None:
                continue
            if not write.held:
                await self._replies.acquire(write.size)
                write.held = True
            await self._stream.send_many(write.buffers)
            self._finish(write)

    async def wait_below(self, count: int) -> None:
        """Returns when fewer than `count` requests are unanswered."""
        while len(self.entries) >= count:
            await self._waiters.park()

    async def wait_idle(self) -> None:
        """Returns when everything is answered and sent."""
        while not self.idle:
            await self._waiters.park()

    def close(self) -> None:
        """Forgets everything and gives all memory back."""
        for _, _, charge, _ in self.entries:
            self._requests.release(charge)
        self.entries.clear()
        if self._write is not None and self._write.held:
            self._replies.release(self._write.size)
        self._write = None

    def _ready(self) -> bool:
        if not self.entries:
            return False
        reply = self.entries[0][1]
        return not isinstance(reply, Pending) or reply.response is not None

    def _resolved(self) -> None:
        try:
            self.flush_now()
        except trio.BrokenResourceError as error:
            self._lost = error
            self._writer.unpark()

    def _next_write(self) -> _Write | None:
        """What has been begun, or what is ready now."""
        if self._write is None and self._ready():
            self._write = self._collect()
        return self._write

    def _collect(self) -> _Write:
        buffers: list[Buffer] = []
        size = charges = count = 0
        encode = self._dialect.encode
        while self.entries and size < _WRITE_BYTES and count < _WRITE_REPLIES:
            call, reply, charge, throttle_ms = self.entries[0]
            if isinstance(reply, Pending):
                response = reply.response
                if response is None:
                    break
            else:
                response = reply
            self.entries.popleft()
            count += 1
            if throttle_ms:
                response = telling(response, throttle_ms)
            for buffer in encode(call, response):
                buffers.append(buffer)
                size += len(buffer)
            charges += charge
        self._requests.release(charges)
        return _Write(buffers, min(size, self._replies.capacity))

    def _finish(self, write: _Write) -> None:
        self._write = None
        self._replies.release(write.size)
        if self._waiters:
            self._waiters.unpark_all()
