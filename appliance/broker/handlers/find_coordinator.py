"""FindCoordinator: which node coordinates a group, as the caller's listener reaches it."""

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.foundation import GROUPS_LOG
from appliance.broker.placement import Placement
from appliance.errors import ErrorCode
from appliance.wire.requests import Coordinator, FindCoordinator, FindCoordinatorResult

GROUP_KEY = 0
TRANSACTION_KEY = 1


class FindCoordinatorHandler:
    """Points at nodes."""

    request = FindCoordinator

    def __init__(self, catalogue: Catalogue, placement: Placement) -> None:
        self._catalogue = catalogue
        self._placement = placement

    def refuse(self, request: FindCoordinator, code: ErrorCode) -> FindCoordinatorResult:
        """Every key refused."""
        return FindCoordinatorResult(tuple(Coordinator(key, code) for key in request.keys))

    async def handle(
        self, caller: Caller, authorized: Authorized[FindCoordinator]
    ) -> FindCoordinatorResult:
        """One answer a key."""
        asked = authorized.asked
        is_transaction = asked.key_type == TRANSACTION_KEY
        kind = ResourceKind.TRANSACTIONAL_ID if is_transaction else ResourceKind.GROUP
        codes = authorized.refused_codes(kind)
        await self._placement.settled([GROUPS_LOG])
        return FindCoordinatorResult(
            tuple(
                Coordinator(key, codes[key], "not authorised")
                if key in codes
                else self._point(caller.listener, asked.key_type, key)
                for key in asked.keys
            )
        )

    def _point(self, listener: str, key_type: int, key: str) -> Coordinator:
        if key_type != GROUP_KEY:
            return Coordinator(key, ErrorCode.INVALID_REQUEST, "only groups are coordinated here")
        node = self._placement.coordinator(key)
        endpoint = None if node is None else self._catalogue.endpoint(node, listener)
        if node is None:
            return Coordinator(
                key, ErrorCode.COORDINATOR_NOT_AVAILABLE, "no node coordinates groups now"
            )
        if endpoint is None:
            return Coordinator(key, ErrorCode.COORDINATOR_NOT_AVAILABLE, "not on this listener")
        return Coordinator(key, ErrorCode.NONE, None, node, endpoint.host, endpoint.port)
