"""ShredTopic: a step of making a topic's records unreadable for good, recorded before it is taken.

Rules: what the caller may not see answers as what does not exist; a topic that shares the cluster's
key is refused. Destroying the key is not done here: a node may not.
"""

from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.shredding import Shredder
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, KeyProviderError, RequestError
from appliance.wire.requests import ShredStep, ShredTopic, ShredTopicResult


class ShredTopicHandler:
    """Takes one topic one step further."""

    request = ShredTopic

    def __init__(self, topics: Topics, shredder: Shredder, auditor: Auditor) -> None:
        self._topics = topics
        self._shredder = shredder
        self._auditor = auditor

    def refuse(self, _: ShredTopic, code: ErrorCode) -> ShredTopicResult:
        """Says why not."""
        return ShredTopicResult(code)

    async def handle(self, caller: Caller, authorized: Authorized[ShredTopic]) -> ShredTopicResult:
        """Where the shredding stands then."""
        request = authorized.request
        live = self._topics.find(request.topic)
        if live is None:
            return ShredTopicResult(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
        try:
            detail = f"shred: {request.step}"
            await self._auditor.changing(caller, authorized, (request.topic,), detail)
            if request.step is ShredStep.CERTIFY:
                return ShredTopicResult(certificate=await self._shredder.certify(live.topic))
            if request.step is ShredStep.COMPLETE:
                outcome = await self._shredder.complete(live.topic)
            else:
                outcome = await self._shredder.begin(live.topic)
        except KeyProviderError as error:
            return ShredTopicResult(ErrorCode.KAFKA_STORAGE_ERROR, str(error))
        except RequestError as error:
            return ShredTopicResult(error.code, str(error))
        if isinstance(outcome, str):
            return ShredTopicResult(certificate=outcome)
        return ShredTopicResult(
            domain=outcome.domain,
            shred=outcome.shred,
            waiting_for=outcome.missing,
            unheard=outcome.unheard,
            is_ready=outcome.is_ready,
            left_s=outcome.left_s,
        )
