"""OffsetFetch (key 9): reads the offsets of one group (to version 7) or of several (from 8).

Why each version exists:
1  offsets come from the group's log, not from ZooKeeper.
2  null asks for all partitions; an error for the group as a whole (KIP-88).
3  throttle time (KIP-124).
4  the client waits out its throttling itself (KIP-219).
5  leader epochs (KIP-320).
6  flexible (KIP-482).
7  the client may ask for offsets that no open transaction can change (KIP-447).
8  several groups (KIP-709).
9  the new consumer protocol's members (KIP-848).
10 topics by id (KIP-848).
"""

from typing import Final

from msgspec import Struct

from appliance.errors import ErrorCode
from appliance.types import GroupName, PartitionIndex, TopicId, TopicName
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request, to_wire
from appliance.wire.requests import (
    FetchedOffset,
    FetchedOffsetsGroup,
    OffsetFetch,
    OffsetFetchGroup,
    OffsetFetchResult,
)

_Asked = tuple[tuple[TopicName, tuple[PartitionIndex, ...]], ...]
_Found = tuple[tuple[TopicName, tuple[FetchedOffset, ...]], ...]

_FIRST_WITH_GROUP_ERROR: Final = 2
_FIRST_WITH_GROUPS: Final = 8
_FIRST_WITH_IDS: Final = 10


class _AskedTopic(Struct, frozen=True, gc=False):
    """A topic of a group, by its name or by its id."""

    name: TopicName
    topic_id: TopicId | None
    indexes: tuple[PartitionIndex, ...]


class _AskedGroup(Struct, frozen=True, gc=False):
    """One of several groups."""

    group: GroupName
    topics: tuple[_AskedTopic, ...] | None


class _FoundTopic(Struct, frozen=True, gc=False):
    """A topic of a group, by its name or by its id."""

    name: TopicName
    topic_id: TopicId | None
    partitions: tuple[FetchedOffset, ...]


class _FoundGroup(Struct, frozen=True, gc=False):
    """One of several groups."""

    group: GroupName
    topics: tuple[_FoundTopic, ...]
    error: ErrorCode


class _Request(Struct, frozen=True, gc=False):
    """One group's fields, or several groups."""

    group: GroupName
    topics: _Asked | None
    groups: tuple[_AskedGroup, ...]
    require_stable: bool


class _Response(Struct, frozen=True, gc=False):
    """One group's fields, or several groups."""

    topics: _Found
    error: ErrorCode
    groups: tuple[_FoundGroup, ...]
    throttle_time_ms: int


def _request(asked: _Request, version: int) -> OffsetFetch:
    if version >= _FIRST_WITH_GROUPS:
        by_id = version >= _FIRST_WITH_IDS
        groups = tuple(_asked_group(group, by_id=by_id) for group in asked.groups)
        return OffsetFetch(groups, asked.require_stable, by_id)
    return OffsetFetch((OffsetFetchGroup(asked.group, asked.topics),), asked.require_stable)


def _asked_group(asked: _AskedGroup, *, by_id: bool) -> OffsetFetchGroup:
    if asked.topics is None:
        return OffsetFetchGroup(asked.group, None)
    if by_id:
        ids = tuple((topic.topic_id, topic.indexes) for topic in asked.topics)
        return OffsetFetchGroup(asked.group, (), ids)
    names = tuple((topic.name, topic.indexes) for topic in asked.topics)
    return OffsetFetchGroup(asked.group, names)


def _found_group(found: FetchedOffsetsGroup) -> _FoundGroup:
    named = [_FoundTopic(name, None, parts) for name, parts in found.topics]
    by_id = [_FoundTopic(TopicName(""), topic, parts) for topic, parts in found.topic_ids]
    return _FoundGroup(found.group, (*named, *by_id), found.error)


def _response(request: OffsetFetch, response: OffsetFetchResult, version: int) -> _Response:
    if version >= _FIRST_WITH_GROUPS:
        groups = tuple(map(_found_group, response.groups))
        return _Response((), ErrorCode.NONE, groups, response.throttle_time_ms)
    group = response.groups[0]
    topics = group.topics
    if version < _FIRST_WITH_GROUP_ERROR and group.error is not ErrorCode.NONE:
        topics = _spread(request.groups[0].topics or (), group.error)
    return _Response(topics, group.error, (), response.throttle_time_ms)


def _spread(asked: _Asked, error: ErrorCode) -> _Found:
    """A group's error as each partition's, where the version has no place for it."""
    return tuple(
        (name, tuple(FetchedOffset(index, error=error) for index in indexes))
        for name, indexes in asked
    )


_TOPICS_ASKED: Final = Array(
    row(Field("name", Scalar.STRING), Field("indexes", Array(Scalar.INT32)))
)

_GROUP_TOPICS_ASKED: Final = Array(
    row(
        Field("name", Scalar.STRING, until=9, default=""),
        Field("topic_id", Scalar.UUID, since=10, default=None),
        Field("indexes", Array(Scalar.INT32)),
        into=_AskedTopic,
    )
)

_REQUEST: Final = row(
    Field("group", Scalar.STRING, until=7, default=""),
    Field("topics", _TOPICS_ASKED, until=7, nullable_from=2, default=()),
    Field(
        "groups",
        Array(
            row(
                Field("group", Scalar.STRING),
                Field("member_id", Scalar.STRING, since=9, nullable_from=9, bound=False),
                Field("member_epoch", Scalar.INT32, since=9, bound=False, default=-1),
                Field("topics", _GROUP_TOPICS_ASKED, nullable_from=8),
                into=_AskedGroup,
            )
        ),
        since=8,
        default=(),
    ),
    Field("require_stable", Scalar.BOOL, since=7, default=False),
    into=_Request,
)

_PARTITIONS_FOUND: Final = Array(
    row(
        Field("index", Scalar.INT32),
        Field("offset", Scalar.INT64),
        Field("leader_epoch", Scalar.INT32, since=5, default=-1),
        Field("metadata", Scalar.STRING, nullable_from=0),
        Field("error", Scalar.INT16),
        into=FetchedOffset,
    )
)

_TOPICS_FOUND: Final = Array(
    row(Field("name", Scalar.STRING), Field("partitions", _PARTITIONS_FOUND))
)

_GROUP_TOPICS_FOUND: Final = Array(
    row(
        Field("name", Scalar.STRING, until=9, default=""),
        Field("topic_id", Scalar.UUID, since=10, default=None),
        Field("partitions", _PARTITIONS_FOUND),
        into=_FoundTopic,
    )
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32, since=3, default=0),
    Field("topics", _TOPICS_FOUND, until=7, default=()),
    Field("error", Scalar.INT16, since=2, until=7, default=0),
    Field(
        "groups",
        Array(
            row(
                Field("group", Scalar.STRING),
                Field("topics", _GROUP_TOPICS_FOUND),
                Field("error", Scalar.INT16),
                into=_FoundGroup,
            )
        ),
        since=8,
        default=(),
    ),
    into=_Response,
)

API: Final = Api(
    key=9,
    name="OffsetFetch",
    lowest=1,
    highest=10,
    flexible_from=6,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
    to_wire=to_wire(_response),
)
