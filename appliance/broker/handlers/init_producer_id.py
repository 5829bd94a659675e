"""InitProducerId: an id for an idempotent producer, never given before (KIP-98)."""

from typing import Final

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.errors import ErrorCode, RequestError
from appliance.types import ProducerEpoch
from appliance.wire.requests import InitProducerId, InitProducerIdResult

_NONE: Final = -1
"""The id, and the epoch, of a producer that has none yet."""


class InitProducerIdHandler:
    """Gives a fresh id with epoch 0; an idempotent producer never keeps its old one (KIP-360)."""

    request = InitProducerId

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def refuse(self, _: InitProducerId, code: ErrorCode) -> InitProducerIdResult:
        """Says why not."""
        return InitProducerIdResult(code)

    async def handle(
        self, _: Caller, authorized: Authorized[InitProducerId]
    ) -> InitProducerIdResult:
        """Takes the next id of this node's block."""
        request = authorized.request
        if request.transactional_id is not None:
            raise RequestError(ErrorCode.INVALID_REQUEST, "transactions are not served")
        if (request.producer_id == _NONE) != (request.producer_epoch == _NONE):
            raise RequestError(ErrorCode.INVALID_REQUEST, "an id and its epoch are told together")
        producer_id = await self._catalogue.next_producer_id()
        return InitProducerIdResult(ErrorCode.NONE, producer_id, ProducerEpoch(0))
