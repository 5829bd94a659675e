"""The operator's requests about nodes: how they are, who joins and leaves, what lies where.

Rules: changes are commands of the catalogue, recorded before they are made; who carries them out is
the steward of each group's leader. So an answer says that a change is decided, not that it is
through: DescribeNodes shows how far it is.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.dispatch import Dispatcher
from appliance.broker.foundation import Foundation
from appliance.broker.placement import Placement
from appliance.broker.topics import Topics
from appliance.coordination.cluster_commands import (
    AdmitNode,
    AssignReplicas,
    RetireNode,
)
from appliance.coordination.cluster_commands import DrainNode as DrainNodeCommand
from appliance.coordination.commands import Endpoint
from appliance.errors import ErrorCode, RequestError
from appliance.raft.ready import Refused
from appliance.types import NodeId, PartitionId, PartitionIndex, TopicName
from appliance.wire.requests import (
    AddNode,
    ClusterChanged,
    DrainNode,
    LeadPartition,
    MovePartition,
    RemoveNode,
    Request,
)

R = TypeVar("R", bound=Request)
Act = Callable[[Authorized[R]], Awaitable[str]]


class Operator:
    """Carries out what operators ask; each method returns what to tell them."""

    def __init__(
        self, foundation: Foundation, catalogue: Catalogue, topics: Topics, placement: Placement
    ) -> None:
        self._foundation = foundation
        self._catalogue = catalogue
        self._topics = topics
        self._placement = placement

    async def add(self, authorized: Authorized[AddNode]) -> str:
        """Lets a node join."""
        request = authorized.request
        node = NodeId(request.node)
        if not self._foundation.peers.listens:
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                "this node listens to no others: give it [listeners.peers] and restart it",
            )
        await self._catalogue.execute(AdmitNode(node, Endpoint("peer", request.host, request.port)))
        return f"node {node} may join; it serves once it has caught up"

    async def drain(self, authorized: Authorized[DrainNode]) -> str:
        """Keeps leadership off a node, or no longer."""
        request = authorized.request
        node = NodeId(request.node)
        await self._catalogue.execute(DrainNodeCommand(node, request.draining))
        if request.draining:
            return f"node {node} hands its leadership over and gets nothing new"
        return f"node {node} leads and gets partitions again"

    async def remove(self, authorized: Authorized[RemoveNode]) -> str:
        """Begins, or ends, to take a node out; asked again until it is through."""
        node = NodeId(authorized.request.node)
        membership = self._catalogue.state.membership
        known = membership.nodes.get(node)
        if known is None:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"there is no node {node}")
        if not known.draining:
            await self._catalogue.execute(DrainNodeCommand(node, draining=True))
        held = [group for group, each in membership.assignments.items() if node in each.everyone]
        for group in held:
            assignment = membership.assignment(group)
            if node in (assignment.target or assignment.replicas):
                await self._move_off(node, group)
        if held:
            return f"moving {len(held)} partition(s) off node {node}"
        if node == self._foundation.node:
            raise RequestError(
                ErrorCode.NOT_CONTROLLER, f"node {node} still leads the catalogue: ask again"
            )
        await self._catalogue.execute(RetireNode(node))
        return f"removed node {node}; its id is used up"

    async def _move_off(self, node: NodeId, group: PartitionId) -> None:
        """Names another node in place of one; nothing is left to move if its topic is gone."""
        command = AssignReplicas(group, self._placement.replacement(group, node))
        try:
            await self._catalogue.execute(command)
        except RequestError as error:
            if error.code is not ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                raise

    async def move(self, authorized: Authorized[MovePartition]) -> str:
        """Says which nodes are to hold a partition."""
        request = authorized.request
        group = self._group(request.topic, request.partition)
        replicas = tuple(map(NodeId, request.replicas))
        self._placement.check(replicas)
        await self._catalogue.execute(AssignReplicas(group, replicas))
        return f"moving {request.topic}/{request.partition} to nodes {_listed(replicas)}"

    async def lead(self, authorized: Authorized[LeadPartition]) -> str:
        """Has a node lead a partition that this one leads."""
        request = authorized.request
        node = NodeId(request.node)
        replica = self._foundation.consensus.replica(self._group(request.topic, request.partition))
        if replica is None or not replica.serving:
            raise RequestError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER, "the partition has another leader now: ask again"
            )
        if node == self._foundation.node:
            return f"node {node} leads {request.topic}/{request.partition} already"
        try:
            replica.hand_over(node)
        except Refused:
            raise RequestError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"node {node} does not hold {request.topic}/{request.partition}",
            ) from None
        return f"node {node} takes {request.topic}/{request.partition} over"

    def _group(self, topic: TopicName, partition: PartitionIndex) -> PartitionId:
        """The group of a topic's partition; raises RequestError."""
        live = self._topics.find(topic)
        if live is None or not 0 <= partition < len(live.topic.partitions):
            raise RequestError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no {topic}/{partition}"
            )
        return live.topic.partitions[partition]


class ClusterHandler(Generic[R]):
    """Answers one kind of the operator's requests."""

    def __init__(
        self, request: type[R], act: Act[R], auditor: Auditor, resource: Callable[[R], str]
    ) -> None:
        """`resource` names what the audit log says was changed."""
        self.request = request
        self._act = act
        self._auditor = auditor
        self._resource = resource

    def refuse(self, _: R, code: ErrorCode) -> ClusterChanged:
        """Says why not."""
        return ClusterChanged(code)

    async def handle(self, caller: Caller, authorized: Authorized[R]) -> ClusterChanged:
        """Recorded first, then decided."""
        await self._auditor.changing(caller, authorized, (self._resource(authorized.request),))
        try:
            return ClusterChanged(ErrorCode.NONE, await self._act(authorized))
        except RequestError as error:
            return ClusterChanged(error.code, str(error))


def register_operator(dispatcher: Dispatcher, operator: Operator, auditor: Auditor) -> None:
    """Has each of the operator's changes served."""

    def of_node(request: AddNode | RemoveNode | DrainNode) -> str:
        return f"node {request.node}"

    def of_partition(request: MovePartition | LeadPartition) -> str:
        return request.topic

    dispatcher.register(ClusterHandler(AddNode, operator.add, auditor, of_node))
    dispatcher.register(ClusterHandler(DrainNode, operator.drain, auditor, of_node))
    dispatcher.register(ClusterHandler(RemoveNode, operator.remove, auditor, of_node))
    dispatcher.register(ClusterHandler(MovePartition, operator.move, auditor, of_partition))
    dispatcher.register(ClusterHandler(LeadPartition, operator.lead, auditor, of_partition))


def _listed(nodes: tuple[NodeId, ...]) -> str:
    return ", ".join(map(str, nodes))
