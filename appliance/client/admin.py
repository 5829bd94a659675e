"""Administration: topics, nodes, the policy that all follow, the keys that data rests on."""

from collections.abc import Mapping, Sequence

from appliance.client.replies import refuse_error
from appliance.client.session import Session
from appliance.errors import ErrorCode, ProtocolViolation, RequestError
from appliance.types import KeyDomainId, NodeId, PartitionId, PartitionIndex, TopicName
from appliance.wire.requests import (
    AddNode,
    AnyRequest,
    ClusterChanged,
    CreatedTopic,
    CreateTopics,
    CreateTopicsResult,
    DeleteTopics,
    DeleteTopicsResult,
    DescribeKeys,
    DescribeKeysResult,
    DescribeNodes,
    DescribeNodesResult,
    DescribePolicy,
    DescribePolicyResult,
    DrainNode,
    LeadPartition,
    MovePartition,
    NewTopic,
    RekeyKeys,
    RekeyKeysResult,
    RemoveNode,
    ReplacePolicy,
    ReplacePolicyResult,
    RewrapKeys,
    RewrapKeysResult,
    ShredStep,
    ShredTopic,
    ShredTopicResult,
    TopicMetadata,
)


class Admin:
    """Asks the cluster to change, or to describe itself, one thing at a time."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def create_topic(
        self,
        name: TopicName,
        *,
        partition_count: int = -1,
        replication_factor: int = -1,
        settings: Mapping[str, str] | None = None,
        validate_only: bool = False,
    ) -> CreatedTopic:
        """Creates a topic; -1 leaves a number to the cluster. Raises RequestError."""
        topic = NewTopic(
            name=name,
            partition_count=partition_count,
            replication_factor=replication_factor,
            settings=tuple((settings or {}).items()),
        )
        request = CreateTopics((topic,), self._timeout_ms(), validate_only)
        result = await self._session.call(request, CreateTopicsResult)
        if len(result.topics) != 1 or result.topics[0].name != name:
            raise ProtocolViolation(f"creating {name} was answered for another topic")
        created = result.topics[0]
        refuse_error(created.error, f"topic {name}", created.message)
        return created

    async def delete_topic(self, name: TopicName) -> None:
        """Deletes a topic with all its records. Raises RequestError."""
        request = DeleteTopics((name,), self._timeout_ms())
        result = await self._session.call(request, DeleteTopicsResult)
        if len(result.topics) != 1 or result.topics[0].name != name:
            raise ProtocolViolation(f"deleting {name} was answered for another topic")
        refuse_error(result.topics[0].error, f"topic {name}", result.topics[0].message)

    async def list_topics(self) -> Sequence[TopicMetadata]:
        """Every topic that the principal may describe, by name."""
        result = await self._session.metadata(None)
        return sorted(result.topics, key=lambda topic: topic.name or "")

    async def describe_topic(self, name: TopicName) -> TopicMetadata:
        """One topic as it is now. Raises RequestError."""
        return await self._session.topic(name, again=True)

    async def policy(self) -> tuple[int, str]:
        """(version, text) of the policy in force. Raises RequestError."""
        result = await self._session.call(DescribePolicy(), DescribePolicyResult)
        refuse_error(result.error, "policy", None)
        return result.version, result.text

    async def replace_policy(self, text: str, expected_version: int) -> int:
        """Puts a whole policy in force unless another has changed it; returns its version.

        Raises RequestError, whose message names the line that is wrong.
        """
        request = ReplacePolicy(text, expected_version)
        result = await self._session.call(request, ReplacePolicyResult)
        if result.error is ErrorCode.NONE and result.version < 0:
            raise ProtocolViolation("the policy was accepted without a version")
        if result.error is ErrorCode.INVALID_REQUEST and not result.message:
            raise RequestError(result.error, "policy: it was changed by someone else meanwhile")
        refuse_error(result.error, "policy", result.message)
        return result.version

    async def keys(self, node: NodeId | None = None) -> DescribeKeysResult:
        """Every key domain as a node sees it, or the one that answers. Raises RequestError."""
        result = await self._session.call(DescribeKeys(node), DescribeKeysResult)
        refuse_error(result.error, "keys", result.message)
        return result

    async def rewrap_keys(self, after: PartitionId | None, node: NodeId) -> RewrapKeysResult:
        """Wraps one slice of a node's keys anew, after a log or from the beginning.

        Raises RequestError.
        """
        result = await self._session.call(RewrapKeys(after, node=node), RewrapKeysResult)
        refuse_error(result.error, f"keys of node {node}", result.message)
        return result

    async def rekey(
        self, node: NodeId, *, begin: bool, domain: KeyDomainId | None = None
    ) -> RekeyKeysResult:
        """Has a node seal its data anew, or looks how far it is. Raises RequestError."""
        result = await self._session.call(RekeyKeys(begin, domain, node), RekeyKeysResult)
        refuse_error(result.error, f"keys of node {node}", result.message)
        return result

    async def shred_topic(self, name: TopicName, step: ShredStep) -> ShredTopicResult:
        """Takes a topic one step further towards being unreadable. Raises RequestError."""
        result = await self._session.call(ShredTopic(name, step), ShredTopicResult)
        refuse_error(result.error, f"topic {name}", result.message)
        return result

    async def nodes(self) -> DescribeNodesResult:
        """How the cluster is. Raises RequestError."""
        result = await self._session.call(DescribeNodes(), DescribeNodesResult)
        refuse_error(result.error, "cluster", None)
        return result

    async def add_node(self, node: NodeId, host: str, port: int) -> str:
        """Lets a node join; returns what the cluster says to it. Raises RequestError."""
        return await self._change(AddNode(node, host, port), f"node {node}")

    async def remove_node(self, node: NodeId) -> str:
        """Moves everything off a node, or takes it out once that is done. Raises RequestError."""
        return await self._change(RemoveNode(node), f"node {node}")

    async def drain_node(self, node: NodeId, *, draining: bool) -> str:
        """Keeps leadership off a node, or no longer. Raises RequestError."""
        return await self._change(DrainNode(node, draining), f"node {node}")

    async def move_partition(
        self, topic: TopicName, partition: PartitionIndex, replicas: Sequence[NodeId]
    ) -> str:
        """Says which nodes are to hold a partition. Raises RequestError."""
        request = MovePartition(topic, partition, tuple(replicas))
        return await self._change(request, f"{topic}/{partition}")

    async def lead_partition(
        self, topic: TopicName, partition: PartitionIndex, node: NodeId
    ) -> str:
        """Has a node lead a partition. Raises RequestError."""
        return await self._change(LeadPartition(topic, partition, node), f"{topic}/{partition}")

    async def _change(self, request: AnyRequest, what: str) -> str:
        result = await self._session.call(request, ClusterChanged)
        refuse_error(result.error, what, result.message)
        return result.message or "done"

    def _timeout_ms(self) -> int:
        """How long the cluster may take."""
        return int(self._session.patience.total_s * 1000)
