"""The cluster as a whole: its nodes, its features, its logs and who writes to them."""

from appliance.errors import ErrorCode
from appliance.types import PartitionIndex, TopicName
from appliance.wire.requests.base import Name, Part, Request, Response
from appliance.wire.requests.topics import OPERATIONS_NOT_ASKED, Broker, TopicMetadata


class DescribeCluster(Request, frozen=True):
    """Asks for the nodes; `endpoint_type` 1 are brokers, 2 are KRaft controllers (KIP-919)."""

    endpoint_type: int = 1
    cluster_operations: bool = False


class DescribeClusterResult(Response, frozen=True):
    """Answer to DescribeCluster."""

    cluster_id: str = ""
    controller_id: int = -1
    brokers: tuple[Broker, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    endpoint_type: int = 1
    operations: int = OPERATIONS_NOT_ASKED
    throttle_time_ms: int = 0


class Cursor(Part, frozen=True):
    """A partition to go on from (KIP-966)."""

    topic: TopicName
    partition: int


class DescribeTopicPartitions(Request, frozen=True):
    """Asks for topics, no more than so many partitions at once; none named means all."""

    topics: tuple[TopicName, ...]
    partition_limit: int = 2000
    cursor: Cursor | None = None


class DescribeTopicPartitionsResult(Response, frozen=True):
    """Answer to DescribeTopicPartitions; `next_cursor` says where the rest begins."""

    topics: tuple[TopicMetadata, ...]
    next_cursor: Cursor | None = None
    throttle_time_ms: int = 0


class NamedPartitions(Part, frozen=True):
    """Partitions of one topic."""

    name: TopicName
    partitions: tuple[PartitionIndex, ...]


class DescribeLogDirs(Request, frozen=True):
    """Asks how much each partition holds; None asks for all."""

    topics: tuple[NamedPartitions, ...] | None


class PartitionSize(Part, frozen=True):
    """What one partition holds, in bytes as sealed."""

    index: PartitionIndex
    size_bytes: int
    offset_lag: int = 0


class SizedTopic(Part, frozen=True):
    """What the partitions of one topic hold."""

    name: TopicName
    partitions: tuple[PartitionSize, ...]


class LogDir(Part, frozen=True):
    """One data directory, by a name that gives no path away."""

    name: str
    topics: tuple[SizedTopic, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    total_bytes: int = -1
    usable_bytes: int = -1


class DescribeLogDirsResult(Response, frozen=True):
    """Answer to DescribeLogDirs."""

    directories: tuple[LogDir, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    throttle_time_ms: int = 0


class DescribeProducers(Request, frozen=True):
    """Asks who writes to partitions with a producer id."""

    topics: tuple[NamedPartitions, ...]


class ActiveProducer(Part, frozen=True):
    """One producer as its last batch left it."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_timestamp_ms: int
    transaction_start_offset: int = -1


class ProducersOfPartition(Part, frozen=True):
    """Who writes to one partition."""

    index: PartitionIndex
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    producers: tuple[ActiveProducer, ...] = ()


class ProducersOfTopic(Part, frozen=True):
    """Who writes to one topic."""

    name: TopicName
    partitions: tuple[ProducersOfPartition, ...]


class DescribeProducersResult(Response, frozen=True):
    """Answer to DescribeProducers."""

    topics: tuple[ProducersOfTopic, ...]
    throttle_time_ms: int = 0


class ElectLeaders(Request, frozen=True):
    """Asks for elections: of preferred leaders (0), or unclean ones (1). None asks for all."""

    election_type: int
    topics: tuple[NamedPartitions, ...] | None
    timeout_ms: int


class Election(Part, frozen=True):
    """What became of one partition's election."""

    index: PartitionIndex
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


class ElectionsOfTopic(Part, frozen=True):
    """What became of one topic's elections."""

    name: TopicName
    partitions: tuple[Election, ...]


class ElectLeadersResult(Response, frozen=True):
    """Answer to ElectLeaders."""

    topics: tuple[ElectionsOfTopic, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    throttle_time_ms: int = 0


class DescribeQuorum(Request, frozen=True):
    """Asks for the quorum of the catalogue, under the name that Kafka gives its log."""

    topics: tuple[NamedPartitions, ...]


class QuorumReplica(Part, frozen=True):
    """One replica of the catalogue, as its leader sees it."""

    replica_id: int
    log_end_offset: int
    last_fetch_ms: int = -1
    last_caught_up_ms: int = -1


class Quorum(Part, frozen=True):
    """The quorum of one log."""

    index: PartitionIndex
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    leader_id: int = -1
    leader_epoch: int = -1
    high_watermark: int = -1
    voters: tuple[QuorumReplica, ...] = ()
    observers: tuple[QuorumReplica, ...] = ()


class QuorumsOfTopic(Part, frozen=True):
    """The quorums of one topic's partitions."""

    name: TopicName
    partitions: tuple[Quorum, ...]


class DescribeQuorumResult(Response, frozen=True):
    """Answer to DescribeQuorum."""

    topics: tuple[QuorumsOfTopic, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    brokers: tuple[Broker, ...] = ()


class FeatureUpdate(Part, frozen=True):
    """A feature and the level that it is to have; 0 deletes it."""

    name: Name
    level: int
    upgrade_type: int = 1


class UpdateFeatures(Request, frozen=True):
    """Asks for other levels of features (KIP-584)."""

    timeout_ms: int
    updates: tuple[FeatureUpdate, ...]
    validate_only: bool = False


class UpdatedFeature(Part, frozen=True):
    """What became of one feature."""

    name: str
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


class UpdateFeaturesResult(Response, frozen=True):
    """Answer to UpdateFeatures."""

    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    features: tuple[UpdatedFeature, ...] = ()
    throttle_time_ms: int = 0
