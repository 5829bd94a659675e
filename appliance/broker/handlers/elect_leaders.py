"""ElectLeaders: the preferred replica takes over where it can (KIP-460).

Rules: an election by hand is a transfer of leadership (Ongaro's thesis, 3.10), so no record is at
stake and nobody leads who lacks one: unclean elections are refused, whoever asks. A partition led
by another node is handed over there, as the request of whoever asked here. All hand-overs are begun
before the first is waited for.
"""

from collections.abc import Iterable

import msgspec
import trio

from appliance.authz.gate import Authorized
from appliance.broker.auditor import Auditor
from appliance.broker.caller import Caller
from appliance.broker.catalogue import Catalogue
from appliance.broker.consensus import Consensus
from appliance.broker.forwarding import Forwarding
from appliance.broker.placement import Placement
from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_ELECTION_WAIT_S
from appliance.raft.ready import Refused
from appliance.types import NodeId, PartitionId, PartitionIndex, TopicName
from appliance.wire.requests import (
    ClusterChanged,
    Election,
    ElectionsOfTopic,
    ElectLeaders,
    ElectLeadersResult,
    LeadPartition,
)

_PREFERRED = 0


class _Handover(msgspec.Struct, frozen=True):
    """One partition that is to be led by the first of its nodes."""

    topic: TopicName
    index: PartitionIndex
    group: PartitionId
    to: NodeId


class ElectLeadersHandler:
    """Has preferred replicas lead."""

    request = ElectLeaders

    def __init__(
        self,
        catalogue: Catalogue,
        placement: Placement,
        consensus: Consensus,
        forwarding: Forwarding,
        auditor: Auditor,
    ) -> None:
        self._catalogue = catalogue
        self._placement = placement
        self._consensus = consensus
        self._forwarding = forwarding
        self._auditor = auditor

    def refuse(self, _: ElectLeaders, code: ErrorCode) -> ElectLeadersResult:
        """Says why not."""
        return ElectLeadersResult(error=code)

    async def handle(
        self, caller: Caller, authorized: Authorized[ElectLeaders]
    ) -> ElectLeadersResult:
        """One answer a partition; of 'all', only those where something was to be done."""
        request = authorized.request
        if request.election_type != _PREFERRED:
            return ElectLeadersResult(error=ErrorCode.INVALID_REQUEST)
        asked = self._catalogue.all_partitions() if request.topics is None else request.topics
        planned = [[self._plan(topic.name, index) for index in topic.partitions] for topic in asked]
        steps = (step for row in planned for step in row)
        begun = list(dict.fromkeys(step for step in steps if isinstance(step, _Handover)))
        if begun:
            topics = tuple(sorted({step.topic for step in begun}))
            await self._auditor.changing(caller, authorized, topics, "preferred leaders")
        ended = await self._carry_out(caller, begun, request.timeout_ms / 1000)
        results = []
        for topic, row in zip(asked, planned, strict=True):
            parts = tuple(ended[s] if isinstance(s, _Handover) else s for s in row)
            if request.topics is None:
                parts = tuple(p for p in parts if p.error is not ErrorCode.ELECTION_NOT_NEEDED)
            if parts or request.topics is not None:
                results.append(ElectionsOfTopic(topic.name, parts))
        return ElectLeadersResult(tuple(results))

    def _plan(self, name: TopicName, index: PartitionIndex) -> "Election | _Handover":
        group = self._catalogue.group_of(name, index)
        if group is None:
            return Election(
                index,
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                "there is no such topic or partition",
            )
        preferred = self._placement.replicas(group)[0]
        if self._placement.leads(group) == preferred:
            return Election(
                index, ErrorCode.ELECTION_NOT_NEEDED, "the preferred replica leads already"
            )
        if not self._placement.may_lead(preferred):
            return _not_available(index, "is away, or is being drained")
        return _Handover(name, index, group, preferred)

    async def _carry_out(
        self, caller: Caller, handovers: Iterable[_Handover], patience_s: float
    ) -> dict[_Handover, Election]:
        """What became of each, within the caller's patience and ours."""
        ended: dict[_Handover, Election] = {}
        deadline = trio.current_time() + min(max(patience_s, 0.0), MAX_ELECTION_WAIT_S)
        with trio.move_on_after(MAX_ELECTION_WAIT_S):
            for step in handovers:
                try:
                    await self._begin(caller, step)
                except RequestError as error:
                    ended[step] = _not_available(step.index, f"does not lead yet: {error}")
        for step in handovers:
            if step in ended:
                continue
            with trio.move_on_at(deadline):
                await self._consensus.leaders.led_by(step.group, step.to)
            if self._consensus.leaders.of(step.group).node == step.to:
                ended[step] = Election(step.index)
            elif patience_s < MAX_ELECTION_WAIT_S:
                ended[step] = Election(
                    step.index, ErrorCode.REQUEST_TIMED_OUT, "the preferred replica leads not yet"
                )
            else:
                ended[step] = _not_available(step.index, "did not take over in time")
        return ended

    async def _begin(self, caller: Caller, step: _Handover) -> None:
        """Has the leader begin to hand over; raises RequestError."""
        leader = self._placement.leads(step.group)
        if leader == step.to:
            return
        if leader != self._placement.node:
            request = LeadPartition(step.topic, step.index, step.to)
            answer = await self._forwarding.forward(caller, request)
            if isinstance(answer, ClusterChanged) and answer.error is ErrorCode.NONE:
                return
            raise RequestError(ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, "its leader refused")
        replica = self._consensus.replica(step.group)
        if replica is None or not replica.serving:
            raise RequestError(ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, "nobody leads it now")
        try:
            replica.hand_over(step.to)
        except Refused:
            raise RequestError(
                ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, "its members are being changed"
            ) from None


def _not_available(index: PartitionIndex, why: str) -> Election:
    return Election(index, ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE, f"the preferred replica {why}")
