"""CreatePartitions: recorded first, made then, and answered for topic by topic."""

from collections import Counter

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.handlers.order import in_order
from appliance.broker.placement import Placement
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError
from appliance.wire.requests import (
    CreatePartitions,
    CreatePartitionsResult,
    ExtendedTopic,
    MorePartitions,
)


class CreatePartitionsHandler:
    """Gives topics more partitions; there is no way to fewer."""

    request = CreatePartitions

    def __init__(self, topics: Topics, placement: Placement, auditor: Auditor) -> None:
        self._topics = topics
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
        results = []
        for topic in authorized.request.topics:
            if times[topic.name] > 1:
                twice = "the topic is named twice"
                results.append(ExtendedTopic(topic.name, ErrorCode.INVALID_REQUEST, twice))
                continue
            try:
                await self._extend(caller, authorized, topic)
                results.append(ExtendedTopic(topic.name))
            except RequestError as error:
                results.append(ExtendedTopic(topic.name, error.code, str(error)))
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        return CreatePartitionsResult(in_order(authorized.asked.topics, codes, results, _refused))

    async def _extend(
        self, caller: Caller, authorized: Authorized[CreatePartitions], wanted: MorePartitions
    ) -> None:
        live = self._topics.judge_more(wanted.name, wanted.count)
        self._check_assignments(wanted, wanted.count - len(live.topic.partitions))
        if authorized.request.validate_only:
            return
        detail = f"partitions={wanted.count}"
        await self._auditor.changing(caller, authorized, (wanted.name,), detail)
        await self._topics.add_partitions(wanted.name, wanted.count)

    def _check_assignments(self, wanted: MorePartitions, more: int) -> None:
        if wanted.assignments is None:
            return
        here = (self._placement.controller,)
        if len(wanted.assignments) != more or any(nodes != here for nodes in wanted.assignments):
            raise RequestError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"{more} new partitions want as many assignments, each to node {here[0]}",
            )


def _refused(topic: MorePartitions, code: ErrorCode) -> ExtendedTopic:
    return ExtendedTopic(topic.name, code)
