"""Cuts a broker's bytes into frames, trusting nothing that a frame declares.

A declared length is checked against what the awaited reply may hold before anything is read for
it, and memory grows only with bytes that have arrived. Frames are views into the bytes received.
"""

import struct
from collections.abc import Callable

import trio

from appliance.errors import ProtocolViolation

RECEIVE_BYTES = 256 * 1024

_SIZE = struct.Struct(">I")


class FrameReader:
    """Reads frames of `u32 size | size bytes` from a stream."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._chunk: bytes | bytearray = b""
        self._position = 0

    async def next_frame(self, limit_bytes: Callable[[], int]) -> memoryview | None:
        """The next frame without its size, or None if the stream ends between frames.

        `limit_bytes` is asked when the size is known. Raises ProtocolViolation if the frame is
        larger, or if the stream ends within it.
        """
        prefix = await self._take(_SIZE.size, at_start=True)
        if prefix is None:
            return None
        (size,) = _SIZE.unpack(prefix)
        limit = limit_bytes()
        if size > limit:
            raise ProtocolViolation(f"the broker announced {size} bytes where {limit} may come")
        return await self._take(size, at_start=False)

    async def _take(self, count: int, *, at_start: bool) -> memoryview | None:
        """Exactly `count` bytes; None if the stream ends before the first and that is allowed."""
        held = len(self._chunk) - self._position
        if held >= count:
            return self._slice(count)
        parts = [bytes(self._slice(held))] if held else []
        while held < count:
            received = await self._stream.receive_some(RECEIVE_BYTES)
            if not received:
                if at_start and not held:
                    return None
                raise ProtocolViolation("the broker closed the connection within a frame")
            parts.append(bytes(received))
            held += len(received)
        self._chunk = parts[0] if len(parts) == 1 else b"".join(parts)
        self._position = 0
        return self._slice(count)

    def _slice(self, count: int) -> memoryview:
        """Steps over `count` bytes that are held."""
        view = memoryview(self._chunk)[self._position : self._position + count]
        self._position += count
        return view
