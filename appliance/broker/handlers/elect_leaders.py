"""ElectLeaders: of preferred leaders; unclean elections are refused, whoever asks."""

from collections.abc import Iterator

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.placement import Placement
from appliance.broker.topics import Topics
from appliance.errors import ErrorCode
from appliance.types import PartitionIndex, TopicName
from appliance.wire.requests import (
    Election,
    ElectionsOfTopic,
    ElectLeaders,
    ElectLeadersResult,
    NamedPartitions,
)

_PREFERRED = 0
_CLEAN_ONLY = "a leader that lacks acknowledged records is never elected"


class ElectLeadersHandler:
    """Says partition by partition whether an election was needed."""

    request = ElectLeaders

    def __init__(self, topics: Topics, placement: Placement) -> None:
        self._topics = topics
        self._placement = placement

    def refuse(self, _: ElectLeaders, code: ErrorCode) -> ElectLeadersResult:
        """Says why not."""
        return ElectLeadersResult(error=code)

    async def handle(self, _: Caller, authorized: Authorized[ElectLeaders]) -> ElectLeadersResult:
        """One answer a partition; of 'all', only those where something was to be done."""
        request = authorized.request
        if request.election_type != _PREFERRED:
            return ElectLeadersResult(error=ErrorCode.INVALID_REQUEST)
        if request.topics is None:
            return ElectLeadersResult()
        return ElectLeadersResult(
            tuple(
                ElectionsOfTopic(topic.name, tuple(self._elect(topic))) for topic in request.topics
            )
        )

    def _elect(self, topic: NamedPartitions) -> Iterator[Election]:
        for index in topic.partitions:
            yield self._election(topic.name, index)

    def _election(self, name: TopicName, index: PartitionIndex) -> Election:
        live = self._topics.find(name)
        if live is None or not 0 <= index < len(live.partitions):
            unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            return Election(index, unknown, "there is no such topic or partition")
        partition = live.topic.partitions[index]
        if self._placement.leads(partition) == self._placement.replicas(partition)[0]:
            return Election(
                index, ErrorCode.ELECTION_NOT_NEEDED, "the preferred replica leads already"
            )
        return Election(
            index, ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, "the preferred replica cannot lead now"
        )
