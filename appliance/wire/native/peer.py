"""Native frames between nodes: the client dialect's frame, another vocabulary in it.

Rules: those of `codec`: msgspec validates while it decodes, and a frame over MAX_STRUCTURE_BYTES
may only be a delivery, whose bulk is bytes.
"""

from typing import Final

import msgspec

from appliance.errors import ProtocolViolation
from appliance.limits import MAX_STRUCTURE_BYTES
from appliance.types import Buffer
from appliance.wire.native.frames import (
    FrameKind,
    build_frame,
    open_frame,
)
from appliance.wire.requests.peer import AnyPeerRequest, AnyPeerResponse, Deliver

_any_request: Final = msgspec.msgpack.Decoder(AnyPeerRequest)
_bulk_request: Final = msgspec.msgpack.Decoder(Deliver)
_response: Final = msgspec.msgpack.Decoder(AnyPeerResponse)


class PeerCall(msgspec.Struct, frozen=True, gc=False):
    """One request of another node; `correlation_id` goes back with its response."""

    correlation_id: int
    request: AnyPeerRequest

    @property
    def client_id(self) -> None:
        """Nodes are known by their principal only."""
        return


def decode(frame: memoryview) -> PeerCall:
    """A node's request from a frame without its size; raises ProtocolViolation."""
    correlation, body = open_frame(frame, FrameKind.REQUEST)
    decoder = _any_request if len(body) <= MAX_STRUCTURE_BYTES else _bulk_request
    try:
        return PeerCall(correlation, decoder.decode(body))
    except (ValueError, RecursionError) as error:
        raise _malformed("request", error) from None


def encode(call: PeerCall, response: AnyPeerResponse) -> list[Buffer]:
    """A response's frame, size included."""
    return [build_frame(FrameKind.RESPONSE, call.correlation_id, response)]


def encode_request(correlation_id: int, request: AnyPeerRequest) -> bytearray:
    """A request's frame, size included."""
    return build_frame(FrameKind.REQUEST, correlation_id, request)


def decode_response(frame: memoryview) -> tuple[int, AnyPeerResponse]:
    """(correlation id, response) from a frame without its size; raises ProtocolViolation."""
    correlation, body = open_frame(frame, FrameKind.RESPONSE)
    try:
        return correlation, _response.decode(body)
    except (ValueError, RecursionError) as error:
        raise _malformed("response", error) from None


def _malformed(what: str, error: Exception) -> ProtocolViolation:
    # Only the kind of error: the text that msgspec or a Unicode error gives quotes the peer.
    return ProtocolViolation(f"malformed {what} of a peer ({type(error).__name__})")
