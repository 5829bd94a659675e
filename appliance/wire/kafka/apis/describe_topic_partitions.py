"""DescribeTopicPartitions (key 75): topics a page at a time (KIP-966).

Why each version exists:
0  paging, and replicas that may lead after all of the in-sync ones were lost; there are none here.
"""

from typing import Final

from msgspec import Struct

from appliance.types import TopicName
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import (
    Cursor,
    DescribeTopicPartitions,
    DescribeTopicPartitionsResult,
    PartitionMetadata,
    TopicMetadata,
)

_CURSOR: Final = row(
    Field("topic", Scalar.STRING),
    Field("partition", Scalar.INT32),
    into=Cursor,
)


class _Asked(Struct, frozen=True, gc=False):
    """The request as it stands on the wire: each topic is a row of its own."""

    topics: tuple[tuple[TopicName], ...]
    partition_limit: int
    cursor: Cursor | None


def _request(asked: _Asked, _: int) -> DescribeTopicPartitions:
    names = tuple(name for (name,) in asked.topics)
    return DescribeTopicPartitions(names, asked.partition_limit, asked.cursor)


_REQUEST: Final = row(
    Field("topics", Array(row(Field("name", Scalar.STRING)))),
    Field("partition_limit", Scalar.INT32),
    Field("cursor", _CURSOR, nullable_from=0),
    into=_Asked,
)

_PARTITION: Final = row(
    Field("error", Scalar.INT16),
    Field("index", Scalar.INT32),
    Field("leader_id", Scalar.INT32),
    Field("leader_epoch", Scalar.INT32),
    Field("replicas", Array(Scalar.INT32)),
    Field("in_sync_replicas", Array(Scalar.INT32)),
    Field(
        "eligible_leader_replicas", Array(Scalar.INT32), nullable_from=0, bound=False, default=()
    ),
    Field("last_known_elr", Array(Scalar.INT32), nullable_from=0, bound=False, default=()),
    Field("offline_replicas", Array(Scalar.INT32)),
    into=PartitionMetadata,
)

_TOPIC: Final = row(
    Field("error", Scalar.INT16),
    Field("name", Scalar.STRING, nullable_from=0),
    Field("topic_id", Scalar.UUID),
    Field("is_internal", Scalar.BOOL),
    Field("partitions", Array(_PARTITION)),
    Field("operations", Scalar.INT32),
    into=TopicMetadata,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("topics", Array(_TOPIC)),
    Field("next_cursor", _CURSOR, nullable_from=0),
    into=DescribeTopicPartitionsResult,
)

API: Final = Api(
    key=75,
    name="DescribeTopicPartitions",
    lowest=0,
    highest=0,
    flexible_from=0,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
)
