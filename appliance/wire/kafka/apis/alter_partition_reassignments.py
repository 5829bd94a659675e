"""AlterPartitionReassignments (key 45): has partitions moved to other nodes (KIP-455).

Why each version exists:
0  the API itself.
1  whether a partition may get another number of replicas by it (KIP-860).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    AlterPartitionReassignments,
    AlterPartitionReassignmentsResult,
    PartitionToBeMoved,
    ReassignedPartition,
    ReassignedTopic,
    TopicToBeMoved,
)

_PARTITION: Final = row(
    Field("index", Scalar.INT32),
    Field("replicas", Array(Scalar.INT32), nullable_from=0),
    into=ReassignedPartition,
)

_REQUEST: Final = row(
    Field("timeout_ms", Scalar.INT32),
    Field("allow_factor_change", Scalar.BOOL, since=1, default=True),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_PARTITION)),
                into=ReassignedTopic,
            )
        ),
    ),
    into=AlterPartitionReassignments,
)

_MOVED: Final = row(
    Field("index", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=0),
    into=PartitionToBeMoved,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("allow_factor_change", Scalar.BOOL, since=1, default=True),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=0),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_MOVED)),
                into=TopicToBeMoved,
            )
        ),
    ),
    into=AlterPartitionReassignmentsResult,
)

API: Final = Api(
    key=45,
    name="AlterPartitionReassignments",
    lowest=0,
    highest=1,
    flexible_from=0,
    request=_REQUEST,
    response=_RESPONSE,
)
