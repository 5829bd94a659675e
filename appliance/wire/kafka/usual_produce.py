"""The produce that nearly all are: one batch for one partition, outside transactions.

Rules:
- What is read here is what the declaration of Produce (`apis.produce`) says, to the byte; a
  property test compares the two. Whatever is not of this one form, or is wrong in any way, is
  left to the declaration's codec, which also knows what to say about it: so nothing here refuses.
- The form has fixed places but for three lengths, so that two calls read what takes the general
  decoder twenty: it is spent on each of the smallest requests.
- Only the flexible versions that name topics (9 to 12) have the form.
"""

import struct
from typing import Final

from appliance.types import PartitionIndex, TopicName
from appliance.wire.requests import (
    AnyResponse,
    Produce,
    ProducedPartition,
    ProducePartition,
    ProduceResult,
    ProduceTopic,
)

SINCE: Final = 9
UNTIL: Final = 12

_CLIENT_ID_AT: Final = 8
_CLIENT_ID_BYTES: Final = struct.Struct(">h")
_OPENING: Final = struct.Struct(">BBhiBB")
"""Tags of the header, transactional id (0 is null), acks, time-out, count of topics, size of name;
counts and sizes are one more than they say, as everywhere in compact forms (KIP-482)."""
_PARTITION: Final = struct.Struct(">BiB")
"""Count of partitions, index, and the first byte of the batch's size."""
_ONE: Final = 2
_MAX_BYTE: Final = 0x7F
"""The largest number of variable length that is a single byte."""
_NO_TAGS: Final = bytes(3)
"""Behind the batch: of the partition, of the topic, of the request."""

_RESPONSE_OPENING: Final = struct.Struct(">iiBBB")
"""Size, correlation id, tags of the header, count of topics, size of name."""
_RESULT: Final = struct.Struct(">BihqqqBBBBiB")
"""Count of partitions, index, error, base offset, append time, log start, no record errors, no
message, tags of partition and topic, throttling, tags of the response."""
_SIZE_BYTES: Final = 4
_FIXED_BYTES: Final = _RESPONSE_OPENING.size - _SIZE_BYTES + _RESULT.size


def decode(frame: memoryview) -> tuple[str | None, Produce] | None:
    """Client id and request of a frame of these versions; None if it is of another form."""
    try:
        client_bytes = _CLIENT_ID_BYTES.unpack_from(frame, _CLIENT_ID_AT)[0]
        client_at = _CLIENT_ID_AT + 2
        opening_at = client_at + client_bytes if client_bytes > 0 else client_at
        tags, transaction, acks, timeout_ms, topics, name_size = _OPENING.unpack_from(
            frame, opening_at
        )
        name_at = opening_at + _OPENING.size
        name_end = name_at + name_size - 1
        partitions, index, size = _PARTITION.unpack_from(frame, name_end)
        if (
            tags
            or transaction
            or topics != _ONE
            or partitions != _ONE
            or client_bytes < -1
            or not 0 < name_size <= _MAX_BYTE
        ):
            return None
        batch_at = name_end + _PARTITION.size
        if size > _MAX_BYTE:
            size, batch_at = _long_size(frame, size, batch_at)
        batch_end = len(frame) - len(_NO_TAGS)
        if size == 0 or batch_at + size - 1 != batch_end or frame[batch_end:] != _NO_TAGS:
            return None
        client_id = str(frame[client_at:opening_at], "utf-8") if client_bytes >= 0 else None
        name = TopicName(str(frame[name_at:name_end], "utf-8"))
    except (struct.error, IndexError, UnicodeDecodeError):
        return None
    part = ProducePartition(PartitionIndex(index), frame[batch_at:batch_end])
    return client_id, Produce(acks, timeout_ms, (ProduceTopic(name, (part,)),))


def _long_size(frame: memoryview, low: int, at: int) -> tuple[int, int]:
    """A size of two to four bytes and where it ends; 0 for a longer one, which is not of the form.

    Raises IndexError at the end of the frame.
    """
    size = low & _MAX_BYTE
    for shift in (7, 14, 21):
        byte = frame[at]
        at += 1
        size |= (byte & _MAX_BYTE) << shift
        if byte <= _MAX_BYTE:
            return size, at
    return 0, at


def encode(correlation_id: int, response: AnyResponse) -> bytes | None:
    """The frame that answers such a produce, with its size; None if the answer has more to say."""
    if not isinstance(response, ProduceResult) or len(response.topics) != 1 or response.endpoints:
        return None
    (topic,) = response.topics
    name = topic.name.encode()
    if len(topic.partitions) != 1 or len(name) >= _MAX_BYTE:
        return None
    (part,) = topic.partitions
    if part.message is not None or part.leader is not None:
        return None
    size = _FIXED_BYTES + len(name)
    opening = _RESPONSE_OPENING.pack(size, correlation_id, 0, _ONE, len(name) + 1)
    return opening + name + _result(part, response.throttle_time_ms)


def _result(part: ProducedPartition, throttle_time_ms: int) -> bytes:
    return _RESULT.pack(
        _ONE,
        part.index,
        part.error,
        part.base_offset,
        part.log_append_time_ms,
        part.log_start_offset,
        1,
        0,
        0,
        0,
        throttle_time_ms,
        0,
    )
