"""DeleteTopics (key 20): deletes topics by name; version 6 adds ids (KIP-516) and comes later.

Why each version exists:
1  throttle time (KIP-124).
2  the client waits out its throttling itself (KIP-219).
3  the client knows TOPIC_DELETION_DISABLED.
4  flexible (KIP-482).
5  error messages, and THROTTLING_QUOTA_EXCEEDED (KIP-599).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import DeletedTopic, DeleteTopics, DeleteTopicsResult

_REQUEST: Final = row(
    Field("names", Array(Scalar.STRING)),
    Field("timeout_ms", Scalar.INT32),
    into=DeleteTopics,
)

_DELETED: Final = row(
    Field("name", Scalar.STRING),
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
    highest=5,
    flexible_from=4,
    request=_REQUEST,
    response=_RESPONSE,
)
