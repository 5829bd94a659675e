"""Native frames to requests and back, for both sides of the connection.

Rules:
- msgspec validates while it decodes: unknown request types and fields, missing fields, wrong types
  and trailing bytes are refused. Depth is bounded by the types; what it skips, by the interpreter.
- A container's declared count is never believed beyond the bytes that are there, and a small
  element becomes a larger object; so frames over `MAX_STRUCTURE_BYTES` may only be of the types
  that carry bulk, whose elements are large on the wire too.
- Batches are decoded as views into the frame.
"""

from typing import Final

import msgspec

from appliance.errors import ProtocolViolation
from appliance.invariant import invariant
from appliance.limits import MAX_STRUCTURE_BYTES
from appliance.types import Buffer
from appliance.wire.native.frames import (
    MAX_CORRELATION,
    FrameKind,
    build_frame,
    open_frame,
)
from appliance.wire.requests import AnyRequest, AnyResponse, FetchResult, MetadataResult, Produce

_any_request: Final = msgspec.msgpack.Decoder(AnyRequest)
_bulk_request: Final = msgspec.msgpack.Decoder(Produce)
_any_response: Final = msgspec.msgpack.Decoder(AnyResponse)
_bulk_response: Final = msgspec.msgpack.Decoder(FetchResult | MetadataResult)


class NativeCall(msgspec.Struct, frozen=True, gc=False):
    """One request as it arrived; `correlation_id` goes back with its response."""

    correlation_id: int
    request: AnyRequest

    @property
    def client_id(self) -> None:
        """Native clients are known by their principal only."""
        return


def decode(frame: memoryview) -> NativeCall:
    """A request from a frame without its size.

    Raises:
        ProtocolViolation: the frame or the request in it is not well formed.
    """
    correlation, body = open_frame(frame, FrameKind.REQUEST)
    try:
        request = (
            _any_request.decode(body)
            if len(body) <= MAX_STRUCTURE_BYTES
            else _bulk_request.decode(body)
        )
    except (ValueError, RecursionError) as error:
        raise _malformed("request", error) from None
    return NativeCall(correlation, request)


def encode(call: NativeCall, response: AnyResponse) -> list[Buffer]:
    """A response's frame, size included, as buffers to be sent in order."""
    return [build_frame(FrameKind.RESPONSE, call.correlation_id, response)]


def encode_request(correlation_id: int, request: AnyRequest) -> list[Buffer]:
    """A request's frame, size included, as buffers to be sent in order."""
    invariant(0 <= correlation_id <= MAX_CORRELATION, "a correlation id is a u32")
    return [build_frame(FrameKind.REQUEST, correlation_id, request)]


def decode_response(frame: memoryview) -> tuple[int, AnyResponse]:
    """(correlation id, response) from a frame without its size.

    Raises:
        ProtocolViolation: the frame or the response in it is not well formed.
    """
    correlation, body = open_frame(frame, FrameKind.RESPONSE)
    try:
        if len(body) <= MAX_STRUCTURE_BYTES:
            return correlation, _any_response.decode(body)
        return correlation, _bulk_response.decode(body)
    except (ValueError, RecursionError) as error:
        raise _malformed("response", error) from None


def _malformed(what: str, error: Exception) -> ProtocolViolation:
    # Only the kind of error: the text that msgspec or a Unicode error gives quotes the peer.
    return ProtocolViolation(f"malformed native {what} ({type(error).__name__})")
