"""Every parser's harness: an invariant, seeds, and a function from bytes that upholds it.

A harness returns for every input, or raises `Broken`. A parser may refuse with its own error only.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from appliance import config
from appliance.authn.mtls import CertificatePrincipals
from appliance.authz.enforcer import check
from appliance.crypto.sealed import read_extent_header, read_frame_header
from appliance.errors import (
    AuthenticationFailed,
    ConfigurationError,
    DamageDetected,
    ProtocolViolation,
    RequestError,
)
from appliance.keys.vault_replies import BatchReply
from appliance.storage.document import clear_part
from appliance.storage.layout import read_headers
from appliance.types import TopicName
from appliance.wire.kafka import codec as kafka
from appliance.wire.kafka.batch import HEADER_BYTES, read_header, split
from appliance.wire.kafka.checksum import crc32c
from appliance.wire.kafka.client_metrics import read_client_metrics
from appliance.wire.kafka.compression import Codec
from appliance.wire.kafka.records import Record, decode_batch, encode_batch
from appliance.wire.native import codec as native
from appliance.wire.requests import ApiVersions, FetchResult, Metadata

MAX_DECOMPRESSED_BYTES: Final = 1 << 20
CORPUS: Final = Path(__file__).parent / "corpus"


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


def _record_batch(data: bytes) -> None:
    """Length, magic and CRC are put right, so that what they guard is reached."""
    batch = bytearray(data.ljust(HEADER_BYTES, b"\0"))
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    batch[16] = 2
    struct.pack_into(">I", batch, 17, crc32c(memoryview(batch)[21:]))
    try:
        records = decode_batch(memoryview(batch), max_decompressed_bytes=MAX_DECOMPRESSED_BYTES)
    except RequestError:
        return
    if sum(len(record.value or b"") for record in records) > MAX_DECOMPRESSED_BYTES:
        raise Broken("records became more than the bound")
    offsets = [record.offset for record in records]
    if offsets != sorted(set(offsets)):
        raise Broken("offsets do not grow")


def _batches(data: bytes) -> None:
    try:
        parts = list(split(memoryview(data)))
    except RequestError:
        return
    if b"".join(parts) != data:
        raise Broken("bytes were lost between batches")


def _client_metrics(data: bytes) -> None:
    try:
        found = read_client_metrics(memoryview(data))
    except RequestError:
        return
    if len(found) > len(data):
        raise Broken("more metrics than bytes")


def _native_response(data: bytes) -> None:
    try:
        correlation, response = native.decode_response(memoryview(data))
    except ProtocolViolation:
        return
    call = native.NativeCall(correlation, ApiVersions())
    frame = b"".join(native.encode(call, response))
    if native.decode_response(memoryview(frame)[4:]) != (correlation, response):
        raise Broken("a native response does not survive its own encoding")


def _certificate(data: bytes) -> None:
    try:
        principal = _PRINCIPALS.principal(data)
    except AuthenticationFailed:
        return
    if f"/user/{principal.name}".encode() not in data:
        raise Broken("a principal that the certificate does not name")


def _configuration(data: bytes) -> None:
    try:
        config.parse(data.decode("utf-8", "replace"), base=Path("/etc/memorystreamer"))
    except ConfigurationError:
        return


def _sealed_document(data: bytes) -> None:
    try:
        clear = clear_part(data)
    except DamageDetected:
        return
    if len(clear) > len(data):
        raise Broken("a document's clear part is larger than the document")


def _vault_batch(data: bytes) -> None:
    try:
        reply = msgspec.json.decode(data, type=BatchReply)
        answers = [*reply.secrets(1), *reply.wraps(1)]
    except ValueError:
        return
    if len(answers) != 2:
        raise Broken("an answer to another batch was taken")


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


def _response_seed() -> bytes:
    return b"".join(native.encode(native.NativeCall(3, ApiVersions()), FetchResult(())))[4:]


def _batch_seeds() -> tuple[bytes, ...]:
    record = Record(b"key", b"value" * 40, (("header", b"text"),), 1_700_000_000_000, 0)
    return tuple(bytes(encode_batch([record], codec=codec)) for codec in Codec)


def _files(harness: str) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted((CORPUS / harness).iterdir()))


_PRINCIPALS: Final = CertificatePrincipals("memorystreamer.local", allow_nodes=False)
_NODE_TOML: Final = Path(__file__).parents[1] / "deploy" / "node.toml"
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
    Harness(
        "record-batch",
        "records within the bound, in the order of their offsets, or a refusal",
        _batch_seeds(),
        _record_batch,
    ),
    Harness(
        "batches",
        "batches that make up the whole, or a refusal",
        (_batch_seeds()[0] * 3,),
        _batches,
    ),
    Harness(
        "native-response",
        "a frame is refused, or survives its own encoding",
        (_response_seed(),),
        _native_response,
    ),
    Harness(
        "client-metrics",
        "no more metrics than bytes, or a refusal",
        (b"\x0a\x12\x12\x10\x12\x0e\x0a\x01a*\x09\x0a\x09!" + bytes(8),),
        _client_metrics,
    ),
    Harness("certificate", "a user it names, or nobody", _files("certificate"), _certificate),
    Harness(
        "configuration",
        "a configuration, or a refusal that names the setting",
        (_NODE_TOML.read_bytes(), b"[node]\nid = 1\n"),
        _configuration,
    ),
    Harness("sealed-document", "no part beyond the whole", (b"\0\0\0\3abc",), _sealed_document),
    Harness(
        "vault-batch",
        "as many answers as were asked for",
        (b'{"data":{"batch_results":[{"plaintext":"AAAA","ciphertext":"vault:v1:AAAA"}]}}',),
        _vault_batch,
    ),
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
