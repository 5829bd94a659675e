"""Fetch (key 1): reads batches from partitions.

Why each version exists:
4  isolation levels and aborted transactions (KIP-98); earlier ones carry older formats.
5  log start offsets (KIP-107).
6  the client knows KAFKA_STORAGE_ERROR.
7  fetch sessions (KIP-227).
8  the client waits out its throttling itself (KIP-219).
9  the leader epoch that the client knows of (KIP-320).
10 zstd (KIP-110).
11 rack and preferred replica (KIP-392).
12 flexible, last fetched epoch and diverging epoch (KIP-595).
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    Fetch,
    FetchedPartition,
    FetchedTopic,
    FetchPartition,
    FetchResult,
    FetchTopic,
)

_PARTITION: Final = row(
    Field("index", Scalar.INT32),
    Field("current_leader_epoch", Scalar.INT32, since=9, default=-1),
    Field("offset", Scalar.INT64),
    Field("last_fetched_epoch", Scalar.INT32, since=12, bound=False, default=-1),
    Field("log_start_offset", Scalar.INT64, since=5, bound=False, default=-1),
    Field("max_bytes", Scalar.INT32),
    into=FetchPartition,
)

_FORGOTTEN: Final = row(
    Field("name", Scalar.STRING),
    Field("partitions", Array(Scalar.INT32)),
)

_REQUEST: Final = row(
    Field("replica_id", Scalar.INT32, bound=False, default=-1),
    Field("max_wait_ms", Scalar.INT32),
    Field("min_bytes", Scalar.INT32),
    Field("max_bytes", Scalar.INT32),
    Field("isolation_level", Scalar.INT8),
    Field("session_id", Scalar.INT32, since=7, default=0),
    Field("session_epoch", Scalar.INT32, since=7, default=-1),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_PARTITION)),
                into=FetchTopic,
            )
        ),
    ),
    Field("forgotten_topics", Array(_FORGOTTEN), since=7, bound=False, default=()),
    Field("rack_id", Scalar.STRING, since=11, default=""),
    Field("cluster_id", Scalar.STRING, since=12, nullable_from=12, tag=0, bound=False),
    into=Fetch,
)

_ABORTED: Final = row(
    Field("producer_id", Scalar.INT64),
    Field("first_offset", Scalar.INT64),
)

_FETCHED: Final = row(
    Field("index", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("high_watermark", Scalar.INT64),
    Field("last_stable_offset", Scalar.INT64),
    Field("log_start_offset", Scalar.INT64, since=5, default=-1),
    # Empty, not null: every client takes both, and empty is what read_committed consumers know.
    Field("aborted_transactions", Array(_ABORTED), nullable_from=4, bound=False, default=()),
    Field("preferred_read_replica", Scalar.INT32, since=11, bound=False, default=-1),
    Field("batches", Scalar.RECORDS, nullable_from=0),
    into=FetchedPartition,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("error", Scalar.INT16, since=7, default=0),
    Field("session_id", Scalar.INT32, since=7, default=0),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_FETCHED)),
                into=FetchedTopic,
            )
        ),
    ),
    into=FetchResult,
)

API: Final = Api(
    key=1,
    name="Fetch",
    lowest=4,
    highest=12,
    flexible_from=12,
    request=_REQUEST,
    response=_RESPONSE,
)
