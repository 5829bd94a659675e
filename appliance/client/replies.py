"""What a reply says about the one thing that was asked, checked against the question.

A broker that answers about something else is not believed: ProtocolViolation.
"""

from appliance.client.connection import legible
from appliance.errors import ErrorCode, ProtocolViolation, RequestError
from appliance.types import Offset, PartitionIndex, TopicName
from appliance.wire.requests import ListOffsetsResult, ProduceResult


def only_produced(result: ProduceResult, topic: TopicName, partition: PartitionIndex) -> Offset:
    """Where the one batch was stored; -1 if the broker has it but no longer knows where.

    Raises RequestError if it was refused.
    """
    if (
        len(result.topics) != 1
        or result.topics[0].name != topic
        or len(result.topics[0].partitions) != 1
        or result.topics[0].partitions[0].index != partition
    ):
        raise ProtocolViolation(f"a produce to {topic}/{partition} was answered for another")
    produced = result.topics[0].partitions[0]
    if produced.error is ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
        return Offset(-1)
    refuse_error(produced.error, f"{topic}/{partition}", produced.message)
    if produced.base_offset < 0:
        raise ProtocolViolation(f"a produce to {topic}/{partition} was stored nowhere")
    return Offset(produced.base_offset)


def listed_offsets(result: ListOffsetsResult, topic: TopicName) -> dict[PartitionIndex, Offset]:
    """The offset found in each partition; raises RequestError for the first that has none."""
    if len(result.topics) != 1 or result.topics[0].name != topic:
        raise ProtocolViolation(f"offsets of {topic} were asked, others came")
    found: dict[PartitionIndex, Offset] = {}
    for listed in result.topics[0].partitions:
        refuse_error(listed.error, f"{topic}/{listed.index}", None)
        found[listed.index] = Offset(listed.offset)
    return found


def refuse_error(error: ErrorCode, where: str, message: str | None) -> None:
    """Raises RequestError unless there is no error; the message is made fit to be shown."""
    if error is not ErrorCode.NONE:
        detail = legible(message) if message else error.name
        raise RequestError(error, f"{where}: {detail}")
