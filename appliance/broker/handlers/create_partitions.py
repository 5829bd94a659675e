"""CreatePartitions: recorded first, made then, and answered for topic by topic."""

from collections import Counter

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.handlers.order import in_order
from appliance.broker.placement import Placement
from appliance.broker.quotas import Mutations, Quotas
from appliance.broker.topics import LiveTopic, Topics
from appliance.errors import ErrorCode, RequestError
from appliance.types import NodeId
from appliance.wire.requests import (
    CreatePartitions,
    CreatePartitionsResult,
    ExtendedTopic,
    MorePartitions,
)


class CreatePartitionsHandler:
    """Gives topics more partitions; there is no way to fewer."""

    request = CreatePartitions

    def __init__(
        self, topics: Topics, placement: Placement, auditor: Auditor, quotas: Quotas
    ) -> None:
        self._topics = topics
        self._quotas = quotas
        self._placement = placement
        self._auditor = auditor

    def refuse(self, request: CreatePartitions, code: ErrorCode) -> CreatePartitionsResult:
        """Every topic refused."""
        return CreatePartitionsResult(tuple(_refused(topic, code) for topic in request.topics))

    async def handle(
        self, caller: Caller, authorized: Authorized[CreatePartitions]
    ) -> CreatePartitionsResult:
        """One answer a topic; a name given twice is refused both times."""
        times = Counter(topic.name for topic in authorized.request.topics)
        quota = self._quotas.mutations(caller, strict=authorized.request.knows_throttling)
        results = []
        for topic in authorized.request.topics:
            if times[topic.name] > 1:
                twice = "the topic is named twice"
                results.append(ExtendedTopic(topic.name, ErrorCode.INVALID_REQUEST, twice))
                continue
            try:
                await self._extend(caller, authorized, topic, quota)
                results.append(ExtendedTopic(topic.name))
            except RequestError as error:
                results.append(ExtendedTopic(topic.name, error.code, str(error)))
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        extended = in_order(authorized.asked.topics, codes, results, _refused)
        return CreatePartitionsResult(extended, quota.throttle_ms)

    async def _extend(
        self,
        caller: Caller,
        authorized: Authorized[CreatePartitions],
        wanted: MorePartitions,
        quota: Mutations,
    ) -> None:
        live = self._topics.judge_more(wanted.name, wanted.count)
        replicas = self._replicas(wanted, live)
        if authorized.request.validate_only:
            return
        quota.take(wanted.count - len(live.topic.partitions))
        detail = f"partitions={wanted.count}"
        await self._auditor.changing(caller, authorized, (wanted.name,), detail)
        await self._topics.add_partitions(wanted.name, wanted.count, replicas)

    def _replicas(self, wanted: MorePartitions, live: LiveTopic) -> tuple[tuple[NodeId, ...], ...]:
        """The nodes of each new partition: as many as the others have; raises RequestError."""
        more = wanted.count - len(live.topic.partitions)
        if wanted.assignments is None:
            factor = len(self._placement.replicas(live.topic.partitions[0]))
            return self._placement.choose(more, min(factor, self._placement.max_replication_factor))
        if len(wanted.assignments) != more:
            raise RequestError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"{more} new partitions want as many assignments",
            )
        assigned = tuple(tuple(map(NodeId, nodes)) for nodes in wanted.assignments)
        for nodes in assigned:
            self._placement.check(nodes)
        return assigned


def _refused(topic: MorePartitions, code: ErrorCode) -> ExtendedTopic:
    return ExtendedTopic(topic.name, code)
