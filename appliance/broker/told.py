"""What clients are told of nodes and topics, however they ask for it."""

from appliance.broker.catalogue import Catalogue
from appliance.broker.placement import Placement
from appliance.broker.topics import LiveTopic
from appliance.errors import ErrorCode
from appliance.types import PartitionId, PartitionIndex
from appliance.wire.requests import Broker, PartitionMetadata, TopicMetadata


def brokers_of(catalogue: Catalogue, listener: str) -> tuple[Broker, ...]:
    """The nodes, as clients of a listener reach them."""
    brokers = []
    for node, known in sorted(catalogue.state.nodes.items()):
        endpoint = catalogue.endpoint(node, listener)
        if endpoint is not None:
            brokers.append(Broker(node, endpoint.host, endpoint.port, known.rack))
    return tuple(brokers)


def told_of(live: LiveTopic, placement: Placement) -> TopicMetadata:
    """A topic and its partitions."""
    topic = live.topic
    partitions = []
    for index, partition_id in enumerate(topic.partitions):
        partitions.append(_partition_told(PartitionIndex(index), partition_id, placement))
    return TopicMetadata(topic.name, ErrorCode.NONE, topic.topic, partitions=tuple(partitions))


def _partition_told(
    index: PartitionIndex, group: PartitionId, placement: Placement
) -> PartitionMetadata:
    replicas = placement.replicas(group)
    node = placement.leads(group)
    in_sync = placement.in_sync(group)
    return PartitionMetadata(
        index,
        -1 if node is None else node,
        placement.epoch(group) or -1,
        replicas,
        in_sync,
        ErrorCode.LEADER_NOT_AVAILABLE if node is None else ErrorCode.NONE,
        tuple(each for each in replicas if each not in in_sync),
    )
