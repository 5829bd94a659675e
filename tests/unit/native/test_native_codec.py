"""The native dialect: whatever is encoded decodes to itself, and nothing else decodes."""

import tracemalloc
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ErrorCode, ProtocolViolation, UnsupportedVersion
from appliance.limits import MAX_STRUCTURE_BYTES
from appliance.types import KeyDomainId, Offset, PartitionId, PartitionIndex, TopicId, TopicName
from appliance.wire.native import codec
from appliance.wire.requests import (
    AnyRequest,
    AnyResponse,
    CreatedTopic,
    CreateTopics,
    CreateTopicsResult,
    DescribeKeysResult,
    Fetch,
    FetchedPartition,
    FetchedTopic,
    FetchPartition,
    FetchResult,
    FetchTopic,
    GroupProtocol,
    JoinGroup,
    KeyDomainState,
    Metadata,
    NewTopic,
    Produce,
    ProducePartition,
    ProduceTopic,
    Refused,
    ReplacePolicy,
    RewrapKeys,
    ShredStep,
    ShredTopic,
)

TOPIC = TopicName("orders")
PARTITION = PartitionIndex(3)


def produce(batch: bytes) -> Produce:
    part = ProducePartition(PARTITION, memoryview(batch))
    return Produce(-1, 1000, (ProduceTopic(TOPIC, (part,)),))


REQUESTS: tuple[AnyRequest, ...] = (
    produce(b"batch" * 50),
    Fetch(1, 1, 1, 0, (FetchTopic(TOPIC, (FetchPartition(PARTITION, Offset(9), 1024),)),)),
    Metadata(None),
    Metadata((TOPIC,), allow_auto_topic_creation=True),
    CreateTopics((NewTopic(TOPIC, assignments=((PARTITION, (1, 2)),)),), 5),
    JoinGroup("g", 1, 2, "", "consumer", (GroupProtocol("range", b"\x00\x01"),)),  # type: ignore[arg-type]
    ReplacePolicy("p, User:a", 3),
    RewrapKeys(PartitionId(UUID(int=5)), 7),
    ShredTopic(TOPIC, ShredStep.BEGIN),
)
RESPONSES: tuple[AnyResponse, ...] = (
    Refused(ErrorCode.CLUSTER_AUTHORIZATION_FAILED, "no"),
    DescribeKeysResult(
        domains=(KeyDomainState(KeyDomainId(UUID(int=4)), TOPIC, 2, 1, 2, ((1, 5), (2, 1)), None),)
    ),
    CreateTopicsResult((CreatedTopic(TOPIC, topic_id=TopicId(UUID(int=7))),)),
    FetchResult(
        (FetchedTopic(TOPIC, (FetchedPartition(PARTITION, batches=(memoryview(b"abc"),)),)),)
    ),
)


def joined(buffers: list[bytes | bytearray | memoryview]) -> bytes:
    return b"".join(buffers)


def body(frame: bytes) -> memoryview:
    assert int.from_bytes(frame[:4]) == len(frame) - 4
    return memoryview(frame)[4:]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda value: type(value).__name__)
def test_requests_decode_to_what_was_encoded(request_: AnyRequest) -> None:
    call = codec.decode(body(joined(codec.encode_request(77, request_))))
    assert call == codec.NativeCall(77, request_)
    assert call.client_id is None


@pytest.mark.parametrize("response", RESPONSES, ids=lambda value: type(value).__name__)
def test_responses_decode_to_what_was_encoded(response: AnyResponse) -> None:
    call = codec.NativeCall(0xFFFFFFFF, Metadata(None))
    frame = joined(codec.encode(call, response))
    assert codec.decode_response(body(frame)) == (0xFFFFFFFF, response)


