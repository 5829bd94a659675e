"""What goes into and comes out of the group coordinator: values, no dialect.

Rules: a ticket names one parked request; whoever hands it in gets exactly one `Answer` with it,
unless it gives it up. A `Persist` is proposed first, and its answers go out when it is committed.
"""

from typing import NewType, Union

import msgspec

from appliance.coordination.commands import Command
from appliance.errors import ErrorCode
from appliance.types import (
    GroupName,
    MemberId,
    Offset,
    PartitionIndex,
    TimestampMs,
    TopicId,
)

Ticket = NewType("Ticket", int)
"""Names one request that waits for its group."""

Protocols = tuple[tuple[str, bytes], ...]
"""(assignor, opaque metadata), the member's favourite first."""


class Join(msgspec.Struct, frozen=True):
    """A member asks to be in the next generation.

    `fresh_id` is the id it gets if it brings none: drawn by the shell, for entropy comes in.
    """

    group: GroupName
    member: MemberId
    instance: str | None
    fresh_id: MemberId
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: Protocols
    requires_member_id: bool = False
    client_id: str = ""
    client_host: str = ""
    """What the member's process calls itself, and where it is: for people who look at the group."""


class JoinedPeer(msgspec.Struct, frozen=True):
    """A member as the leader sees it."""

    member: MemberId
    instance: str | None
    metadata: bytes


class Joined(msgspec.Struct, frozen=True):
    """Answer to Join; `peers` for the leader only."""

    error: ErrorCode = ErrorCode.NONE
    member: MemberId = MemberId("")
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: MemberId = MemberId("")
    peers: tuple[JoinedPeer, ...] = ()


class Sync(msgspec.Struct, frozen=True):
    """A member brings, or waits for, the generation's assignments."""

    group: GroupName
    member: MemberId
    instance: str | None
    generation: int
    protocol_type: str | None = None
    protocol: str | None = None
    assignments: tuple[tuple[MemberId, bytes], ...] = ()


class Synced(msgspec.Struct, frozen=True):
    """Answer to Sync."""

    error: ErrorCode = ErrorCode.NONE
    assignment: bytes = b""
    protocol_type: str | None = None
    protocol: str | None = None


class Claim(msgspec.Struct, frozen=True):
    """Who a member says it is, and in which generation."""

    group: GroupName
    member: MemberId
    instance: str | None
    generation: int


class BeginGeneration(Command, frozen=True, tag="begin-generation/1"):
    """A generation has begun: none with this number or a lower one ever begins again."""

    group: GroupName
    generation: int
    protocol_type: str


class StoredOffset(msgspec.Struct, frozen=True):
    """The offset that a group has reached in one partition."""

    topic: TopicId
    partition: PartitionIndex
    offset: Offset
    leader_epoch: int
    metadata: str
    time_ms: TimestampMs


class CommitOffsets(Command, frozen=True, tag="commit-offsets/1"):
    """Stores offsets; later ones replace earlier ones."""

    group: GroupName
    offsets: tuple[StoredOffset, ...]


class ForgetGroup(Command, frozen=True, tag="forget-group/1"):
    """Drops what is known of a group, unless it has offsets."""

    group: GroupName


class DropGroup(Command, frozen=True, tag="drop-group/1"):
    """Drops all that is known of a group, its offsets too."""

    group: GroupName


class ForgetTopic(Command, frozen=True, tag="forget-topic/1"):
    """Drops every group's offsets of a deleted topic."""

    topic: TopicId


GroupCommand = Union[BeginGeneration, CommitOffsets, DropGroup, ForgetGroup, ForgetTopic]


class Answer(msgspec.Struct, frozen=True):
    """What one parked request is told."""

    ticket: Ticket
    result: Joined | Synced


class Persist(msgspec.Struct, frozen=True):
    """A command to commit; the answers wait for it."""

    command: GroupCommand
    answers: tuple[Answer, ...] = ()


Effect = Union[Answer, Persist]
