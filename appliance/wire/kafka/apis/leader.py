"""Where the leader is now, beside an error that says it is not here (KIP-951)."""

from typing import Final

from appliance.wire.kafka.schema import Field, Scalar, row
from appliance.wire.requests import Broker, CurrentLeader

LEADER: Final = row(
    Field("node_id", Scalar.INT32, default=-1),
    Field("epoch", Scalar.INT32, default=-1),
    into=CurrentLeader,
)

ENDPOINT: Final = row(
    Field("node_id", Scalar.INT32),
    Field("host", Scalar.STRING),
    Field("port", Scalar.INT32),
    Field("rack", Scalar.STRING, nullable_from=0),
    into=Broker,
)
