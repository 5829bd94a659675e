"""Produce (key 0): appends batches to partitions.

Why each version exists:
3  record batches v2 and transactional ids (KIP-98); 0 to 2 carry older formats and are refused,
   but advertised, because clients built on old librdkafka give up on a broker without them
   (KAFKA-18659).
4  the client knows KAFKA_STORAGE_ERROR.
5  the response has the log start offset (KIP-107).
6  the client waits out its throttling itself (KIP-219).
7  zstd (KIP-110).
8  errors of single records, and a message (KIP-467).
9  flexible (KIP-482).
10 the current leader beside NOT_LEADER_OR_FOLLOWER (KIP-951), a tagged field.
11 transactions without a separate verification (KIP-890).
12 the client understands a producer epoch that the broker bumps (KIP-890).
13 topics by id (KIP-516).
"""

from typing import Final

from appliance.limits import MAX_FRAME_BYTES
from appliance.wire.kafka import usual_produce
from appliance.wire.kafka.apis.leader import ENDPOINT, LEADER
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, Usual, row
from appliance.wire.requests import (
    Produce,
    ProducedPartition,
    ProducedTopic,
    ProducePartition,
    ProduceResult,
    ProduceTopic,
)

_REQUEST: Final = row(
    Field("transactional_id", Scalar.STRING, nullable_from=3),
    Field("acks", Scalar.INT16),
    Field("timeout_ms", Scalar.INT32),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING, until=12, default=""),
                Field("topic_id", Scalar.UUID, since=13, default=None),
                Field(
                    "partitions",
                    Array(
                        row(
                            Field("index", Scalar.INT32),
                            Field("batch", Scalar.RECORDS, nullable_from=0),
                            into=ProducePartition,
                        )
                    ),
                ),
                into=ProduceTopic,
            )
        ),
    ),
    into=Produce,
)

_RECORD_ERRORS: Final = row(
    Field("batch_index", Scalar.INT32),
    Field("message", Scalar.STRING, nullable_from=8),
)

_RESPONSE: Final = row(
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING, until=12, default=""),
                Field("topic_id", Scalar.UUID, since=13, default=None),
                Field(
                    "partitions",
                    Array(
                        row(
                            Field("index", Scalar.INT32),
                            Field("error", Scalar.INT16),
                            Field("base_offset", Scalar.INT64),
                            Field("log_append_time_ms", Scalar.INT64, default=-1),
                            Field("log_start_offset", Scalar.INT64, since=5, default=-1),
                            Field(
                                "record_errors",
                                Array(_RECORD_ERRORS),
                                since=8,
                                bound=False,
                                default=(),
                            ),
                            Field("message", Scalar.STRING, since=8, nullable_from=8),
                            Field("leader", LEADER, since=10, tag=0, default=None),
                            into=ProducedPartition,
                        )
                    ),
                ),
                into=ProducedTopic,
            )
        ),
    ),
    Field("throttle_time_ms", Scalar.INT32),
    Field("endpoints", Array(ENDPOINT), since=10, tag=0, default=()),
    into=ProduceResult,
)

API: Final = Api(
    key=0,
    name="Produce",
    lowest=3,
    highest=13,
    flexible_from=9,
    request=_REQUEST,
    response=_RESPONSE,
    advertised_from=0,
    max_request_bytes=MAX_FRAME_BYTES,
    usual=Usual(
        usual_produce.SINCE, usual_produce.UNTIL, usual_produce.decode, usual_produce.encode
    ),
)
