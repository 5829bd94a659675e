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
13 topics by id (KIP-516).
14 tiered storage's error, which nothing here gives (KIP-405).
15 the replica says who it is in a tagged field (KIP-903).
16 the current leader beside NOT_LEADER_OR_FOLLOWER (KIP-951).
17 a replica's directory (KIP-853).
18 a replica's high watermark (KIP-1166).
"""

from typing import Final

from appliance.limits import MAX_FETCH_REQUEST_BYTES
from appliance.wire.kafka.apis.leader import ENDPOINT, LEADER
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import (
    AbortedTransaction,
    EpochEnd,
    Fetch,
    FetchedPartition,
    FetchedTopic,
    FetchPartition,
    FetchResult,
    FetchTopic,
    ForgottenTopic,
)

_PARTITION: Final = row(
    Field("index", Scalar.INT32),
    Field("current_leader_epoch", Scalar.INT32, since=9, default=-1),
    Field("offset", Scalar.INT64),
    Field("last_fetched_epoch", Scalar.INT32, since=12, default=-1),
    Field("log_start_offset", Scalar.INT64, since=5, bound=False, default=-1),
    Field("max_bytes", Scalar.INT32),
    Field("replica_directory_id", Scalar.UUID, since=17, tag=0, bound=False),
    Field("high_watermark", Scalar.INT64, since=18, tag=1, bound=False, default=(1 << 63) - 1),
    into=FetchPartition,
)

_FORGOTTEN: Final = row(
    Field("name", Scalar.STRING, until=12, default=""),
    Field("topic_id", Scalar.UUID, since=13, default=None),
    Field("partitions", Array(Scalar.INT32)),
    into=ForgottenTopic,
)

_REPLICA: Final = row(
    Field("replica_id", Scalar.INT32, default=-1),
    Field("replica_epoch", Scalar.INT64, default=-1),
)

_REQUEST: Final = row(
    Field("replica_id", Scalar.INT32, until=14, bound=False, default=-1),
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
                Field("name", Scalar.STRING, until=12, default=""),
                Field("topic_id", Scalar.UUID, since=13, default=None),
                Field("partitions", Array(_PARTITION)),
                into=FetchTopic,
            )
        ),
    ),
    Field("forgotten_topics", Array(_FORGOTTEN), since=7, default=()),
    Field("rack_id", Scalar.STRING, since=11, default=""),
    Field(
        "cluster_id", Scalar.STRING, since=12, nullable_from=12, tag=0, bound=False, default=None
    ),
    Field("replica_state", _REPLICA, since=15, tag=1, bound=False),
    into=Fetch,
)

_ABORTED: Final = row(
    Field("producer_id", Scalar.INT64),
    Field("first_offset", Scalar.INT64),
    into=AbortedTransaction,
)

_EPOCH_END: Final = row(
    Field("epoch", Scalar.INT32, default=-1),
    Field("end_offset", Scalar.INT64, default=-1),
    into=EpochEnd,
)

_SNAPSHOT: Final = row(
    Field("end_offset", Scalar.INT64, default=-1),
    Field("epoch", Scalar.INT32, default=-1),
)

_FETCHED: Final = row(
    Field("index", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("high_watermark", Scalar.INT64),
    Field("last_stable_offset", Scalar.INT64),
    Field("log_start_offset", Scalar.INT64, since=5, default=-1),
    Field("diverging", _EPOCH_END, since=12, tag=0, default=None),
    Field("leader", LEADER, since=12, tag=1, default=None),
    Field("snapshot", _SNAPSHOT, since=12, tag=2, bound=False),
    # Empty, not null: every client takes both, and empty is what read_committed consumers know.
    Field("aborted_transactions", Array(_ABORTED), nullable_from=4),
    Field("preferred_read_replica", Scalar.INT32, since=11, default=-1),
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
                Field("name", Scalar.STRING, until=12, default=""),
                Field("topic_id", Scalar.UUID, since=13, default=None),
                Field("partitions", Array(_FETCHED)),
                into=FetchedTopic,
            )
        ),
    ),
    Field("endpoints", Array(ENDPOINT), since=16, tag=0, default=()),
    into=FetchResult,
)

API: Final = Api(
    key=1,
    name="Fetch",
    lowest=4,
    highest=18,
    flexible_from=12,
    request=_REQUEST,
    response=_RESPONSE,
    max_request_bytes=MAX_FETCH_REQUEST_BYTES,
)
