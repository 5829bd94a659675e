"""Producing, fetching and looking up records."""

from typing import Final

from appliance.errors import ErrorCode
from appliance.types import (
    Offset,
    PartitionIndex,
    ProducerEpoch,
    ProducerId,
    TopicId,
    TopicName,
)
from appliance.wire.requests.base import Part, Request, Response
from appliance.wire.requests.topics import Broker


class CurrentLeader(Part, frozen=True):
    """Who leads a partition now, told beside an error that says it is not this node (KIP-951)."""

    node_id: int = -1
    epoch: int = -1


class ProducePartition(Part, frozen=True):
    """One partition's batch: exactly one record batch v2, still opaque."""

    index: PartitionIndex
    batch: memoryview | None


class ProduceTopic(Part, frozen=True):
    """The batches for one topic, by its name or (name empty) by its id."""

    name: TopicName
    partitions: tuple[ProducePartition, ...]
    topic_id: TopicId | None = None


class Produce(Request, frozen=True):
    """Appends batches. `acks` is 0, 1 or -1; with 0 there is no response."""

    acks: int
    timeout_ms: int
    topics: tuple[ProduceTopic, ...]
    transactional_id: str | None = None


class ProducedPartition(Part, frozen=True):
    """What became of one batch; offsets are -1 unless `error` is NONE."""

    index: PartitionIndex
    error: ErrorCode = ErrorCode.NONE
    base_offset: int = -1
    log_append_time_ms: int = -1
    log_start_offset: int = -1
    message: str | None = None
    leader: CurrentLeader | None = None


class ProducedTopic(Part, frozen=True):
    """What became of one topic's batches."""

    name: TopicName
    partitions: tuple[ProducedPartition, ...]
    topic_id: TopicId | None = None


class ProduceResult(Response, frozen=True):
    """Answer to Produce."""

    topics: tuple[ProducedTopic, ...]
    throttle_time_ms: int = 0
    endpoints: tuple[Broker, ...] = ()


class FetchPartition(Part, frozen=True):
    """Where to read in one partition, and how much at most."""

    index: PartitionIndex
    offset: Offset
    max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    """The epoch of the last batch that the reader holds; -1 if it does not say (KIP-595)."""


class FetchTopic(Part, frozen=True):
    """What to read of one topic, by its name or (name empty) by its id."""

    name: TopicName
    partitions: tuple[FetchPartition, ...]
    topic_id: TopicId | None = None


class ForgottenTopic(Part, frozen=True):
    """Partitions that a fetch session is to leave out from now on (KIP-227)."""

    name: TopicName
    partitions: tuple[PartitionIndex, ...]
    topic_id: TopicId | None = None


class Fetch(Request, frozen=True):
    """Reads batches; waits up to `max_wait_ms` for `min_bytes`.

    `isolation_level` 1 is read_committed.
    """

    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    isolation_level: int
    topics: tuple[FetchTopic, ...]
    session_id: int = 0
    session_epoch: int = -1
    rack_id: str = ""
    forgotten_topics: tuple[ForgottenTopic, ...] = ()


class EpochEnd(Part, frozen=True):
    """Where a leader's epoch ended: the reader's log differs from there on (KIP-595)."""

    epoch: int = -1
    end_offset: int = -1


class AbortedTransaction(Part, frozen=True):
    """A producer's transaction that was aborted, from its first offset on."""

    producer_id: int
    first_offset: int


class FetchedPartition(Part, frozen=True):
    """Whole batches from the first that holds the asked offset; contiguous, in the stored form.

    `shredded` says why an offset is out of range: its records went with their key. Kafka's protocol
    has no word for it.
    """

    index: PartitionIndex
    error: ErrorCode = ErrorCode.NONE
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    batches: tuple[memoryview, ...] = ()
    aborted_transactions: tuple[AbortedTransaction, ...] = ()
    preferred_read_replica: int = -1
    diverging: EpochEnd | None = None
    leader: CurrentLeader | None = None
    shredded: bool = False


class FetchedTopic(Part, frozen=True):
    """What was read of one topic."""

    name: TopicName
    partitions: tuple[FetchedPartition, ...]
    topic_id: TopicId | None = None


