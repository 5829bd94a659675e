"""ListPartitionReassignments (key 46): which partitions are being moved (KIP-455).

Why each version exists:
0  the API itself.
"""

from typing import Final

from appliance.wire.kafka.apis.describe_log_dirs import PARTITIONS
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    ListPartitionReassignments,
    ListPartitionReassignmentsResult,
    OngoingReassignment,
    OngoingReassignments,
)

_ONGOING: Final = row(
    Field("index", Scalar.INT32),
    Field("replicas", Array(Scalar.INT32)),
    Field("adding", Array(Scalar.INT32)),
    Field("removing", Array(Scalar.INT32)),
    into=OngoingReassignment,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=0),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_ONGOING)),
                into=OngoingReassignments,
            )
        ),
    ),
    into=ListPartitionReassignmentsResult,
)

API: Final = Api(
    key=46,
    name="ListPartitionReassignments",
    lowest=0,
    highest=0,
    flexible_from=0,
    request=row(
        Field("timeout_ms", Scalar.INT32),
        Field("topics", Array(PARTITIONS), nullable_from=0),
        into=ListPartitionReassignments,
    ),
    response=_RESPONSE,
)
