"""Consumer groups of the classic protocol, and their offsets."""

from appliance.errors import ErrorCode
from appliance.types import GroupName, MemberId, Offset, PartitionIndex, TopicId, TopicName
from appliance.wire.requests.base import Name, Part, Request, Response


class FindCoordinator(Request, frozen=True):
    """Asks who coordinates groups (`key_type` 0) or transactional ids (1)."""

    key_type: int
    keys: tuple[Name, ...]


class Coordinator(Part, frozen=True):
    """The coordinator of one key; node -1 with an error."""

    key: str
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None
    node_id: int = -1
    host: str = ""
    port: int = -1


class FindCoordinatorResult(Response, frozen=True):
    """Answer to FindCoordinator."""

    coordinators: tuple[Coordinator, ...]
    throttle_time_ms: int = 0


class GroupProtocol(Part, frozen=True):
    """An assignor that the member offers, with its opaque metadata."""

    name: Name
    metadata: bytes


class JoinGroup(Request, frozen=True):
    """Asks to be in the next generation of a group (KIP-394: empty member id first gets one)."""

    group: GroupName
    session_timeout_ms: int
    rebalance_timeout_ms: int
    member_id: MemberId
    protocol_type: Name
    protocols: tuple[GroupProtocol, ...]
    group_instance_id: str | None = None
    requires_member_id: bool = False
    """True for versions of the request in which a member without an id is sent back (v4 on)."""


class JoinedMember(Part, frozen=True):
    """A member as the group's leader sees it."""

    member_id: MemberId
    metadata: bytes
    group_instance_id: str | None = None


class JoinGroupResult(Response, frozen=True):
    """Answer to JoinGroup; `members` only for the leader."""

    error: ErrorCode = ErrorCode.NONE
    generation_id: int = -1
    protocol_type: str | None = None
    protocol_name: str | None = None
    leader: str = ""
    member_id: MemberId = MemberId("")
    members: tuple[JoinedMember, ...] = ()
    throttle_time_ms: int = 0


class SyncGroup(Request, frozen=True):
    """Brings, as leader, or waits for the assignments of a generation."""

    group: GroupName
    generation_id: int
    member_id: MemberId
    assignments: tuple[tuple[MemberId, bytes], ...] = ()
    group_instance_id: str | None = None
    protocol_type: str | None = None
    protocol_name: str | None = None


class SyncGroupResult(Response, frozen=True):
    """Answer to SyncGroup."""

    error: ErrorCode = ErrorCode.NONE
    assignment: bytes = b""
    protocol_type: str | None = None
    protocol_name: str | None = None
    throttle_time_ms: int = 0


class Heartbeat(Request, frozen=True):
    """Says that a member is alive."""

    group: GroupName
    generation_id: int
    member_id: MemberId
    group_instance_id: str | None = None


class HeartbeatResult(Response, frozen=True):
    """Answer to Heartbeat."""

    error: ErrorCode = ErrorCode.NONE
    throttle_time_ms: int = 0


class LeaveGroup(Request, frozen=True):
    """Takes members, (member id, group instance id), out of a group."""

    group: GroupName
    members: tuple[tuple[MemberId, str | None], ...]


class LeaveGroupResult(Response, frozen=True):
    """Answer to LeaveGroup; `members` in the order of the request."""

    error: ErrorCode = ErrorCode.NONE
    members: tuple[tuple[MemberId, str | None, ErrorCode], ...] = ()
    throttle_time_ms: int = 0


class CommitPartition(Part, frozen=True):
    """The offset a group has reached in one partition."""

    index: PartitionIndex
    offset: Offset
    leader_epoch: int = -1
    metadata: str | None = None


class CommitTopic(Part, frozen=True):
    """The offsets a group has reached in one topic."""

    name: TopicName
    partitions: tuple[CommitPartition, ...]
    topic_id: TopicId | None = None


class OffsetCommit(Request, frozen=True):
    """Stores a group's offsets; generation -1 with an empty member id is from outside a group."""

    group: GroupName
    generation_id: int
    member_id: MemberId
    topics: tuple[CommitTopic, ...]
    group_instance_id: str | None = None


class CommittedTopic(Part, frozen=True):
    """(partition, error) for one topic."""

    name: TopicName
    partitions: tuple[tuple[PartitionIndex, ErrorCode], ...]
    topic_id: TopicId | None = None


class OffsetCommitResult(Response, frozen=True):
    """Answer to OffsetCommit."""

    topics: tuple[CommittedTopic, ...]
    throttle_time_ms: int = 0


class OffsetFetchGroup(Part, frozen=True):
    """The partitions asked for, by their topics' names or ids; None asks for all committed ones."""

    group: GroupName
    topics: tuple[tuple[TopicName, tuple[PartitionIndex, ...]], ...] | None
    topic_ids: tuple[tuple[TopicId | None, tuple[PartitionIndex, ...]], ...] = ()


class OffsetFetch(Request, frozen=True):
    """Reads the offsets of one group, or of several."""

    groups: tuple[OffsetFetchGroup, ...]
    require_stable: bool = False
    by_id: bool = False
    """Whether the answer names topics by their ids."""


class FetchedOffset(Part, frozen=True):
    """A stored offset, or -1."""

    index: PartitionIndex
    offset: int = -1
    leader_epoch: int = -1
    metadata: str = ""
    error: ErrorCode = ErrorCode.NONE


class FetchedOffsetsGroup(Part, frozen=True):
    """The stored offsets of one group."""

    group: GroupName
    topics: tuple[tuple[TopicName, tuple[FetchedOffset, ...]], ...] = ()
    error: ErrorCode = ErrorCode.NONE
    topic_ids: tuple[tuple[TopicId | None, tuple[FetchedOffset, ...]], ...] = ()


class OffsetFetchResult(Response, frozen=True):
    """Answer to OffsetFetch."""

    groups: tuple[FetchedOffsetsGroup, ...]
    throttle_time_ms: int = 0
