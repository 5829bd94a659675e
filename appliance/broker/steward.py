"""Brings every group that this node leads to where the catalogue says it should be.

Rules (DESIGN section 8): a new member learns the log first, then the voters change by joint
consensus, then the catalogue is told. One step a group at a time, and a bounded number of groups
at once, so that moving never crowds out serving. Leadership leaves nodes that are drained, and
returns to the first of a group's nodes. The catalogue's own voters are an odd number of nodes; the
others follow it without a vote.
"""

import structlog
import trio

from appliance.broker.catalogue import Catalogue
from appliance.broker.consensus import Consensus
from appliance.broker.foundation import CATALOGUE_LOG, GROUPS_LOG, Foundation
from appliance.broker.placement import Placement
from appliance.broker.replica import Replica
from appliance.coordination.cluster_commands import (
    CLUSTER_LEVEL,
    NEWEST_LEVEL,
    Assignment,
    AssignReplicas,
    ReplicasMoved,
)
from appliance.errors import RequestError
from appliance.limits import INTERNAL_REPLICAS, MAX_CATALOGUE_VOTERS, MAX_MOVES_AT_ONCE
from appliance.raft.ready import Refused, Role
from appliance.types import NodeId, PartitionId

ROUND_S = 0.5
"""Between two looks at every group that is led here."""
SETTLED_ROUNDS = 10
"""That a leader serves before it hands over to the first node of its group: 5 s."""
MAX_HANDOVERS_A_ROUND = 16

log = structlog.get_logger()


