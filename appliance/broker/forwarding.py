"""Requests that only the catalogue's leader can answer, sent there with whom they come from.

Rules: this node judges a request before it is forwarded, and the leader judges it again as its
principal's. What the leader has decided shows on this node before the client is answered, so that
whoever asked here finds it here.
"""

from typing import Final, cast

import trio

from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.foundation import CATALOGUE_LOG, Foundation
from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_LEADER_WAIT_S
from appliance.types import NodeId
from appliance.wire.requests import (
    AddNode,
    AlterClientQuotas,
    AlterConfigs,
    AlterPartitionReassignments,
    AlterUserScramCredentials,
    AnyRequest,
    AnyResponse,
    CreateAcls,
    CreatePartitions,
    CreateTopics,
    DeleteAcls,
    DeleteTopics,
    DescribeAcls,
    DescribeClientQuotas,
    DescribeKeys,
    DescribeNodes,
    DescribePolicy,
    DescribeQuorum,
    DescribeUserScramCredentials,
    DrainNode,
    IncrementalAlterConfigs,
    LeadPartition,
    ListPartitionReassignments,
    MovePartition,
    RekeyKeys,
    RemoveNode,
    ReplacePolicy,
    Request,
    RewrapKeys,
    ShredTopic,
)
from appliance.wire.requests.peer import Forward, Forwarded

LED: Final[frozenset[type[Request]]] = frozenset(
    {
        AddNode,
        AlterClientQuotas,
        AlterConfigs,
        AlterPartitionReassignments,
        AlterUserScramCredentials,
        CreateAcls,
        CreatePartitions,
        CreateTopics,
        DeleteAcls,
        DeleteTopics,
        DescribeAcls,
        DescribeClientQuotas,
        DescribeNodes,
        DescribePolicy,
        DescribeQuorum,
        DescribeUserScramCredentials,
        DrainNode,
        IncrementalAlterConfigs,
        ListPartitionReassignments,
        MovePartition,
        RemoveNode,
        ReplacePolicy,
        ShredTopic,
    }
)
"""What changes the catalogue, and what is to be read from it as it is now."""

OfNode = DescribeKeys | RewrapKeys | RekeyKeys
OF_NODE: Final[frozenset[type[Request]]] = frozenset({DescribeKeys, RewrapKeys, RekeyKeys})
"""What is asked of one node, whichever node is reached."""


class Forwarding:
    """The way from this node to the catalogue's leader."""

    def __init__(self, foundation: Foundation, catalogue: Catalogue) -> None:
        self._foundation = foundation
        self._catalogue = catalogue

    @property
    def alone(self) -> bool:
        """Whether this node leads the catalogue, or would if anybody did."""
        return self._catalogue.leads or not self._foundation.peers.nodes

    def elsewhere(self, request: Request) -> bool:
        """Whether another node has to answer."""
        if isinstance(request, LeadPartition):
            return self._leader_of(request) not in {None, self._foundation.node}
        if type(request) in OF_NODE:
            return cast(OfNode, request).node not in {None, self._foundation.node}
        return type(request) in LED and not self.alone

    def _leader_of(self, request: LeadPartition) -> NodeId | None:
        """Who leads the partition that is to be handed over."""
        group = self._catalogue.group_of(request.topic, request.partition)
        return None if group is None else self._foundation.consensus.leaders.of(group).node

    async def confirm(self) -> None:
        """Returns once a quorum has said that this node leads the catalogue now.

        What is read of the catalogue, or refused by it, is so only if nobody else leads it; a
        leader that was cut off does not know. Raises RequestError.
        """
        try:
            await self._catalogue.log.replica.confirm()
        except RequestError as error:
            raise RequestError(ErrorCode.NOT_CONTROLLER, str(error)) from None

    async def forward(self, caller: Caller, request: AnyRequest) -> AnyResponse:
        """The leader's answer; raises RequestError when there is none to be had."""
        if isinstance(request, LeadPartition):
            leader = self._leader_of(request)
        elif isinstance(request, OfNode):
            leader = request.node
        else:
            with trio.move_on_after(MAX_LEADER_WAIT_S):
                await self._foundation.consensus.leaders.named(CATALOGUE_LOG)
            leader = self._catalogue.leader.node
        if leader is None or leader == self._foundation.node:
            raise RequestError(ErrorCode.NOT_CONTROLLER, "nobody leads the catalogue now")
        forward = Forward(
            caller.principal.name, caller.listener, caller.address, caller.client_id, request
        )
        answer = await self._foundation.peers.caller.call(leader, forward, Forwarded)
        await self._catalogue.caught_up(answer.applied)
        return answer.response
