"""DescribeNodes: how the cluster is, as the catalogue's leader sees it."""

from collections import Counter

from appliance.authz.gate import Authorized
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.consensus import Consensus
from appliance.broker.foundation import CATALOGUE_LOG, GROUPS_LOG
from appliance.broker.placement import Placement
from appliance.coordination.cluster_commands import Assignment
from appliance.errors import ErrorCode
from appliance.limits import MAX_LISTED_GROUPS
from appliance.types import NodeId, PartitionId
from appliance.wire.requests import (
    DescribeNodes,
    DescribeNodesResult,
    GroupStatus,
    NodeStatus,
)


class DescribeNodesHandler:
    """Tells of nodes, and of every group that is not as it should be."""

    request = DescribeNodes

    def __init__(self, catalogue: Catalogue, consensus: Consensus, placement: Placement) -> None:
        self._catalogue = catalogue
        self._consensus = consensus
        self._placement = placement

    def refuse(self, _: DescribeNodes, code: ErrorCode) -> DescribeNodesResult:
        """Says why not."""
        return DescribeNodesResult(code)

    async def handle(self, _: Caller, __: Authorized[DescribeNodes]) -> DescribeNodesResult:
        """One look at everything."""
        names = self._names()
        unsound: list[GroupStatus] = []
        moving: list[GroupStatus] = []
        for group, name in names.items():
            assignment = self._catalogue.state.membership.assignment(group)
            status = self._status(group, name, assignment)
            if assignment.target is not None and len(moving) < MAX_LISTED_GROUPS:
                moving.append(status)
            alone = len(status.replicas) == 1 and not status.offline
            lost = status.offline or (status.leader < 0 and not alone)
            if lost and len(unsound) < MAX_LISTED_GROUPS:
                unsound.append(status)
        return DescribeNodesResult(
            ErrorCode.NONE,
            self._placement.controller,
            self._catalogue.state.membership.level,
            self._nodes(names),
            len(names),
            self._internal(),
            tuple(unsound),
            tuple(moving),
        )

    def _names(self) -> dict[PartitionId, str]:
        return {
            group: f"{topic.name}/{index}"
            for topic in self._catalogue.state.topics.values()
            for index, group in enumerate(topic.partitions)
        }

    def _internal(self) -> tuple[GroupStatus, ...]:
        replica = self._consensus.replica(CATALOGUE_LOG)
        voters = tuple(sorted(replica.configuration.voters)) if replica is not None else ()
        groups = self._catalogue.state.membership.assignment(GROUPS_LOG)
        return (
            self._status(CATALOGUE_LOG, "catalogue", Assignment(voters)),
            self._status(GROUPS_LOG, "groups", groups),
        )

    def _status(self, group: PartitionId, name: str, assignment: Assignment) -> GroupStatus:
        leader = self._consensus.leaders.of(group)
        offline = tuple(node for node in assignment.replicas if not self._consensus.alive(node))
        return GroupStatus(
            name,
            -1 if leader.node is None else leader.node,
            leader.term,
            assignment.replicas,
            offline,
            assignment.target or (),
        )

    def _nodes(self, names: dict[PartitionId, str]) -> tuple[NodeStatus, ...]:
        membership = self._catalogue.state.membership
        holds: Counter[NodeId] = Counter()
        prefers: Counter[NodeId] = Counter()
        leads: Counter[NodeId] = Counter()
        for group in (*names, CATALOGUE_LOG, GROUPS_LOG):
            assignment = membership.assignment(group)
            if group != CATALOGUE_LOG:
                holds.update(assignment.everyone)
                prefers[(assignment.target or assignment.replicas)[0]] += 1
            leader = self._consensus.leaders.of(group).node
            if leader is not None:
                leads[leader] += 1
        told = []
        for node, known in sorted(membership.nodes.items()):
            endpoint = known.endpoint("peer")
            told.append(
                NodeStatus(
                    node,
                    known.host,
                    known.rack,
                    f"{endpoint.host}:{endpoint.port}" if endpoint is not None else "",
                    self._consensus.alive(node),
                    known.draining,
                    holds[node],
                    prefers[node],
                    leads[node],
                    known.levels[1],
                )
            )
        return tuple(told)
