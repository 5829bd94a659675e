"""DescribeCluster (key 60): the nodes, without any topic (KIP-700).

Why each version exists:
0  nodes, the controller, authorised operations.
1  which kind of endpoint is asked for (KIP-919).
2  nodes that are fenced (KIP-1073); none is told of here.
"""

from typing import Final

from appliance.wire.kafka.schema import Api, Array, Field, Scalar, row
from appliance.wire.requests import Broker, DescribeCluster, DescribeClusterResult

_REQUEST: Final = row(
    Field("cluster_operations", Scalar.BOOL),
    Field("endpoint_type", Scalar.INT8, since=1, default=1),
    Field("fenced_brokers", Scalar.BOOL, since=2, bound=False, default=False),
    into=DescribeCluster,
)

_BROKER: Final = row(
    Field("node_id", Scalar.INT32),
    Field("host", Scalar.STRING),
    Field("port", Scalar.INT32),
    Field("rack", Scalar.STRING, nullable_from=0),
    Field("is_fenced", Scalar.BOOL, since=2, bound=False, default=False),
    into=Broker,
)

_RESPONSE: Final = row(
    Field("throttle_time_ms", Scalar.INT32),
    Field("error", Scalar.INT16),
    Field("message", Scalar.STRING, nullable_from=0),
    Field("endpoint_type", Scalar.INT8, since=1),
    Field("cluster_id", Scalar.STRING),
    Field("controller_id", Scalar.INT32),
    Field("brokers", Array(_BROKER)),
    Field("operations", Scalar.INT32),
    into=DescribeClusterResult,
)

API: Final = Api(
    key=60,
    name="DescribeCluster",
    lowest=0,
    highest=2,
    flexible_from=0,
    request=_REQUEST,
    response=_RESPONSE,
)