class FetchResult(Response, frozen=True):
    """Answer to Fetch."""

    topics: tuple[FetchedTopic, ...]
    error: ErrorCode = ErrorCode.NONE
    session_id: int = 0
    throttle_time_ms: int = 0
    endpoints: tuple[Broker, ...] = ()


UNKNOWN_TIME: Final = -(1 << 63)
"""A time without a meaning."""


class ListOffsetsPartition(Part, frozen=True):
    """What to look for in one partition.

    `timestamp_ms`: -1 latest, -2 earliest, -3 that of the largest timestamp, else the first batch
    at or after that time.
    """

    index: PartitionIndex
    timestamp_ms: int
    current_leader_epoch: int = -1


class ListOffsetsTopic(Part, frozen=True):
    """What to look up in one topic."""

    name: TopicName
    partitions: tuple[ListOffsetsPartition, ...]


class ListOffsets(Request, frozen=True):
    """Looks offsets up by time."""

    isolation_level: int
    topics: tuple[ListOffsetsTopic, ...]


class ListedOffset(Part, frozen=True):
    """What was found in one partition; -1 where nothing was."""

    index: PartitionIndex
    error: ErrorCode = ErrorCode.NONE
    timestamp_ms: int = -1
    offset: int = -1
    leader_epoch: int = -1


class ListedOffsetsTopic(Part, frozen=True):
    """What was found in one topic."""

    name: TopicName
    partitions: tuple[ListedOffset, ...]


class ListOffsetsResult(Response, frozen=True):
    """Answer to ListOffsets."""

    topics: tuple[ListedOffsetsTopic, ...]
    throttle_time_ms: int = 0


class EpochPartition(Part, frozen=True):
    """A leader epoch whose end is asked for."""

    index: PartitionIndex
    leader_epoch: int
    current_leader_epoch: int = -1


class EpochTopic(Part, frozen=True):
    """Epochs of one topic's partitions."""

    name: TopicName
    partitions: tuple[EpochPartition, ...]


class OffsetForLeaderEpoch(Request, frozen=True):
    """Asks where leader epochs ended, so that a reader finds where its log went astray."""

    topics: tuple[EpochTopic, ...]


class EndOfEpoch(Part, frozen=True):
    """The largest epoch up to the one asked for, and the offset after its last record."""

    index: PartitionIndex
    error: ErrorCode = ErrorCode.NONE
    leader_epoch: int = -1
    end_offset: int = -1


class EndsOfTopic(Part, frozen=True):
    """Ends of epochs of one topic's partitions."""

    name: TopicName
    partitions: tuple[EndOfEpoch, ...]


class OffsetForLeaderEpochResult(Response, frozen=True):
    """Answer to OffsetForLeaderEpoch."""

    topics: tuple[EndsOfTopic, ...]
    throttle_time_ms: int = 0


class DeleteRecordsPartition(Part, frozen=True):
    """Where one partition is to begin; -1 for its high watermark."""

    index: PartitionIndex
    offset: int


class DeleteRecordsTopic(Part, frozen=True):
    """Where the partitions of one topic are to begin."""

    name: TopicName
    partitions: tuple[DeleteRecordsPartition, ...]


class DeleteRecords(Request, frozen=True):
    """Lets go of records below an offset."""

    topics: tuple[DeleteRecordsTopic, ...]
    timeout_ms: int


class DeletedRecords(Part, frozen=True):
    """Where one partition begins now."""

    index: PartitionIndex
    low_watermark: int = -1
    error: ErrorCode = ErrorCode.NONE


class DeletedRecordsTopic(Part, frozen=True):
    """Where the partitions of one topic begin now."""

    name: TopicName
    partitions: tuple[DeletedRecords, ...]


class DeleteRecordsResult(Response, frozen=True):
    """Answer to DeleteRecords."""

    topics: tuple[DeletedRecordsTopic, ...]
    throttle_time_ms: int = 0


class InitProducerId(Request, frozen=True):
    """Asks for a producer id, or for the next epoch of the one it has."""

    transactional_id: str | None
    transaction_timeout_ms: int
    producer_id: int = -1
    producer_epoch: int = -1


class InitProducerIdResult(Response, frozen=True):
    """Answer to InitProducerId."""

    error: ErrorCode = ErrorCode.NONE
    producer_id: ProducerId = ProducerId(-1)
    producer_epoch: ProducerEpoch = ProducerEpoch(-1)
    throttle_time_ms: int = 0
