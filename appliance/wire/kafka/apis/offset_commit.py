"""OffsetCommit (key 8): stores a group's offsets.

Why each version exists:
2  retention time; times of single commits are gone.
3  throttle time (KIP-124).
4  the client waits out its throttling itself (KIP-219).
5  retention is the broker's (KIP-211).
6  leader epochs (KIP-320).
7  static members (KIP-345).
8  flexible (KIP-482).
9  the new consumer protocol's members may commit too (KIP-848); nothing changes on the wire.
10 topics by id (KIP-848).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    CommitPartition,
    CommittedTopic,
    CommitTopic,
    OffsetCommit,
    OffsetCommitResult,
)

_PARTITION: Final = row(
    Field("index", Scalar.INT32),
    Field("offset", Scalar.INT64),
    Field("leader_epoch", Scalar.INT32, since=6, default=-1),
    Field("metadata", Scalar.STRING, nullable_from=0),
    into=CommitPartition,
)

_REQUEST: Final = row(
    Field("group", Scalar.STRING),
    Field("generation_id", Scalar.INT32),
    Field("member_id", Scalar.STRING),
    Field("group_instance_id", Scalar.STRING, since=7, nullable_from=7),
    Field("retention_time_ms", Scalar.INT64, until=4, bound=False, default=-1),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING, until=9, default=""),
                Field("topic_id", Scalar.UUID, since=10, default=None),
                Field("partitions", Array(_PARTITION)),
                into=CommitTopic,
            )
        ),
    ),
    into=OffsetCommit,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32, since=3, default=0),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING, until=9, default=""),
                Field("topic_id", Scalar.UUID, since=10, default=None),
                Field(
                    "partitions",
                    Array(row(Field("index", Scalar.INT32), Field("error", Scalar.INT16))),
                ),
                into=CommittedTopic,
            )
        ),
    ),
    into=OffsetCommitResult,
)

API: Final = Api(
    key=8,
    name="OffsetCommit",
    lowest=2,
    highest=10,
    flexible_from=8,
    request=_REQUEST,
    response=_RESPONSE,
)
