"""What clients are told of nodes and topics, however they ask for it."""

from appliance.broker.catalogue import Catalogue
from appliance.broker.placement import Placement
from appliance.broker.topics import LiveTopic
from appliance.errors import ErrorCode
from appliance.types import PartitionIndex
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
        replicas = placement.replicas(partition_id)
        partition = live.partitions[index]
        partitions.append(
            PartitionMetadata(
                PartitionIndex(index),
                placement.leader(partition_id),
                partition.leader_epoch if partition is not None else -1,
                replicas,
                replicas,
            )
        )
    return TopicMetadata(topic.name, ErrorCode.NONE, topic.topic, partitions=tuple(partitions))
