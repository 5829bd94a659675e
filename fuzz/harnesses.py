"""Every parser's harness: an invariant, seeds, and a function from bytes that upholds it.

A harness returns for every input, or raises `Broken`. A parser may refuse with its own error only.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from appliance.authz.enforcer import check
from appliance.crypto.sealed import read_extent_header, read_frame_header
from appliance.errors import ConfigurationError, DamageDetected, ProtocolViolation, RequestError
from appliance.storage.layout import read_headers
from appliance.types import TopicName
from appliance.wire.kafka import codec as kafka
from appliance.wire.kafka.batch import read_header
from appliance.wire.native import codec as native
from appliance.wire.requests import ApiVersions, Metadata


class Broken(Exception):
    """A parser did what its invariant forbids."""


class Harness(msgspec.Struct, frozen=True):
    """One parser under test."""

    name: str
    invariant: str
    seeds: tuple[bytes, ...]
    run: Callable[[bytes], None]


def _kafka_request(data: bytes) -> None:
    try:
        call = kafka.decode(memoryview(data))
    except ProtocolViolation:
        return
    if not isinstance(call.request, msgspec.Struct):
        raise Broken("a decoded call without a request")


def _native_request(data: bytes) -> None:
    try:
        call = native.decode(memoryview(data))
    except ProtocolViolation:
        return
    [frame] = native.encode_request(call.correlation_id, call.request)
    if native.decode(memoryview(frame)[4:]) != call:
        raise Broken("a native request does not survive its own encoding")


def _batch_header(data: bytes) -> None:
    try:
        read_header(memoryview(data))
    except (RequestError, ProtocolViolation):
        return


def _sealed_frame(data: bytes) -> None:
    read_extent_header(data, 0)
    header = read_frame_header(data, 0)
    if header is not None and header.length > (1 << 24):
        raise Broken("a frame's length is accepted beyond its bound")


def _entry_headers(data: bytes) -> None:
    try:
        headers = read_headers(memoryview(data)[1:], data[0] if data else 0)
    except DamageDetected:
        return
    if sum(header.payload_bytes for header in headers) > len(data):
        raise Broken("entries are larger than the frame that holds them")


def _policy_text(data: bytes) -> None:
    try:
        check(data.decode("utf-8", "replace"))
    except ConfigurationError:
        return


def _canary(data: bytes) -> None:
    if data[:2] == b"\x00\x00":
        raise Broken("the canary, which is there to be found")


def _native_seed() -> bytes:
    [frame] = native.encode_request(7, Metadata((TopicName("demo"),)))
    return bytes(frame[4:])


def _plain_seed() -> bytes:
    [frame] = native.encode_request(1, ApiVersions())
    return bytes(frame[4:])


_KAFKA_SEED = bytes.fromhex("001200000000000100047465737400")

HARNESSES: Final = (
    Harness("kafka-request", "a frame is a request or refused", (_KAFKA_SEED, b""), _kafka_request),
    Harness(
        "native-request",
        "a frame is refused, or survives its own encoding",
        (_native_seed(), _plain_seed()),
        _native_request,
    ),
    Harness("batch-header", "61 bytes or a refusal", (bytes(61), bytes(80)), _batch_header),
    Harness("sealed-frame", "no length beyond its bound", (bytes(60), b"MSXT"), _sealed_frame),
    Harness("entry-headers", "no entry beyond its frame", (b"\x01" + bytes(40),), _entry_headers),
    Harness(
        "policy-text",
        "a policy or a refusal that names the line",
        (b"p, User:a, read, topic, demo, allow\n", b"g, User:a, role:b\n"),
        _policy_text,
    ),
)

CANARY: Final = Harness("canary", "must fail, or nothing is being tested", (b"\x00",), _canary)
