"""DescribeQuorum: who holds the catalogue, told under the name of Kafka's metadata log."""

from math import isfinite

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.consensus import Consensus
from appliance.broker.told import brokers_of
from appliance.errors import ErrorCode
from appliance.ports import Clock
from appliance.raft.core import Core
from appliance.types import NodeId, PartitionIndex
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
    """Tells who holds the catalogue and how far, as its leader knows it."""

    request = DescribeQuorum

    def __init__(self, catalogue: Catalogue, consensus: Consensus, clock: Clock) -> None:
        self._catalogue = catalogue
        self._consensus = consensus
        self._clock = clock

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
        replica = self._catalogue.log.replica
        members = replica.configuration
        return Quorum(
            index,
            leader_id=replica.leader if replica.leader is not None else -1,
            leader_epoch=replica.term,
            high_watermark=replica.core.commit + 1,
            voters=self._replicas(replica.core, members.voters),
            observers=self._replicas(replica.core, members.members - members.voters),
        )

    def _replicas(self, core: Core, nodes: frozenset[NodeId]) -> tuple[QuorumReplica, ...]:
        """What each holds; when it was last heard, and, if it lacks nothing, caught up."""
        now_ms = self._clock.now_ms()
        told = []
        for node in sorted(nodes):
            matched = core.matched(node)
            silent_s = self._consensus.silence_s(node)
            heard_ms = now_ms - int(silent_s * 1000) if isfinite(silent_s) else -1
            caught_up_ms = heard_ms if matched == core.last.index else -1
            end = -1 if matched is None else matched + 1
            told.append(QuorumReplica(node, end, heard_ms, caught_up_ms))
        return tuple(told)
