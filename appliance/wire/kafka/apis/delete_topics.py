"""DeleteTopics (key 20): deletes topics by name, and from version 6 on by id.

Why each version exists:
1  throttle time (KIP-124).
2  the client waits out its throttling itself (KIP-219).
3  the client knows TOPIC_DELETION_DISABLED.
4  flexible (KIP-482).
5  error messages, and THROTTLING_QUOTA_EXCEEDED (KIP-599).
6  topics by id (KIP-516).
"""

from typing import Final

from msgspec import Struct

from appliance.errors import ProtocolViolation
from appliance.types import TopicId, TopicName
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import DeletedTopic, DeleteTopics, DeleteTopicsResult


class _Topic(Struct, frozen=True, gc=False):
    """A topic by name, or (name null) by id."""

    name: TopicName | None
    topic_id: TopicId | None


class _Asked(Struct, frozen=True, gc=False):
    """The request as it stands on the wire."""

    topics: tuple[_Topic, ...]
    names: tuple[TopicName, ...]
    timeout_ms: int


_KNOWS_THROTTLING: Final = 5
"""The version from which on the client knows THROTTLING_QUOTA_EXCEEDED (KIP-599)."""


def _request(asked: _Asked, version: int) -> DeleteTopics:
    named = tuple(topic.name for topic in asked.topics if topic.name is not None)
    ids = []
    for topic in asked.topics:
        if (topic.name is None) is (topic.topic_id is None):
            raise ProtocolViolation("a topic to delete is named either by name or by id")
        if topic.topic_id is not None:
            ids.append(topic.topic_id)
    return DeleteTopics(
        (*asked.names, *named), asked.timeout_ms, tuple(ids), version >= _KNOWS_THROTTLING
    )


_REQUEST: Final = row(
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING, nullable_from=6),
                Field("topic_id", Scalar.UUID),
                into=_Topic,
            )
        ),
        since=6,
        default=(),
    ),
    Field("names", Array(Scalar.STRING), until=5, default=()),
    Field("timeout_ms", Scalar.INT32),
    into=_Asked,
)

_DELETED: Final = row(
    Field("name", Scalar.STRING, nullable_from=6),
    Field("topic_id", Scalar.UUID, since=6, default=None),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, since=5, nullable_from=5),
    into=DeletedTopic,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("topics", Array(_DELETED)),
    into=DeleteTopicsResult,
)

API: Final = Api(
    key=20,
    name="DeleteTopics",
    lowest=1,
    highest=6,
    flexible_from=4,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
)
