"""Whoever runs the cluster: adds, removes, drains and replaces nodes, moves and hands over.

Rules: what was begun is carried through, during the storm or after it, because a cluster must come
to rest in the shape that it was told to have. Machines that broke for good are replaced.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio
from nodes.clients import Client
from nodes.world import DATA

from appliance.errors import ErrorCode
from appliance.types import PartitionIndex, TopicName
from appliance.wire.requests import (
    AddNode,
    DrainNode,
    LeadPartition,
    MovePartition,
    RemoveNode,
)

if TYPE_CHECKING:
    from nodes.machine import Machine
    from nodes.world import World

FEWEST, MOST = 3, 5
DATA_TOPIC = TopicName(DATA)
Project = Callable[[], Awaitable[None]]


class Operator(Client):
    """One at a time."""

    def __init__(self, world: "World") -> None:
        super().__init__(world, "operator")
        self.idle = True
        self.doing: object = None
        """The last thing asked for."""
        self.drained: set[int] = set()

    async def run(self) -> None:
        """Until cancelled; between two projects is a pause."""
        while True:
            self.idle = True
            await trio.sleep(0.2 + self.dice.random())
            if self.world.stormy:
                self.idle = False
                await self.dice.choice(self._projects())()
            elif self.broken():
                self.idle = False
                await self._replace(self.broken()[0])
            elif self.drained:
                self.idle = False
                await self._undrain(min(self.drained))

    def _projects(self) -> list[Project]:
        standing = self.standing()
        able: list[Project] = [self._drain, self._move, self._move, self._lead, self._lead]
        if len(standing) < MOST:
            able += [self._add, self._add]
        if len(standing) > FEWEST:
            able += [self._remove, self._remove]
        if self.broken():
            able += [self._mend] * 4
        return able

    def standing(self) -> list[int]:
        """Nodes that are to stay."""
        return sorted(n for n, machine in self.world.machines.items() if not _is_broken(machine))

    def broken(self) -> list[int]:
        """Nodes that nobody can trust any more."""
        return sorted(n for n, machine in self.world.machines.items() if _is_broken(machine))

    # --- projects -------------------------------------------------------------------------------

    async def _until(self, request: object, done: Callable[[str], bool] = bool) -> None:
        """Asks until it is done."""
        self.doing = request
        while True:
            reply = await self.ask(request)
            if reply is not None:
                self.world.say(f"operator: {request} -> {reply.error.name} {reply.message}")
                if _is_settled(reply.error, reply.message or ""):
                    return
                if reply.error is ErrorCode.NONE and done(reply.message):
                    return
            await trio.sleep(0.2 + self.dice.random() * 0.2)

    async def _add(self) -> None:
        node = max(self.world.everybody) + 1
        self.world.everybody.add(node)
        await self.world.add_machine(node)
        await self._until(AddNode(node, f"n{node}", 9293))
        while not (_is_broken(self.world.machines[node]) or self._serves(node)):  # noqa: ASYNC110
            await trio.sleep(0.2)  # nothing can be moved to it before
        self.world.faults["nodes added"] += 1

    def _serves(self, node: int) -> bool:
        member = self.world.member(node)
        return member is not None and member.joined.is_set()

    async def _remove(self) -> None:
        await self._take_out(self.dice.choice(self.standing()))
        self.world.faults["nodes removed"] += 1

    async def _take_out(self, node: int) -> None:
        """Whatever breaks meanwhile is taken out as well: nothing can be moved to it."""
        going = {node}
        while going:
            going |= set(self.broken())
            if len(set(self.standing()) - going) < FEWEST:
                await self._add()
            for each in sorted(going):
                self.doing = RemoveNode(each)
                reply = await self.ask(self.doing)
                said = "" if reply is None else reply.message or ""
                self.world.say(f"operator: {self.doing} -> {said}")
                if said.startswith("removed") or "no node" in said:
                    going.discard(each)
                    self.drained.discard(each)
                    self.world.machines.pop(each).retire()
            await trio.sleep(0.2 + self.dice.random() * 0.2)

    async def _mend(self) -> None:
        await self._replace(self.broken()[0])

    async def _replace(self, node: int) -> None:
        machine = self.world.machines[node]
        if machine.doomed:
            machine.retire()
        if len(self.standing()) < FEWEST:
            await self._add()
        await self._take_out(node)
        self.world.faults["nodes replaced"] += 1

    async def _drain(self) -> None:
        standing = self.standing()
        node = self.dice.choice(standing)
        if self.drained or len(standing) <= FEWEST:
            return
        self.drained.add(node)
        await self._until(DrainNode(node, True))
        self.world.faults["nodes drained"] += 1
        await trio.sleep(self.dice.random() * 2)
        await self._undrain(node)

    async def _undrain(self, node: int) -> None:
        if node in self.world.machines:
            await self._until(DrainNode(node, False))
        self.drained.discard(node)

    async def _move(self) -> None:
        standing = [node for node in self.standing() if node not in self.drained]
        if len(standing) <= FEWEST:
            return
        nodes = tuple(self.dice.sample(standing, 3))
        index = PartitionIndex(self.dice.randrange(2))
        await self._until(MovePartition(DATA_TOPIC, index, nodes))
        self.world.faults["partitions moved"] += 1

    async def _lead(self) -> None:
        index = PartitionIndex(self.dice.randrange(2))
        reply = await self.ask(LeadPartition(DATA_TOPIC, index, self.dice.choice(self.standing())))
        if reply is not None and reply.error is ErrorCode.NONE:
            self.world.faults["transfers"] += 1


def _is_broken(machine: "Machine") -> bool:
    return machine.doomed or machine.rotten or machine.gone


def _is_settled(error: ErrorCode, said: str) -> bool:
    """An earlier request, whose answer was lost, has done it; or it can never be done."""
    return error is ErrorCode.INVALID_REQUEST or "no node" in said or "once for all" in said
