"""Metadata (key 3): brokers, topics, leaders.

Why each version exists:
0  an empty array of topics asks for all.
1  null asks for all, empty for none; racks, the controller, internal topics.
2  the cluster's id (KIP-78).
3  throttle time (KIP-124).
4  the client says whether topics may be created for it (KIP-204 era); before, they always may.
5  offline replicas (KIP-112).
6  the client waits out its throttling itself (KIP-219).
7  leader epochs (KIP-320).
8  authorised operations (KIP-430).
9  flexible (KIP-482).
10 topic ids (KIP-516).
11 authorised operations of the cluster moved to DescribeCluster (KIP-700).
12 topics may be asked for by id (KIP-516).
13 an error for the answer as a whole (KIP-1102).
"""

from typing import Final

from msgspec import Struct

from appliance.errors import UnsupportedVersion
from appliance.types import TopicId, TopicName
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request
from appliance.wire.requests import (
    Broker,
    Metadata,
    MetadataResult,
    PartitionMetadata,
    TopicMetadata,
)

_FIRST_WITH_IDS: Final = 12
_UNERASED_COUNT_BYTES: Final = 3
"""librdkafka asks for all topics by a null count of four bytes where one belongs (its issue 5049);
what it means is read all the same, as Kafka reads it, and three bytes are left over."""


class _Topic(Struct, frozen=True, gc=False):
    """A topic by name, or (name null) by id."""

    topic_id: TopicId | None
    name: TopicName | None


class _Asked(Struct, frozen=True, gc=False):
    """The request as it stands on the wire."""

    topics: tuple[_Topic, ...] | None
    allow_auto_topic_creation: bool
    cluster_operations: bool
    topic_operations: bool


def _request(asked: _Asked, version: int) -> Metadata:
    names: tuple[TopicName, ...] | None = None
    ids: tuple[TopicId, ...] = ()
    all_of_them = asked.topics is None or (version == 0 and not asked.topics)
    if asked.topics is not None and not all_of_them:
        names = tuple(topic.name for topic in asked.topics if topic.name is not None)
        ids = tuple(topic.topic_id for topic in asked.topics if topic.topic_id is not None)
        if version < _FIRST_WITH_IDS and len(names) < len(asked.topics):
            raise UnsupportedVersion("this version asks for topics by name")
        if ids:
            names = ()  # as Kafka has it: whoever asks by id asks by nothing else
    return Metadata(
        names,
        asked.allow_auto_topic_creation,
        ids,
        asked.cluster_operations,
        asked.topic_operations,
    )


_REQUEST: Final = row(
    Field(
        "topics",
        Array(
            row(
                Field("topic_id", Scalar.UUID, since=10, default=None),
                Field("name", Scalar.STRING, nullable_from=10),
                into=_Topic,
            )
        ),
        nullable_from=1,
    ),
    Field("allow_auto_topic_creation", Scalar.BOOL, since=4, default=True),
    Field("cluster_operations", Scalar.BOOL, since=8, until=10, default=False),
    Field("topic_operations", Scalar.BOOL, since=8, default=False),
    into=_Asked,
)

_BROKER: Final = row(
    Field("node_id", Scalar.INT32),
    Field("host", Scalar.STRING),
    Field("port", Scalar.INT32),
    Field("rack", Scalar.STRING, since=1, nullable_from=1),
    into=Broker,
)

_PARTITION: Final = row(
    Field("error", Scalar.INT16),
    Field("index", Scalar.INT32),
    Field("leader_id", Scalar.INT32),
    Field("leader_epoch", Scalar.INT32, since=7, default=-1),
    Field("replicas", Array(Scalar.INT32)),
    Field("in_sync_replicas", Array(Scalar.INT32)),
    Field("offline_replicas", Array(Scalar.INT32), since=5),
    into=PartitionMetadata,
)

_TOPIC: Final = row(
    Field("error", Scalar.INT16),
    Field("name", Scalar.STRING, nullable_from=12),
    Field("topic_id", Scalar.UUID, since=10, default=None),
    Field("is_internal", Scalar.BOOL, since=1, default=False),
    Field("partitions", Array(_PARTITION)),
    Field("operations", Scalar.INT32, since=8),
    into=TopicMetadata,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32, since=3, default=0),
    Field("brokers", Array(_BROKER)),
    Field("cluster_id", Scalar.STRING, since=2, nullable_from=2, default=""),
    Field("controller_id", Scalar.INT32, since=1, default=-1),
    Field("topics", Array(_TOPIC)),
    Field("operations", Scalar.INT32, since=8, until=10),
    Field("error", Scalar.INT16, since=13),
    into=MetadataResult,
)

API: Final = Api(
    key=3,
    name="Metadata",
    lowest=0,
    highest=13,
    flexible_from=9,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
    spare_bytes=_UNERASED_COUNT_BYTES,
)