class Steward:
    """Looks after the groups that are led here."""

    def __init__(self, foundation: Foundation, catalogue: Catalogue, placement: Placement) -> None:
        """`run` does the work."""
        self._foundation = foundation
        self._catalogue = catalogue
        self._placement = placement
        self._served: dict[PartitionId, int] = {}
        """For how many rounds each group has been led here."""

    @property
    def _consensus(self) -> Consensus:
        return self._foundation.consensus

    async def run(self) -> None:
        """Looks at every group now and then, until cancelled."""
        while True:
            await trio.sleep(ROUND_S)
            while not self._foundation.peers.nodes:
                await self._foundation.peers.changed()
            try:
                await self._round()
            except RequestError as error:
                log.info("the cluster's order is tended to later", reason=str(error))

    async def _round(self) -> None:
        led = [replica for replica in self._consensus.replicas() if replica.serving]
        self._served = {r.partition: self._served.get(r.partition, 0) + 1 for r in led}
        moving = 0
        handed = 0
        for replica in led:
            if replica.closed:
                continue
            if moving < MAX_MOVES_AT_ONCE and await self._reshape(replica):
                moving += 1
            elif handed < MAX_HANDOVERS_A_ROUND and self._hand_over(replica):
                handed += 1
        if self._catalogue.leads:
            await self._tend_catalogue()

    # --- members -------------------------------------------------------------------------------

    async def _reshape(self, replica: Replica[object]) -> bool:
        """Takes the next step towards the members that a group is to have; False if it has them."""
        group, now = replica.partition, replica.configuration
        if now.joint:
            return True
        voters, learners = self._wanted(group, now.voters)
        if not voters:
            return False
        if now.voters == voters and now.learners == learners:
            await self._report(group, voters)
            return False
        missing = voters - now.voters
        try:
            if missing - now.learners:
                # Who is to lose its vote keeps it until those who come have caught up.
                replica.change(now.voters, (now.learners | missing | learners) - now.voters)
            else:
                replica.change(voters, learners)
        except Refused as refused:
            log.debug("members change later", group=str(group), why=type(refused).__name__)
        return True

    def _wanted(
        self, group: PartitionId, now: frozenset[NodeId]
    ) -> tuple[frozenset[NodeId], frozenset[NodeId]]:
        """(voters, learners) that a group is to have."""
        if group == CATALOGUE_LOG:
            return self._wanted_of_catalogue(now)
        assignment = self._catalogue.state.membership.assignment(group)
        return frozenset(assignment.target or assignment.replicas), frozenset()

    def _wanted_of_catalogue(
        self, now: frozenset[NodeId]
    ) -> tuple[frozenset[NodeId], frozenset[NodeId]]:
        nodes = self._catalogue.state.nodes
        announced = [node for node, known in nodes.items() if known.host]
        announced.sort(key=lambda node: (nodes[node].draining, node not in now, node))
        count = min(len(announced), MAX_CATALOGUE_VOTERS)
        voters = frozenset(announced[: count if count % 2 else count - 1])
        return voters, frozenset(nodes) - voters

    async def _report(self, group: PartitionId, voters: frozenset[NodeId]) -> None:
        """Tells the catalogue that a group has the members that it was to have."""
        assignment = self._catalogue.state.membership.assignments.get(group)
        if assignment is not None and assignment.target is not None:
            await self._catalogue.execute_own(ReplicasMoved(group, assignment.target))
            log.info("a group has moved", group=str(group), nodes=sorted(voters))

    # --- leadership ----------------------------------------------------------------------------

    def _hand_over(self, replica: Replica[object]) -> bool:
        """Hands leadership over where it should not stay; True if it was begun."""
        successor = self._successor(replica)
        if successor is None:
            return False
        try:
            replica.hand_over(successor)
        except Refused:
            return False
        return True

    def _successor(self, replica: Replica[object]) -> NodeId | None:
        me = self._foundation.node
        if not self._placement.may_lead(me):
            return self.best_successor(replica)
        if replica.partition in {CATALOGUE_LOG, GROUPS_LOG}:
            return None
        if self._served.get(replica.partition, 0) < SETTLED_ROUNDS:
            return None
        preferred = self._placement.replicas(replica.partition)[0]
        ready = (
            preferred != me
            and preferred in replica.configuration.voters
            and self._placement.may_lead(preferred)
            and (replica.core.matched(preferred) or 0) >= replica.core.commit
        )
        return preferred if ready else None

    def best_successor(self, replica: Replica[object]) -> NodeId | None:
        """The voter that holds most of those that live and stay."""
        candidates = [
            node
            for node in sorted(replica.configuration.voters - {self._foundation.node})
            if self._placement.may_lead(node)
        ]
        return max(candidates, key=lambda n: replica.core.matched(n) or 0, default=None)

    async def resign_all(self, patience_s: float) -> None:
        """Hands over everything that others can lead, before this node stops."""
        with trio.move_on_after(patience_s):
            while True:
                waiting = False
                for replica in self._consensus.replicas():
                    if replica.role is Role.LEADER:
                        successor = self.best_successor(replica)
                        if successor is not None:
                            waiting = True
                            self._try_hand_over(replica, successor)
                if not waiting:
                    return
                await trio.sleep(0.02)

    @staticmethod
    def _try_hand_over(replica: Replica[object], successor: NodeId) -> None:
        try:
            replica.hand_over(successor)
        except Refused:
            return

    # --- the catalogue's own ---------------------------------------------------------------------

    async def _tend_catalogue(self) -> None:
        """What only the catalogue's leader decides."""
        await self._catalogue.raise_level(NEWEST_LEVEL)
        membership = self._catalogue.state.membership
        if membership.level < CLUSTER_LEVEL:
            return
        assignment = membership.assignment(GROUPS_LOG)
        wanted = self._wanted_of_groups(assignment)
        if assignment.target is None and set(wanted) != set(assignment.replicas):
            await self._catalogue.execute(AssignReplicas(GROUPS_LOG, wanted))

    def _wanted_of_groups(self, assignment: Assignment) -> tuple[NodeId, ...]:
        """More nodes where there are more, an odd number; none is dropped for being drained."""
        nodes = self._catalogue.state.nodes
        held = [node for node in assignment.replicas if node in nodes]
        able = sorted(
            node
            for node, known in nodes.items()
            if known.host and not known.draining and node not in held
        )
        chosen = [*held, *able][: max(INTERNAL_REPLICAS, len(held))]
        if len(chosen) > len(held) and len(chosen) % 2 == 0:
            chosen.pop()
        return tuple(chosen) or assignment.replicas