def test_batches_are_views_into_the_frame() -> None:
    frame = joined(codec.encode_request(1, produce(b"z" * 100)))
    request = codec.decode(body(frame)).request
    assert isinstance(request, Produce)
    batch = request.topics[0].partitions[0].batch
    assert batch is not None
    assert batch.obj is frame
    assert batch.readonly


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda value: type(value).__name__)
def test_trailing_and_missing_bytes_are_refused(request_: AnyRequest) -> None:
    frame = bytes(body(joined(codec.encode_request(1, request_))))
    with pytest.raises(ProtocolViolation):
        codec.decode(memoryview(frame + b"\x00"))
    for end in range(len(frame)):
        with pytest.raises(ProtocolViolation):
            codec.decode(memoryview(frame[:end]))


HEADER = b"\x01\x00\x00\x00\x00\x00\x00\x01"
METADATA = b"\x82\xa4type\xa8Metadata\xa6topics"
HOSTILE = {
    "count of 2^32-1": METADATA + b"\xdd\xff\xff\xff\xff",
    "depth of 10,000 where nothing is known": b"\x91" * 10_000,
    "depth in a field that is skipped": b"\x82\xa4type\xa5Fetch\xa6topics\x91\x82\xa1x"
    + b"\x91" * 200_000,
    "not UTF-8": METADATA + b"\x91\xa1\xff",
    "unknown request": b"\x81\xa4type\xa4Nope",
    "unknown field": b"\x83\xa4type\xa8Metadata\xa6topics\xc0\xa3now\xc0",
    "no type": b"\x80",
    "a response": b"\x83\xa4type\xa7Refused\xa5error\x00\xa7message\xa0",
    "string over its bound": b"\x83\xa4type\xafFindCoordinator\xa8key_type\x00\xa4keys"
    b"\x91\xda\x80\x00" + b"k" * 32_768,
    "unused opcode": b"\xc1",
    "empty": b"",
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_values_are_refused_without_amplification(payload: bytes) -> None:
    frame = memoryview(HEADER + payload)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolViolation):
            codec.decode(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 8 * len(frame) + 16_384


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (b"\x02\x00\x00\x00\x00\x00\x00\x01", UnsupportedVersion),
        (b"\x01\x01\x00\x00\x00\x00\x00\x01", ProtocolViolation),
        (b"\x01\x00\x00\x01\x00\x00\x00\x01", ProtocolViolation),
        (b"\x01\x00\x00\x00\x00\x00\x00", ProtocolViolation),
    ],
)
def test_headers_of_another_shape_are_refused(header: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        codec.decode(memoryview(header + METADATA + b"\xc0"))


def test_large_frames_are_only_for_types_that_carry_bulk() -> None:
    large = produce(b"z" * (MAX_STRUCTURE_BYTES + 1))
    assert codec.decode(body(joined(codec.encode_request(1, large)))).request == large
    names = tuple(TopicName("n" * 1000) for _ in range(MAX_STRUCTURE_BYTES // 1000 + 1))
    with pytest.raises(ProtocolViolation):
        codec.decode(body(joined(codec.encode_request(1, Metadata(names)))))


@given(st.binary(max_size=400))
def test_any_bytes_decode_or_are_refused(payload: bytes) -> None:
    for frame in (payload, HEADER + payload):
        try:
            call = codec.decode(memoryview(frame))
        except ProtocolViolation:
            continue
        assert isinstance(call.request, msgspec.Struct)


@given(st.sampled_from(REQUESTS), st.data())
def test_a_changed_byte_decodes_or_is_refused(request_: AnyRequest, data: st.DataObject) -> None:
    frame = bytearray(body(joined(codec.encode_request(1, request_))))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        codec.decode(memoryview(frame))
    except ProtocolViolation:
        return


@pytest.mark.parametrize(
    "payload",
    [
        b"\x81\xa4type\xa6CANARY",
        b"\x82\xa4type\xa8Metadata\xa6CANARY\xc0",
        METADATA + b"\x91\xa7CANARY\xff",
        METADATA + b"\xa6CANARY",
    ],
)
def test_refusals_quote_nothing_of_the_peer(payload: bytes) -> None:
    with pytest.raises(ProtocolViolation) as refusal:
        codec.decode(memoryview(HEADER + payload))
    assert "CANARY" not in str(refusal.value)
    assert refusal.value.__suppress_context__
