"""DeleteTopics: recorded first, then gone for everyone, then removed from storage."""

from collections import Counter

from msgspec.structs import replace

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.coordinator import Coordinator
from appliance.broker.quotas import Mutations, Quotas
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError
from appliance.types import TopicId, TopicName
from appliance.wire.requests import DeletedTopic, DeleteTopics, DeleteTopicsResult


class DeleteTopicsHandler:
    """Deletes topics by name, and the offsets that groups have in them."""

    request = DeleteTopics

    def __init__(
        self, topics: Topics, coordinator: Coordinator, auditor: Auditor, quotas: Quotas
    ) -> None:
        self._topics = topics
        self._quotas = quotas
        self._coordinator = coordinator
        self._auditor = auditor

    def refuse(self, request: DeleteTopics, code: ErrorCode) -> DeleteTopicsResult:
        """Every topic refused."""
        named = [DeletedTopic(name, code) for name in request.names]
        return DeleteTopicsResult(
            (*named, *(DeletedTopic(None, code, topic_id=topic) for topic in request.topic_ids))
        )

    async def handle(
        self, caller: Caller, authorized: Authorized[DeleteTopics]
    ) -> DeleteTopicsResult:
        """One answer a topic; one whose id is not known is answered like one that is refused.

        A topic given twice, by its name or by its id, is refused each time, as Kafka does.
        """
        quota = self._quotas.mutations(caller, strict=authorized.request.knows_throttling)
        results = {}
        ids = self._ids(authorized.request.names)
        for name, times in Counter(authorized.request.names).items():
            if times > 1:
                twice = "the topic is named twice"
                results[name] = DeletedTopic(name, ErrorCode.INVALID_REQUEST, twice)
                continue
            try:
                results[name] = await self._delete(caller, authorized, name, quota)
            except RequestError as error:
                results[name] = DeletedTopic(name, error.code, str(error))
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        named = [
            DeletedTopic(name, codes[name]) if name in codes else results[name]
            for name in authorized.asked.names
        ]
        by_id = [
            replace(results[ids[topic]], topic_id=topic)
            if topic in ids
            else DeletedTopic(None, ErrorCode.UNKNOWN_TOPIC_ID, topic_id=topic)
            for topic in authorized.asked.topic_ids
        ]
        return DeleteTopicsResult((*named, *by_id), quota.throttle_ms)

    def _ids(self, names: tuple[TopicName, ...]) -> dict[TopicId, TopicName]:
        """The granted topics by their ids, as they are before anything is deleted."""
        return {
            live.topic.topic: name
            for name in names
            if (live := self._topics.find(name)) is not None
        }

    async def _delete(
        self,
        caller: Caller,
        authorized: Authorized[DeleteTopics],
        name: TopicName,
        quota: Mutations,
    ) -> DeletedTopic:
        live = self._topics.find(name)
        if live is None:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
        quota.take(len(live.topic.partitions))
        await self._auditor.changing(caller, authorized, (name,))
        topic = await self._topics.delete(name)
        await self._coordinator.forget_topics([topic.topic])
        return DeletedTopic(name, topic_id=topic.topic)
