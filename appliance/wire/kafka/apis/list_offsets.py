"""ListOffsets (key 2): looks offsets up by time.

Why each version exists:
1  one offset a partition, with its time; version 0 gave a list of segments.
2  isolation level (KIP-98).
3  the client waits out its throttling itself (KIP-219).
4  leader epochs (KIP-320).
5  the client knows OFFSET_NOT_AVAILABLE (KIP-207).
6  flexible (KIP-482).
7  the offset of the largest timestamp, -3 (KIP-734).
8  the start of the local log, -4 (KIP-405).
9  the last tiered offset, -5 (KIP-1005).
10 how long the broker may look in tiered storage (KIP-1075).
11 the first offset that is not tiered yet, -6 (KIP-1023).
"""

from typing import Final

from msgspec.structs import replace

from appliance.wire.kafka.schema import NEVER, Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import (
    UNKNOWN_TIME,
    ListedOffset,
    ListedOffsetsTopic,
    ListOffsets,
    ListOffsetsPartition,
    ListOffsetsResult,
    ListOffsetsTopic,
)

_MEANINGS: Final = {-1: 1, -2: 1, -3: 7, -4: 8, -5: 9, -6: 11}
"""The version from which on a time below 0 means something."""


def _request(asked: ListOffsets, version: int) -> ListOffsets:
    """A time that this version does not know is one that nobody does."""
    if all(
        part.timestamp_ms >= 0 or version >= _MEANINGS.get(part.timestamp_ms, NEVER)
        for topic in asked.topics
        for part in topic.partitions
    ):
        return asked
    return replace(asked, topics=tuple(_known(topic, version) for topic in asked.topics))


def _known(topic: ListOffsetsTopic, version: int) -> ListOffsetsTopic:
    parts = tuple(
        part
        if part.timestamp_ms >= 0 or version >= _MEANINGS.get(part.timestamp_ms, NEVER)
        else replace(part, timestamp_ms=UNKNOWN_TIME)
        for part in topic.partitions
    )
    return ListOffsetsTopic(topic.name, parts)


_PARTITION: Final = row(
    Field("index", Scalar.INT32),
    Field("current_leader_epoch", Scalar.INT32, since=4, default=-1),
    Field("timestamp_ms", Scalar.INT64),
    into=ListOffsetsPartition,
)

_REQUEST: Final = row(
    Field("replica_id", Scalar.INT32, bound=False, default=-1),
    Field("isolation_level", Scalar.INT8, since=2, default=0),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_PARTITION)),
                into=ListOffsetsTopic,
            )
        ),
    ),
    Field("timeout_ms", Scalar.INT32, since=10, bound=False, default=0),
    into=ListOffsets,
)

_LISTED: Final = row(
    Field("index", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("timestamp_ms", Scalar.INT64),
    Field("offset", Scalar.INT64),
    Field("leader_epoch", Scalar.INT32, since=4, default=-1),
    into=ListedOffset,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32, since=2, default=0),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_LISTED)),
                into=ListedOffsetsTopic,
            )
        ),
    ),
    into=ListOffsetsResult,
)

API: Final = Api(
    key=2,
    name="ListOffsets",
    lowest=1,
    highest=11,
    flexible_from=6,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
)
