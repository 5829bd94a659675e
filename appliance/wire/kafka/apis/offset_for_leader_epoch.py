"""OffsetForLeaderEpoch (key 23): where a leader's epoch ended.

Why each version exists:
2  the epoch that the client knows of as current (KIP-320); earlier ones were for replicas only.
3  the replica says who it is; consumers say -2 or -1.
4  flexible (KIP-482).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    EndOfEpoch,
    EndsOfTopic,
    EpochPartition,
    EpochTopic,
    OffsetForLeaderEpoch,
    OffsetForLeaderEpochResult,
)

_PARTITION: Final = row(
    Field("index", Scalar.INT32),
    Field("current_leader_epoch", Scalar.INT32),
    Field("leader_epoch", Scalar.INT32),
    into=EpochPartition,
)

_TOPIC: Final = row(
    Field("name", Scalar.STRING),
    Field("partitions", Array(_PARTITION)),
    into=EpochTopic,
)

_REQUEST: Final = row(
    Field("replica_id", Scalar.INT32, since=3, bound=False, default=-2),
    Field("topics", Array(_TOPIC)),
    into=OffsetForLeaderEpoch,
)

_END: Final = row(
    Field("error", Scalar.INT16),
    Field("index", Scalar.INT32),
    Field("leader_epoch", Scalar.INT32),
    Field("end_offset", Scalar.INT64),
    into=EndOfEpoch,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_END)),
                into=EndsOfTopic,
            )
        ),
    ),
    into=OffsetForLeaderEpochResult,
)

API: Final = Api(
    key=23,
    name="OffsetForLeaderEpoch",
    lowest=2,
    highest=4,
    flexible_from=4,
    request=_REQUEST,
    response=_RESPONSE,
)
