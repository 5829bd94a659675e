"""DescribeQuorum (key 55): the quorum of the catalogue (KIP-595).

Why each version exists:
0  the API itself.
1  when replicas were last heard of and caught up (KIP-836).
2  directory ids, messages and the voters' endpoints (KIP-853).
"""

from typing import Final

from msgspec import Struct

from appliance.errors import ErrorCode
from appliance.types import PartitionIndex, TopicName
from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row, to_request, to_wire
from appliance.wire.requests import (
    DescribeQuorum,
    DescribeQuorumResult,
    NamedPartitions,
    Quorum,
    QuorumReplica,
    QuorumsOfTopic,
)

_LISTENER: Final = "KAFKA"
"""The name that endpoints are told under: the listener's, in capitals as Java demands."""

_Topics = tuple[tuple[TopicName, tuple[tuple[PartitionIndex], ...]], ...]


class _Asked(Struct, frozen=True, gc=False):
    """The request as it stands on the wire: each partition is a row of its own."""

    topics: _Topics


class _Told(Struct, frozen=True, gc=False):
    """The response as it stands on the wire."""

    error: ErrorCode
    message: str | None
    topics: tuple[QuorumsOfTopic, ...]
    nodes: tuple[tuple[int, tuple[tuple[str, str, int], ...]], ...]


def _request(asked: _Asked, _: int) -> DescribeQuorum:
    return DescribeQuorum(
        tuple(
            NamedPartitions(name, tuple(index for (index,) in partitions))
            for name, partitions in asked.topics
        )
    )


def _response(_: DescribeQuorum, response: DescribeQuorumResult, __: int) -> _Told:
    nodes = tuple(
        (broker.node_id, ((_LISTENER, broker.host, broker.port),)) for broker in response.brokers
    )
    return _Told(response.error, response.message, response.topics, nodes)


_REQUEST: Final = row(
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(row(Field("index", Scalar.INT32)))),
            )
        ),
    ),
    into=_Asked,
)

_REPLICA: Final = row(
    Field("replica_id", Scalar.INT32),
    Field("replica_directory_id", Scalar.UUID, since=2, bound=False),
    Field("log_end_offset", Scalar.INT64),
    Field("last_fetch_ms", Scalar.INT64, since=1),
    Field("last_caught_up_ms", Scalar.INT64, since=1),
    into=QuorumReplica,
)

_QUORUM: Final = row(
    Field("index", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, since=2, nullable_from=2),
    Field("leader_id", Scalar.INT32),
    Field("leader_epoch", Scalar.INT32),
    Field("high_watermark", Scalar.INT64),
    Field("voters", Array(_REPLICA)),
    Field("observers", Array(_REPLICA)),
    into=Quorum,
)

_NODE: Final = row(
    Field("node_id", Scalar.INT32),
    Field(
        "listeners",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("host", Scalar.STRING),
                Field("port", Scalar.UINT16),
            )
        ),
    ),
)

_RESPONSE: Final = row(
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, since=2, nullable_from=2),
    Field(
        "topics",
        Array(
            row(
                Field("name", Scalar.STRING),
                Field("partitions", Array(_QUORUM)),
                into=QuorumsOfTopic,
            )
        ),
    ),
    Field("nodes", Array(_NODE), since=2),
    into=_Told,
)

API: Final = Api(
    key=55,
    name="DescribeQuorum",
    lowest=0,
    highest=2,
    flexible_from=0,
    request=_REQUEST,
    response=_RESPONSE,
    to_request=to_request(_request),
    to_wire=to_wire(_response),
)
