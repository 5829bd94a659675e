"""AlterPartitionReassignments and ListPartitionReassignments: moving replicas (KIP-455).

Rules: a move is an aim in the catalogue, recorded before it is set; the partition's leader brings
it about, and an aim that is called off is replaced by the nodes that hold the partition now. What
is listed is what is not there yet.
"""

from collections.abc import Iterable, Iterator

from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.placement import Placement
from appliance.coordination.cluster_commands import Assignment, AssignReplicas
from appliance.errors import ErrorCode, RequestError
from appliance.types import NodeId, PartitionIndex, TopicName
from appliance.wire.requests import (
    AlterPartitionReassignments,
    AlterPartitionReassignmentsResult,
    ListPartitionReassignments,
    ListPartitionReassignmentsResult,
    OngoingReassignment,
    OngoingReassignments,
    PartitionToBeMoved,
    ReassignedPartition,
    TopicToBeMoved,
)


class AlterPartitionReassignmentsHandler:
    """Begins moves and calls them off, partition by partition."""

    request = AlterPartitionReassignments

    def __init__(self, catalogue: Catalogue, placement: Placement, auditor: Auditor) -> None:
        self._catalogue = catalogue
        self._placement = placement
        self._auditor = auditor

    def refuse(
        self, _: AlterPartitionReassignments, code: ErrorCode
    ) -> AlterPartitionReassignmentsResult:
        """Says why not."""
        return AlterPartitionReassignmentsResult(error=code)

    async def handle(
        self, caller: Caller, authorized: Authorized[AlterPartitionReassignments]
    ) -> AlterPartitionReassignmentsResult:
        """One answer a partition; NONE says that the move has begun, or that it was called off."""
        request = authorized.request
        topics = []
        for topic in request.topics:
            parts = []
            for part in topic.partitions:
                try:
                    await self._alter(caller, authorized, topic.name, part)
                    parts.append(PartitionToBeMoved(part.index))
                except RequestError as error:
                    parts.append(PartitionToBeMoved(part.index, error.code, str(error)))
            topics.append(TopicToBeMoved(topic.name, tuple(parts)))
        return AlterPartitionReassignmentsResult(
            tuple(topics), allow_factor_change=request.allow_factor_change
        )

    async def _alter(
        self,
        caller: Caller,
        authorized: Authorized[AlterPartitionReassignments],
        topic: TopicName,
        part: ReassignedPartition,
    ) -> None:
        group = self._catalogue.group_of(topic, part.index)
        if group is None:
            raise RequestError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic or partition"
            )
        now = self._catalogue.state.membership.assignment(group)
        if part.replicas is None:
            if not is_moving(now):
                raise RequestError(
                    ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "the partition is not being moved"
                )
            replicas = now.replicas
        else:
            replicas = tuple(map(NodeId, part.replicas))
            self._placement.check(replicas)
            if len(replicas) != len(now.replicas) and not authorized.request.allow_factor_change:
                raise RequestError(
                    ErrorCode.INVALID_REPLICATION_FACTOR,
                    f"the partition has {len(now.replicas)} replicas, and is to keep as many",
                )
        nodes = ",".join(map(str, replicas))
        detail = f"partition={part.index} replicas={nodes}"
        await self._auditor.changing(caller, authorized, (topic,), detail)
        await self._catalogue.execute(AssignReplicas(group, replicas))


class ListPartitionReassignmentsHandler:
    """Tells which partitions are on their way, and who comes and goes."""

    request = ListPartitionReassignments

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def refuse(
        self, _: ListPartitionReassignments, code: ErrorCode
    ) -> ListPartitionReassignmentsResult:
        """Says why not."""
        return ListPartitionReassignmentsResult(error=code)

    async def handle(
        self, _: Caller, authorized: Authorized[ListPartitionReassignments]
    ) -> ListPartitionReassignmentsResult:
        """Those that are being moved, of the ones that were asked for."""
        asked = authorized.request.topics
        told = []
        for topic in self._catalogue.all_partitions() if asked is None else asked:
            ongoing = tuple(self._ongoing(topic.name, topic.partitions))
            if ongoing:
                told.append(OngoingReassignments(topic.name, ongoing))
        return ListPartitionReassignmentsResult(tuple(told))

    def _ongoing(
        self, name: TopicName, indexes: Iterable[PartitionIndex]
    ) -> Iterator[OngoingReassignment]:
        for index in indexes:
            group = self._catalogue.group_of(name, index)
            if group is None:
                continue
            now = self._catalogue.state.membership.assignment(group)
            if not is_moving(now):
                continue
            aim = now.target or ()
            adding = tuple(node for node in aim if node not in now.replicas)
            removing = tuple(node for node in now.replicas if node not in aim)
            yield OngoingReassignment(index, (*aim, *removing), adding, removing)


def is_moving(assignment: Assignment) -> bool:
    """Whether others are to hold a partition than do; one whose move was called off is not."""
    target = assignment.target
    return target is not None and set(target) != set(assignment.replicas)
