"""DescribeQuorum: who holds the catalogue, told under the name of Kafka's metadata log."""

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.placement import Placement
from appliance.broker.told import brokers_of
from appliance.errors import ErrorCode
from appliance.types import PartitionIndex
from appliance.wire.requests import (
    DescribeQuorum,
    DescribeQuorumResult,
    Quorum,
    QuorumReplica,
    QuorumsOfTopic,
)

METADATA_TOPIC = "__cluster_metadata"
"""Kafka's name; here it is no topic, and nobody reads it as one."""


class DescribeQuorumHandler:
    """Tells the catalogue's leader, term and end, as this node knows them."""

    request = DescribeQuorum

    def __init__(self, catalogue: Catalogue, placement: Placement) -> None:
        self._catalogue = catalogue
        self._placement = placement

    def refuse(self, _: DescribeQuorum, code: ErrorCode) -> DescribeQuorumResult:
        """Says why not."""
        return DescribeQuorumResult(error=code)

    async def handle(
        self, caller: Caller, authorized: Authorized[DescribeQuorum]
    ) -> DescribeQuorumResult:
        """The one log's quorum; of any other, that there is none."""
        topics = tuple(
            QuorumsOfTopic(
                topic.name, tuple(self._quorum(topic.name, index) for index in topic.partitions)
            )
            for topic in authorized.request.topics
        )
        brokers = brokers_of(self._catalogue, caller.listener)
        return DescribeQuorumResult(topics, brokers=brokers)

    def _quorum(self, name: str, index: PartitionIndex) -> Quorum:
        if name != METADATA_TOPIC or index != 0:
            return Quorum(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "only the catalogue has one")
        term, end = self._catalogue.progress()
        leader = self._placement.controller
        voters = tuple(QuorumReplica(node, end) for node in sorted(self._catalogue.state.nodes))
        return Quorum(
            index,
            leader_id=leader,
            leader_epoch=term,
            high_watermark=end,
            voters=voters,
        )
