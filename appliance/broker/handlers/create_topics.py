"""CreateTopics: what can be made is recorded first, made then, and answered for item by item."""

from collections import Counter

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.handlers.order import in_order
from appliance.broker.placement import Placement, TopicDefaults
from appliance.broker.quotas import Mutations, Quotas
from appliance.broker.told_settings import briefly, settings_of_topic
from appliance.broker.topic_settings import check_settings
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError
from appliance.types import NodeId, PartitionIndex
from appliance.wire.requests import CreatedTopic, CreateTopics, CreateTopicsResult, NewTopic


class CreateTopicsHandler:
    """Makes topics, or says what making them would do."""

    request = CreateTopics

    def __init__(
        self,
        topics: Topics,
        placement: Placement,
        auditor: Auditor,
        quotas: Quotas,
        *,
        defaults: TopicDefaults,
    ) -> None:
        self._topics = topics
        self._placement = placement
        self._auditor = auditor
        self._quotas = quotas
        self._defaults = defaults

    def refuse(self, request: CreateTopics, code: ErrorCode) -> CreateTopicsResult:
        """Every topic refused."""
        return CreateTopicsResult(tuple(_refused(topic, code) for topic in request.topics))

    async def handle(
        self, caller: Caller, authorized: Authorized[CreateTopics]
    ) -> CreateTopicsResult:
        """One answer a topic; a name given twice is refused both times."""
        request = authorized.request
        times = Counter(topic.name for topic in request.topics)
        quota = self._quotas.mutations(caller, strict=request.knows_throttling)
        results = []
        for topic in request.topics:
            if times[topic.name] > 1:
                twice = "the topic is named twice"
                results.append(CreatedTopic(topic.name, ErrorCode.INVALID_REQUEST, twice))
                continue
            try:
                results.append(await self._create(caller, authorized, topic, quota))
            except RequestError as error:
                results.append(CreatedTopic(topic.name, error.code, str(error)))
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        created = in_order(authorized.asked.topics, codes, results, _refused)
        return CreateTopicsResult(created, quota.throttle_ms)

    async def _create(
        self, caller: Caller, authorized: Authorized[CreateTopics], new: NewTopic, quota: Mutations
    ) -> CreatedTopic:
        count = self._partition_count(new)
        self._topics.judge_new(new.name, count, new.settings)
        replicas = self._replicas(new, count)
        settings = briefly(settings_of_topic(dict(check_settings(new.settings))))
        topic_id = None
        if not authorized.request.validate_only:
            quota.take(count)
            detail = f"partitions={count}"
            await self._auditor.changing(caller, authorized, (new.name,), detail)
            topic = await self._topics.create(new.name, replicas, new.settings)
            topic_id = topic.topic
        factor = len(replicas[0])
        return CreatedTopic(new.name, ErrorCode.NONE, None, topic_id, count, factor, settings)

    def _partition_count(self, new: NewTopic) -> int:
        if not new.assignments:
            unsaid = new.partition_count == -1
            return self._defaults.partition_count if unsaid else new.partition_count
        if new.partition_count != -1 or new.replication_factor != -1:
            raise RequestError(
                ErrorCode.INVALID_REQUEST, "counts and assignments exclude each other"
            )
        return len(new.assignments)

    def _replicas(self, new: NewTopic, count: int) -> tuple[tuple[NodeId, ...], ...]:
        """The nodes of each partition; raises RequestError."""
        if not new.assignments:
            factor = new.replication_factor
            if factor == -1:
                factor = self._placement.default_replicas(self._defaults.replication_factor)
            return self._placement.choose(count, factor)
        assigned = {index: tuple(map(NodeId, nodes)) for index, nodes in new.assignments}
        if sorted(assigned) != list(range(count)):
            raise RequestError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT, "partitions are numbered from 0, each once"
            )
        replicas = tuple(assigned[PartitionIndex(index)] for index in range(count))
        for nodes in replicas:
            self._placement.check(nodes)
        return replicas


def _refused(topic: NewTopic, code: ErrorCode) -> CreatedTopic:
    return CreatedTopic(topic.name, code)
