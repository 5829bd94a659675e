"""InitProducerId (key 22): gives a producer its id, or the next epoch of the one it has.

Why each version exists:
0  idempotence and transactions (KIP-98).
1  the client waits out its throttling itself (KIP-219).
2  flexible (KIP-482).
3  the id and epoch that the producer has (KIP-360).
4  the client knows PRODUCER_FENCED (KIP-588).
5  the client knows TRANSACTION_ABORTABLE (KIP-890).

Version 6 is for two-phase commit (KIP-939); Kafka's releases declare it and do not serve it.
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Field, Scalar, row
from appliance.wire.requests import InitProducerId, InitProducerIdResult

_REQUEST: Final = row(
    Field("transactional_id", Scalar.STRING, nullable_from=0),
    Field("transaction_timeout_ms", Scalar.INT32),
    Field("producer_id", Scalar.INT64, since=3, default=-1),
    Field("producer_epoch", Scalar.INT16, since=3, default=-1),
    into=InitProducerId,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("producer_id", Scalar.INT64),
    Field("producer_epoch", Scalar.INT16),
    into=InitProducerIdResult,
)

API: Final = Api(
    key=22,
    name="InitProducerId",
    lowest=0,
    highest=5,
    flexible_from=2,
    request=_REQUEST,
    response=_RESPONSE,
)
