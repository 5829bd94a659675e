"""Kafka frames to requests, and responses to frames.

Every served (api, version) is compiled from its declaration once, at import; a call finds its
decoder and encoder by one look-up. Frames are given and taken without sockets:

- `decode` takes a frame without its size, `encode` returns buffers with the size in front, batches
  among them uncopied;
- what is malformed, or in a version that is not served, raises ProtocolViolation, upon which the
  connection closes, as Kafka's does; only ApiVersions is answered in any version (KIP-511).
"""

import struct
from functools import lru_cache
from typing import Final, cast

from msgspec import Struct

from appliance.errors import ErrorCode, ProtocolViolation, UnsupportedVersion
from appliance.invariant import invariant
from appliance.types import Buffer
from appliance.wire.kafka.apis import api_versions
from appliance.wire.kafka.apis.api_versions import ApiVersionsTable
from appliance.wire.kafka.apis.registry import ADVERTISED, APIS
from appliance.wire.kafka.compiler import Decode, Encode, compile_decoder, compile_encoder
from appliance.wire.kafka.features import FEATURES_EPOCH
from appliance.wire.kafka.primitives import Output, Reader
from appliance.wire.kafka.schema import Api, ToRequest, ToWire, Usual
from appliance.wire.requests import AnyRequest, AnyResponse, ApiVersions, ApiVersionsResult

_REQUEST_HEADER: Final = struct.Struct(">hhi")
_RESPONSE_HEADER: Final = struct.Struct(">ii")
_SIZE_BYTES: Final = 4
_ROOM_FOR_HEADER: Final = bytes(_RESPONSE_HEADER.size)


class Call(Struct, frozen=True, gc=False):
    """One request as it arrived, and what its answer needs to find its way back."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    request: AnyRequest


class _Compiled(Struct, frozen=True, gc=False):
    """One API in one version."""

    decode: Decode
    encode: Encode
    to_request: ToRequest | None
    to_wire: ToWire | None
    max_request_bytes: int
    spare_bytes: int
    usual: Usual | None
    tagged_request_header: bool
    tagged_response_header: bool


def _compile(api: Api, version: int) -> _Compiled:
    """Header versions follow from the API's: request 1 or 2, response 0 or 1 (KIP-482)."""
    flexible = api.is_flexible(version)
    return _Compiled(
        decode=compile_decoder(api.request, version, flexible=flexible),
        encode=compile_encoder(api.response, version, flexible=flexible),
        to_request=api.to_request,
        to_wire=api.to_wire,
        max_request_bytes=api.max_request_bytes,
        spare_bytes=api.spare_bytes,
        usual=api.usual_in(version),
        tagged_request_header=flexible,
        tagged_response_header=flexible and api is not api_versions.API,
    )


_COMPILED: Final = {
    (api.key, version): _compile(api, version) for api in APIS for version in api.versions()
}


def decode(frame: memoryview) -> Call:
    """The call in a frame, which is everything after the 4-byte size.

    1. The header: API, version, correlation id, client id.
    2. An API and version that are served, and no more bytes than that API may have.
    3. The message, to its last byte but those that its API is spared.

    Raises:
        UnsupportedVersion: the API or version is not served.
        ProtocolViolation: the frame is not well formed.
    """
    if len(frame) < _REQUEST_HEADER.size:
        raise ProtocolViolation("a frame is cut short")
    key, version, correlation_id = _REQUEST_HEADER.unpack_from(frame)
    compiled = _COMPILED.get((key, version))
    if compiled is None:
        reader = Reader(frame, _REQUEST_HEADER.size)
        if key == api_versions.API.key:
            client_id = reader.string()
            return Call(key, version, correlation_id, client_id, ApiVersions(understood=False))
        raise UnsupportedVersion(f"version {version} of API {key} is not served")
    if len(frame) > compiled.max_request_bytes:
        raise ProtocolViolation("a request is larger than its kind may be")
    if compiled.usual is not None:
        known = compiled.usual.decode(frame)
        if known is not None:
            return Call(key, version, correlation_id, *known)
    reader = Reader(frame, _REQUEST_HEADER.size)
    client_id = reader.string()
    if compiled.tagged_request_header:
        reader.skip_tags()
    message = compiled.decode(reader)
    reader.finish(compiled.spare_bytes)
    request = (
        cast("AnyRequest", message)
        if compiled.to_request is None
        else compiled.to_request(message, version)
    )
    return Call(key, version, correlation_id, client_id, request)


def encode(call: Call, response: AnyResponse) -> list[Buffer]:
    """The frame that answers a call, with its size, as buffers to be sent in order.

    Batches in the response are among the buffers as they are, uncopied.
    """
    if isinstance(response, ApiVersionsResult):
        return _encode_api_versions(call, response)
    compiled = _COMPILED[call.api_key, call.api_version]
    if compiled.usual is not None:
        frame = compiled.usual.encode(call.correlation_id, response)
        if frame is not None:
            return [frame]
    message: object = response
    if compiled.to_wire is not None:
        message = compiled.to_wire(call.request, response, call.api_version)
    return _encode_message(compiled, call.correlation_id, message)


def _encode_message(compiled: _Compiled, correlation_id: int, message: object) -> list[Buffer]:
    output = Output(_ROOM_FOR_HEADER)
    if compiled.tagged_response_header:
        output.append(0)
    compiled.encode(output, message)
    _RESPONSE_HEADER.pack_into(output, 0, output.size_bytes - _SIZE_BYTES, correlation_id)
    return output.buffers()


def _encode_api_versions(call: Call, response: ApiVersionsResult) -> list[Buffer]:
    """Fills in the table, and the two errors that the codec itself found."""
    request = call.request
    invariant(isinstance(request, ApiVersions), "an answer belongs to its request")
    version, error = call.api_version, response.error
    if isinstance(request, ApiVersions) and not request.understood:
        version, error = 0, ErrorCode.UNSUPPORTED_VERSION
    elif isinstance(request, ApiVersions) and not request.valid:
        error = ErrorCode.INVALID_REQUEST
    frame = bytearray(_api_versions_frame(version, error, response.throttle_time_ms))
    _RESPONSE_HEADER.pack_into(frame, 0, len(frame) - _SIZE_BYTES, call.correlation_id)
    return [frame]


@lru_cache(maxsize=64)
def _api_versions_frame(version: int, error: ErrorCode, throttle_ms: int) -> bytes:
    """What every client asks first, and is told the same."""
    table = ADVERTISED
    if error is ErrorCode.UNSUPPORTED_VERSION:
        table = tuple(entry for entry in ADVERTISED if entry[0] == api_versions.API.key)
    elif error is ErrorCode.INVALID_REQUEST:
        table = ()
    compiled = _COMPILED[api_versions.API.key, version]
    supported, finalised = ((), ()) if error is not ErrorCode.NONE else api_versions.features()
    told = ApiVersionsTable(error, table, throttle_ms, supported, FEATURES_EPOCH, finalised)
    return b"".join(_encode_message(compiled, 0, told))
