"""CreateTopics (key 19): creates topics, or says what creating them would do.

Why each version exists:
2  throttle time (KIP-124); earlier ones are served by no current broker (KIP-896).
3  the client waits out its throttling itself (KIP-219).
4  -1 asks for the default number of partitions and replicas (KIP-464).
5  flexible, and the settings that the topic got (KIP-525).
6  the client knows THROTTLING_QUOTA_EXCEEDED (KIP-599).
7  the topic's id (KIP-516).
"""

from typing import Final

from msgspec.structs import replace

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import (
    CreatedTopic,
    CreateTopics,
    CreateTopicsResult,
    NewTopic,
    Setting,
)

_KNOWS_THROTTLING: Final = 6


def _request(asked: CreateTopics, version: int) -> CreateTopics:
    if version >= _KNOWS_THROTTLING:
        return asked
    return replace(asked, knows_throttling=False)


_NEW_TOPIC: Final = row(
    Field("name", Scalar.STRING),
    Field("partition_count", Scalar.INT32),
    Field("replication_factor", Scalar.INT16),
    Field(
        "assignments",
        Array(row(Field("partition", Scalar.INT32), Field("nodes", Array(Scalar.INT32)))),
    ),
    Field(
        "settings",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("value", Scalar.STRING, nullable_from=0),
            )
        ),
    ),
    into=NewTopic,
)

_REQUEST: Final = row(
    Field("topics", Array(_NEW_TOPIC)),
    Field("timeout_ms", Scalar.INT32),
    Field("validate_only", Scalar.BOOL),
    into=CreateTopics,
)

_SETTING: Final = row(
    Field("name", Scalar.STRING),
    Field("value", Scalar.STRING, nullable_from=5),
    Field("read_only", Scalar.BOOL),
    Field("source", Scalar.INT8),
    Field("is_sensitive", Scalar.BOOL, bound=False, default=False),
    into=Setting,
)

_CREATED: Final = row(
    Field("name", Scalar.STRING),
    Field("topic_id", Scalar.UUID, since=7),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=1),
    Field("settings_error", Scalar.INT16, since=5, tag=0, bound=False),
    Field("partition_count", Scalar.INT32, since=5),
    Field("replication_factor", Scalar.INT16, since=5),
    Field("settings", Array(_SETTING), since=5, nullable_from=5),
    into=CreatedTopic,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("topics", Array(_CREATED)),
    into=CreateTopicsResult,
)

API: Final = Api(
    key=19,
    name="CreateTopics",
    lowest=2,
    highest=7,
    flexible_from=5,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
)
