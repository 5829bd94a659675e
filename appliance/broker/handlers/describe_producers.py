"""DescribeProducers: who writes to partitions with a producer id (KIP-664)."""

from appliance.authz.actions import ResourceKind
from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.handlers.order import in_order
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode, RequestError
from appliance.types import PartitionIndex, TopicName
from appliance.wire.requests import (
    ActiveProducer,
    DescribeProducers,
    DescribeProducersResult,
    NamedPartitions,
    ProducersOfPartition,
    ProducersOfTopic,
)


class DescribeProducersHandler:
    """Tells each producer's epoch, last sequence and time, as they are committed."""

    request = DescribeProducers

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def refuse(self, request: DescribeProducers, code: ErrorCode) -> DescribeProducersResult:
        """Every partition refused."""
        return DescribeProducersResult(tuple(_refused(topic, code) for topic in request.topics))

    async def handle(
        self, _: Caller, authorized: Authorized[DescribeProducers]
    ) -> DescribeProducersResult:
        """One answer a partition."""
        results = []
        for topic in authorized.request.topics:
            parts = [await self._find(topic.name, index) for index in topic.partitions]
            results.append(ProducersOfTopic(topic.name, tuple(parts)))
        codes = authorized.refused_codes(ResourceKind.TOPIC)
        return DescribeProducersResult(in_order(authorized.asked.topics, codes, results, _refused))

    async def _find(self, topic: TopicName, index: PartitionIndex) -> ProducersOfPartition:
        try:
            partition = await self._topics.partition(topic, index)
        except RequestError as error:
            return ProducersOfPartition(index, error.code, str(error))
        return ProducersOfPartition(
            index,
            producers=tuple(
                ActiveProducer(number, each.epoch, each.marks[-1].last_sequence, each.time_ms)
                for number, each in sorted(partition.producers())
            ),
        )


def _refused(topic: NamedPartitions, code: ErrorCode) -> ProducersOfTopic:
    parts = tuple(ProducersOfPartition(index, code) for index in topic.partitions)
    return ProducersOfTopic(topic.name, parts)
