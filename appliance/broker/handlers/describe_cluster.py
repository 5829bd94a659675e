"""DescribeCluster: the nodes as the caller's listener reaches them."""

from appliance.authz.actions import CLUSTER
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.operations import operations_on
from appliance.broker.placement import Placement
from appliance.broker.told import brokers_of
from appliance.errors import ErrorCode
from appliance.types import ClusterId
from appliance.wire.requests import (
    OPERATIONS_NOT_ASKED,
    DescribeCluster,
    DescribeClusterResult,
)

BROKERS, CONTROLLERS = 1, 2


class DescribeClusterHandler:
    """Tells anybody who is known what Metadata tells as well: where the nodes are (KIP-700)."""

    request = DescribeCluster

    def __init__(self, catalogue: Catalogue, placement: Placement, cluster: ClusterId) -> None:
        self._catalogue = catalogue
        self._placement = placement
        self._cluster = str(cluster)

    def refuse(self, request: DescribeCluster, code: ErrorCode) -> DescribeClusterResult:
        """Says why not."""
        return DescribeClusterResult(error=code, endpoint_type=request.endpoint_type)

    async def handle(
        self, caller: Caller, authorized: Authorized[DescribeCluster]
    ) -> DescribeClusterResult:
        """Nodes, and what the asker may do with the cluster if it wants to know."""
        request = authorized.request
        if request.endpoint_type != BROKERS:
            return DescribeClusterResult(
                error=ErrorCode.MISMATCHED_ENDPOINT_TYPE
                if request.endpoint_type == CONTROLLERS
                else ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
                message="this is a broker's listener; there is none for controllers alone",
                endpoint_type=BROKERS,
            )
        return DescribeClusterResult(
            self._cluster,
            self._placement.controller,
            brokers_of(self._catalogue, caller.listener),
            operations=operations_on(authorized, CLUSTER)
            if request.cluster_operations
            else OPERATIONS_NOT_ASKED,
        )
