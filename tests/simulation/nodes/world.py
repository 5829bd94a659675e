"""Everything of one run: machines, what lies between them, clients, and what was seen."""

import random
from collections import Counter
from hashlib import sha256
from typing import Any

import trio
from checkers import Checkers, Violation
from nodes.machine import Machine, Member
from nodes.network import Network
from nodes.time import NODE, Stoppable

from appliance.broker.caller import Caller
from appliance.types import Buffer, Principal, PrincipalKind
from appliance.wire.requests import (
    AddNode,
    DescribeNodes,
    DrainNode,
    LeadPartition,
    MovePartition,
    RemoveNode,
)
from tests.checkers.kafka_history import Operation as Seen
from tests.checkers.linearizability import Operation
from tests.simulation.keys import SeededKeys

DATA = "data"
REQUEST_S = 3.0
"""A client's patience with one request."""
_OPERATORS = (AddNode, DescribeNodes, DrainNode, LeadPartition, MovePartition, RemoveNode)


class World:
    """See the module; made before the event loop, begun inside it."""

    def __init__(self, seed: int, *, traced: bool) -> None:
        self.dice = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self.lines: list[str] | None = [] if traced else None
        self.keys = SeededKeys(random.Random(self.dice.getrandbits(32)))
        self.machines: dict[int, Machine] = {}
        self.everybody: set[int] = set()
        """Every node's number that was ever given."""
        self.history: list[Seen] = []
        self.operations: list[Operation] = []
        self.keys_of_data = [(DATA, 0), (DATA, 1)]
        self.stormy = True
        self.ran_s = 0.0
        self._leaders: dict[object, Checkers] = {}
        self._marks = 0
        self._uses: Counter[int] = Counter()

    def begin(self, nursery: trio.Nursery) -> None:
        """Inside the event loop; tasks of machines run in `nursery`."""
        self.nursery = nursery
        self.queue = Stoppable.install()
        self.network = Network(self.dice, self.faults, nursery)
        self.began_s = trio.current_time()

    def say(self, line: str) -> None:
        """A line of the trace."""
        self.ran_s = trio.current_time() - self.began_s
        if self.lines is not None:
            self.lines.append(f"{self.ran_s:10.6f} {line}")

    def sent(self, sender: int, to: int, item: Buffer) -> None:
        """Every byte between nodes counts in the trace."""
        told = "" if self.lines is None else sha256(item).hexdigest()[:16]
        self.say(f"{sender} -> {to} {len(item)} {told}")

    def trace_hash(self) -> str:
        """Of every line."""
        return sha256("\n".join(self.lines or ()).encode()).hexdigest()

    # --- machines -------------------------------------------------------------------------------

    async def add_machine(self, node: int) -> Machine:
        """A machine with an empty directory, and its first process."""
        machine = self.machines[node] = Machine(self, node)
        await machine.create()
        token = NODE.set(node)
        self.nursery.start_soon(machine.live)
        NODE.reset(token)
        return machine

    def member(self, node: int) -> Member | None:
        """The process of a node, if there is one."""
        machine = self.machines.get(node)
        return None if machine is None else machine.member

    def lives(self, member: Member) -> bool:
        """Whether a process is still there."""
        return self.member(member.machine.node) is member

    def led(self, node: int, life: int, group: object, term: int) -> None:
        """A process takes itself for the leader of a group."""
        checkers = self._leaders.setdefault(group, Checkers())
        checkers.reached = self.reached
        checkers.elected((node, life), term)

    def lost_identity(self, text: str) -> None:
        """A producer or a consumer was told that what it knows to be there is not."""
        self.say(f"LOST: {text}")
        raise Violation("nothing-forgotten", text)

    # --- clients --------------------------------------------------------------------------------

    async def ask(self, client: str, node: int, request: Any) -> Any:
        """The answer of a node, or None: it is not there, or the answer does not come."""
        await trio.sleep(0.0002 + self.dice.random() * 0.002)
        member = self.member(node)
        if member is None or not member.joined.is_set():
            return None
        listener = "native" if isinstance(request, _OPERATORS) else "kafka"
        caller = Caller(Principal(PrincipalKind.USER, "admin"), listener, "127.0.0.1", client)
        told, answers = trio.Event(), list[Any]()

        def reply(answer: Any) -> None:
            answers.append(answer)
            told.set()

        member.take(caller, request, reply)
        with trio.move_on_after(REQUEST_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_then, member.ended, told)
                await told.wait()
                nursery.cancel_scope.cancel()
        if self.stormy and self.dice.random() < 0.02:
            self.faults["lost replies"] += 1
            return None
        return answers[0] if answers else None

    def next_mark(self) -> int:
        """Tells one creation from another."""
        self._marks += 1
        return self._marks

    def topic_name(self, place: int, uses: int) -> str:
        """A name that was not used too often yet."""
        self._uses[place] += 1
        return f"topic-{place}-{self._uses[place] // uses}"


async def _then(first: trio.Event, second: trio.Event) -> None:
    await first.wait()
    second.set()
