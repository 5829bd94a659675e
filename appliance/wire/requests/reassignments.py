"""Moving replicas, as Kafka's tools ask for it (KIP-455)."""

from appliance.errors import ErrorCode
from appliance.types import PartitionIndex, TopicName
from appliance.wire.requests.base import Part, Request, Response
from appliance.wire.requests.cluster import NamedPartitions


class ReassignedPartition(Part, frozen=True):
    """The nodes that are to hold a partition; None calls off what is under way."""

    index: PartitionIndex
    replicas: tuple[int, ...] | None


class ReassignedTopic(Part, frozen=True):
    """Partitions of one topic that are to be moved."""

    name: TopicName
    partitions: tuple[ReassignedPartition, ...]


class AlterPartitionReassignments(Request, frozen=True):
    """Moves partitions; `allow_factor_change` lets one have more or fewer replicas than before."""

    timeout_ms: int
    topics: tuple[ReassignedTopic, ...]
    allow_factor_change: bool = True


class PartitionToBeMoved(Part, frozen=True):
    """Whether one partition's move has begun."""

    index: PartitionIndex
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


class TopicToBeMoved(Part, frozen=True):
    """Whether the moves of one topic's partitions have begun."""

    name: TopicName
    partitions: tuple[PartitionToBeMoved, ...]


class AlterPartitionReassignmentsResult(Response, frozen=True):
    """Answer to AlterPartitionReassignments."""

    topics: tuple[TopicToBeMoved, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    allow_factor_change: bool = True
    throttle_time_ms: int = 0


class ListPartitionReassignments(Request, frozen=True):
    """Asks which partitions are being moved; None asks of all."""

    timeout_ms: int
    topics: tuple[NamedPartitions, ...] | None


class OngoingReassignment(Part, frozen=True):
    """A partition on its way: all that hold it or are to, and those among them who come and go."""

    index: PartitionIndex
    replicas: tuple[int, ...]
    adding: tuple[int, ...]
    removing: tuple[int, ...]


class OngoingReassignments(Part, frozen=True):
    """Partitions of one topic that are on their way."""

    name: TopicName
    partitions: tuple[OngoingReassignment, ...]


class ListPartitionReassignmentsResult(Response, frozen=True):
    """Answer to ListPartitionReassignments."""

    topics: tuple[OngoingReassignments, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    throttle_time_ms: int = 0
