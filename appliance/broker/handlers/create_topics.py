"""CreateTopics: what can be made is recorded first, made then, and answered for item by item."""

from collections import Counter

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.handlers.order import in_order
from appliance.broker.placement import Placement
from appliance.broker.topic_settings import check_settings
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError
from appliance.wire.requests import CreatedTopic, CreateTopics, CreateTopicsResult, NewTopic


class CreateTopicsHandler:
    """Makes topics, or says what making them would do."""

    request = CreateTopics

    def __init__(
        self, topics: Topics, placement: Placement, auditor: Auditor, *, default_partitions: int
    ) -> None:
        self._topics = topics
        self._placement = placement
        self._auditor = auditor
        self._default_partitions = default_partitions

    def refuse(self, request: CreateTopics, code: ErrorCode) -> CreateTopicsResult:
        """Every topic refused."""
        return CreateTopicsResult(tuple(_refused(topic, code) for topic in request.topics))

    async def handle(
        self, caller: Caller, authorized: Authorized[CreateTopics]
    ) -> CreateTopicsResult:
        """One answer a topic; a name given twice is refused both times."""
        request = authorized.request
        times = Counter(topic.name for topic in request.topics)
        results = []
        for topic in request.topics:
            if times[topic.name] > 1:
                twice = "the topic is named twice"
                results.append(CreatedTopic(topic.name, ErrorCode.INVALID_REQUEST, twice))
                continue
            try:
                results.append(await self._create(caller, authorized, topic))
            except RequestError as error:
                results.append(CreatedTopic(topic.name, error.code, str(error)))
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        return CreateTopicsResult(in_order(authorized.asked.topics, codes, results, _refused))

    async def _create(
        self, caller: Caller, authorized: Authorized[CreateTopics], new: NewTopic
    ) -> CreatedTopic:
        count = self._partition_count(new)
        self._topics.judge_new(new.name, count, new.settings)
        settings = check_settings(new.settings)
        topic_id = None
        if not authorized.request.validate_only:
            detail = f"partitions={count}"
            await self._auditor.changing(caller, authorized, (new.name,), detail)
            topic = await self._topics.create(new.name, count, new.settings)
            topic_id = topic.topic
        return CreatedTopic(new.name, ErrorCode.NONE, None, topic_id, count, 1, settings)

    def _partition_count(self, new: NewTopic) -> int:
        """Checks count, replicas and assignments; raises RequestError."""
        if new.assignments:
            return self._assigned_count(new)
        most = self._placement.max_replication_factor
        if new.replication_factor != -1 and not 0 < new.replication_factor <= most:
            raise RequestError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"there can be 1 to {most} replicas with the nodes there are",
            )
        return self._default_partitions if new.partition_count == -1 else new.partition_count

    def _assigned_count(self, new: NewTopic) -> int:
        if new.partition_count != -1 or new.replication_factor != -1:
            raise RequestError(
                ErrorCode.INVALID_REQUEST, "counts and assignments exclude each other"
            )
        here = (self._placement.controller,)
        indexes = sorted(index for index, _ in new.assignments)
        if indexes != list(range(len(indexes))) or any(n != here for _, n in new.assignments):
            raise RequestError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"partitions are numbered from 0 and lie on node {here[0]}",
            )
        return len(indexes)


def _refused(topic: NewTopic, code: ErrorCode) -> CreatedTopic:
    return CreatedTopic(topic.name, code)
