"""DescribeProducers (key 61): who writes to partitions with a producer id (KIP-664).

Why each version exists:
0  the API itself.
"""

from typing import Final

from appliance.wire.kafka.apis.describe_log_dirs import PARTITIONS
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    ActiveProducer,
    DescribeProducers,
    DescribeProducersResult,
    ProducersOfPartition,
    ProducersOfTopic,
)

_PRODUCER: Final = row(
    Field("producer_id", Scalar.INT64),
    Field("producer_epoch", Scalar.INT32),
    Field("last_sequence", Scalar.INT32),
    Field("last_timestamp_ms", Scalar.INT64),
    Field("coordinator_epoch", Scalar.INT32, bound=False, default=-1),
    Field("transaction_start_offset", Scalar.INT64),
    into=ActiveProducer,
)

_PARTITION: Final = row(
    Field("index", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=0),
    Field("producers", Array(_PRODUCER)),
    into=ProducersOfPartition,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_PARTITION)),
                into=ProducersOfTopic,
            )
        ),
    ),
    into=DescribeProducersResult,
)

API: Final = Api(
    key=61,
    name="DescribeProducers",
    lowest=0,
    highest=0,
    flexible_from=0,
    request=row(Field("topics", Array(PARTITIONS)), into=DescribeProducers),
    response=_RESPONSE,
)
