"""What a fetch brought, checked before it is believed.

1. Only partitions that were asked for, each once.
2. Whole batches, the first of which holds the position that was asked for; each begins where the
   one before it ended, or later.
3. CRC, lengths and counts of each batch, and decompression within a bound (`decode_batch`).
4. Records below the position are dropped: a batch is stored whole, a position may lie within it.
"""

from collections.abc import Collection

from appliance.client.replies import refuse_error
from appliance.errors import ProtocolViolation, RequestError, Shredded
from appliance.limits import MAX_DECOMPRESSED_BYTES
from appliance.types import Offset, PartitionIndex, TopicName
from appliance.wire.kafka.batch import split
from appliance.wire.kafka.records import Record, decode_batch, read_header
from appliance.wire.requests import FetchedPartition, FetchResult


def pair(
    result: FetchResult, topic: TopicName, asked: Collection[PartitionIndex]
) -> list[tuple[PartitionIndex, FetchedPartition]]:
    """The partitions that came, by index.

    Raises Shredded or RequestError with the first error in the reply, ProtocolViolation if
    something came that was not asked for.
    """
    refuse_error(result.error, str(topic), None)
    found: dict[PartitionIndex, FetchedPartition] = {}
    for part in result.topics:
        if part.name != topic:
            raise ProtocolViolation(f"records of {topic} were asked for, others came")
        for fetched in part.partitions:
            if fetched.index not in asked or fetched.index in found:
                raise ProtocolViolation(f"{topic}/{fetched.index} was not asked for")
            if fetched.shredded:
                raise Shredded(f"{topic}/{fetched.index}: the records were shredded, for good")
            refuse_error(fetched.error, f"{topic}/{fetched.index}", None)
            found[fetched.index] = fetched
    return list(found.items())


def open_batches(fetched: FetchedPartition, position: Offset) -> tuple[list[Record], Offset]:
    """The records from `position` on, and the next position; raises ProtocolViolation."""
    records: list[Record] = []
    reached = position
    for batch in _whole(fetched):
        try:
            header = read_header(batch)
            opened = decode_batch(batch, max_decompressed_bytes=MAX_DECOMPRESSED_BYTES)
        except RequestError as error:
            raise ProtocolViolation(f"a batch at offset {reached} is damaged: {error}") from None
        first_may_start_before = reached == position
        if header.next_offset <= reached or (
            header.base_offset < reached and not first_may_start_before
        ):
            raise ProtocolViolation(f"a batch came that does not follow offset {reached}")
        if not header.is_control:
            records += opened if header.base_offset >= position else _from(opened, position)
        reached = Offset(header.next_offset)
    return records, reached


def _whole(fetched: FetchedPartition) -> list[memoryview]:
    """Each batch alone: a buffer of the reply holds one or several, as they lie on the disk."""
    try:
        return [batch for buffer in fetched.batches for batch in split(buffer)]
    except RequestError as error:
        raise ProtocolViolation(f"the batches that came are damaged: {error}") from None


def _from(records: list[Record], position: Offset) -> list[Record]:
    """The records at and after a position."""
    return [record for record in records if record.offset >= position]
