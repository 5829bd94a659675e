"""Topics and the nodes that hold them."""

from typing import Final

from appliance.errors import ErrorCode
from appliance.types import PartitionIndex, TopicId, TopicName
from appliance.wire.requests.base import Part, Request, Response
from appliance.wire.requests.settings import Setting

OPERATIONS_NOT_ASKED: Final = -(1 << 31)
"""What a field of authorised operations holds when nobody asked for it (KIP-430)."""


class Metadata(Request, frozen=True):
    """Asks for brokers and topics; `topics` None means all that the principal may describe."""

    topics: tuple[TopicName, ...] | None
    allow_auto_topic_creation: bool = False
    topic_ids: tuple[TopicId, ...] = ()
    cluster_operations: bool = False
    topic_operations: bool = False
    """Whether the answer says what the principal may do (KIP-430)."""


class Broker(Part, frozen=True):
    """A node as clients reach it, on the listener that was asked."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


class PartitionMetadata(Part, frozen=True):
    """Leader and replicas of one partition."""

    index: PartitionIndex
    leader_id: int
    leader_epoch: int
    replicas: tuple[int, ...]
    in_sync_replicas: tuple[int, ...]
    error: ErrorCode = ErrorCode.NONE
    offline_replicas: tuple[int, ...] = ()


class TopicMetadata(Part, frozen=True):
    """One topic; `topic_id` None (the zero UUID on the wire) where it is refused or not known.

    `name` is None where an id was asked for that is not known. `operations` has bit n set for the
    operation that Kafka's ACLs number n.
    """

    name: TopicName | None
    error: ErrorCode = ErrorCode.NONE
    topic_id: TopicId | None = None
    is_internal: bool = False
    partitions: tuple[PartitionMetadata, ...] = ()
    operations: int = OPERATIONS_NOT_ASKED


class MetadataResult(Response, frozen=True):
    """Answer to Metadata."""

    cluster_id: str
    controller_id: int
    brokers: tuple[Broker, ...]
    topics: tuple[TopicMetadata, ...]
    throttle_time_ms: int = 0
    operations: int = OPERATIONS_NOT_ASKED
    error: ErrorCode = ErrorCode.NONE


class NewTopic(Part, frozen=True):
    """A topic to create; -1 asks for the default number. `assignments`: (partition, node ids)."""

    name: TopicName
    partition_count: int = -1
    replication_factor: int = -1
    assignments: tuple[tuple[PartitionIndex, tuple[int, ...]], ...] = ()
    settings: tuple[tuple[str, str | None], ...] = ()


class CreateTopics(Request, frozen=True):
    """Creates topics, or says what creating them would do."""

    topics: tuple[NewTopic, ...]
    timeout_ms: int
    validate_only: bool = False
    knows_throttling: bool = True
    """Whether the client knows THROTTLING_QUOTA_EXCEEDED (KIP-599); another is held back only."""


class CreatedTopic(Part, frozen=True):
    """What became of one topic."""

    name: TopicName
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    topic_id: TopicId | None = None
    partition_count: int = -1
    replication_factor: int = -1
    settings: tuple[Setting, ...] = ()
    """All that the topic has, defaults too (KIP-525)."""


class CreateTopicsResult(Response, frozen=True):
    """Answer to CreateTopics."""

    topics: tuple[CreatedTopic, ...]
    throttle_time_ms: int = 0


class DeleteTopics(Request, frozen=True):
    """Deletes topics by name, and by id."""

    names: tuple[TopicName, ...]
    timeout_ms: int
    topic_ids: tuple[TopicId, ...] = ()
    knows_throttling: bool = True
    """Whether the client knows THROTTLING_QUOTA_EXCEEDED (KIP-599); another is held back only."""


class DeletedTopic(Part, frozen=True):
    """What became of one topic; `name` is None where an id was given that is not known."""

    name: TopicName | None
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    topic_id: TopicId | None = None


class DeleteTopicsResult(Response, frozen=True):
    """Answer to DeleteTopics."""

    topics: tuple[DeletedTopic, ...]
    throttle_time_ms: int = 0


class MorePartitions(Part, frozen=True):
    """A topic, and how many partitions it is to have; `assignments` names nodes for new ones."""

    name: TopicName
    count: int
    assignments: tuple[tuple[int, ...], ...] | None = None


class CreatePartitions(Request, frozen=True):
    """Gives topics more partitions."""

    topics: tuple[MorePartitions, ...]
    timeout_ms: int
    validate_only: bool = False
    knows_throttling: bool = True
    """Whether the client knows THROTTLING_QUOTA_EXCEEDED (KIP-599); another is held back only."""


class ExtendedTopic(Part, frozen=True):
    """What became of one topic."""

    name: TopicName
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


class CreatePartitionsResult(Response, frozen=True):
    """Answer to CreatePartitions."""

    topics: tuple[ExtendedTopic, ...]
    throttle_time_ms: int = 0
