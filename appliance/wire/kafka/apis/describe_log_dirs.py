"""DescribeLogDirs (key 35): how much each partition holds.

Why each version exists:
1  the client waits out its throttling itself (KIP-219).
2  flexible (KIP-482).
3  an error for the answer as a whole (KIP-784).
4  how large the directory's volume is, and what is left of it (KIP-827).
5  whether it takes no new partitions (KIP-1066), which none here refuses.
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    DescribeLogDirs,
    DescribeLogDirsResult,
    LogDir,
    NamedPartitions,
    PartitionSize,
    SizedTopic,
)

PARTITIONS: Final = row(
    Field("name", Scalar.STRING),
    Field("partitions", Array(Scalar.INT32)),
    into=NamedPartitions,
)
"""A topic's partitions, as several APIs name them."""

_REQUEST: Final = row(
    Field("topics", Array(PARTITIONS), nullable_from=0),
    into=DescribeLogDirs,
)

_PARTITION: Final = row(
    Field("index", Scalar.INT32),
    Field("size_bytes", Scalar.INT64),
    Field("offset_lag", Scalar.INT64),
    Field("is_future_key", Scalar.BOOL, bound=False, default=False),
    into=PartitionSize,
)

_DIRECTORY: Final = row(
    Field("error", Scalar.INT16),
    Field("name", Scalar.STRING),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_PARTITION)),
                into=SizedTopic,
            )
        ),
    ),
    Field("total_bytes", Scalar.INT64, since=4),
    Field("usable_bytes", Scalar.INT64, since=4),
    Field("is_cordoned", Scalar.BOOL, since=5, bound=False, default=False),
    into=LogDir,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("error", Scalar.INT16, since=3),
    Field("directories", Array(_DIRECTORY)),
    into=DescribeLogDirsResult,
)

API: Final = Api(
    key=35,
    name="DescribeLogDirs",
    lowest=1,
    highest=5,
    flexible_from=2,
    request=_REQUEST,
    response=_RESPONSE,
)
