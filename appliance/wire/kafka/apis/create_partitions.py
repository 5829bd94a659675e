"""CreatePartitions (key 37): gives topics more partitions.

Why each version exists:
0  the API itself (KIP-195).
1  the client waits out its throttling itself (KIP-219).
2  flexible (KIP-482).
3  the client knows THROTTLING_QUOTA_EXCEEDED (KIP-599).
"""

from typing import Final

from msgspec import Struct

from appliance.types import TopicName
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import (
    CreatePartitions,
    CreatePartitionsResult,
    ExtendedTopic,
    MorePartitions,
)


class _Topic(Struct, frozen=True, gc=False):
    """One topic as it stands on the wire: an assignment is a row of its own."""

    name: TopicName
    count: int
    assignments: tuple[tuple[tuple[int, ...]], ...] | None


class _Asked(Struct, frozen=True, gc=False):
    """The request as it stands on the wire."""

    topics: tuple[_Topic, ...]
    timeout_ms: int
    validate_only: bool


_KNOWS_THROTTLING: Final = 3
"""The version from which on the client knows THROTTLING_QUOTA_EXCEEDED (KIP-599)."""


def _request(asked: _Asked, version: int) -> CreatePartitions:
    topics = tuple(
        MorePartitions(
            topic.name,
            topic.count,
            None if topic.assignments is None else tuple(nodes for (nodes,) in topic.assignments),
        )
        for topic in asked.topics
    )
    return CreatePartitions(
        topics, asked.timeout_ms, asked.validate_only, version >= _KNOWS_THROTTLING
    )


_REQUEST: Final = row(
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("count", Scalar.INT32),
                Field(
                    "assignments",
                    Array(row(Field("nodes", Array(Scalar.INT32)))),
                    nullable_from=0,
                ),
                into=_Topic,
            )
        ),
    ),
    Field("timeout_ms", Scalar.INT32),
    Field("validate_only", Scalar.BOOL),
    into=_Asked,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("error", Scalar.INT16),
                Field("message", Scalar.STRING, nullable_from=0),
                into=ExtendedTopic,
            )
        ),
    ),
    into=CreatePartitionsResult,
)

API: Final = Api(
    key=37,
    name="CreatePartitions",
    lowest=0,
    highest=3,
    flexible_from=2,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
)
