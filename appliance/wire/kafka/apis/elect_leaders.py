"""ElectLeaders (key 43): elections by hand.

Why each version exists:
0  of preferred leaders (KIP-183).
1  unclean ones too, and an error for the answer as a whole (KIP-460).
2  flexible (KIP-482).
"""

from typing import Final

from appliance.wire.kafka.apis.describe_log_dirs import PARTITIONS
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import Election, ElectionsOfTopic, ElectLeaders, ElectLeadersResult

_REQUEST: Final = row(
    Field("election_type", Scalar.INT8, since=1, default=0),
    Field("topics", Array(PARTITIONS), nullable_from=0),
    Field("timeout_ms", Scalar.INT32),
    into=ElectLeaders,
)

_ELECTION: Final = row(
    Field("index", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=0),
    into=Election,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("error", Scalar.INT16, since=1),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_ELECTION)),
                into=ElectionsOfTopic,
            )
        ),
    ),
    into=ElectLeadersResult,
)

API: Final = Api(
    key=43,
    name="ElectLeaders",
    lowest=0,
    highest=2,
    flexible_from=2,
    request=_REQUEST,
    response=_RESPONSE,
)
