"""What lies between nodes, in place of TLS connections: `broker.peering` is the port.

Rules: a connection between two nodes stands for a pair of TLS connections. Liveness keeps its order
on it or goes down with it, as on TCP; messages of consensus, which any full queue may drop, are
lost, doubled, delayed and overtaken each by itself. What is asked is answered, or the connection
breaks, or the asker's patience ends. A cut may break connections, or let them hang.
"""

import random
from collections import Counter
from collections.abc import Callable

import trio
from nodes.time import NODE

CHECK_S = 0.01
LEAST_DELAY_S, USUAL_DELAY_S, LONG_DELAY_S = 0.0003, 0.003, 0.4


class Connection:
    """Between two nodes, as long as it lasts."""

    def __init__(self, one: int, other: int) -> None:
        self.ends = one, other
        self.broken = trio.Event()

    def has(self, node: int) -> bool:
        """Whether a node is at one of its ends."""
        return node in self.ends


class Network:
    """All links, and what is wrong with them."""

    def __init__(self, dice: random.Random, faults: Counter[str], nursery: trio.Nursery) -> None:
        self._dice, self._faults, self._nursery = dice, faults, nursery
        self.loss = self.duplication = self.slow = 0.0
        self.cut: set[tuple[int, int]] = set()
        self.clogged: dict[tuple[int, int], list[Callable[[], None]]] = {}
        self._connections: list[Connection] = []

    # --- connections ----------------------------------------------------------------------------

    def connect(self, one: int, other: int) -> Connection | None:
        """A connection from one node to another, if both ways are open."""
        if {(one, other), (other, one)} & self.cut:
            return None
        connection = Connection(one, other)
        self._connections.append(connection)
        return connection

    def forget(self, connection: Connection) -> None:
        """One end has closed it."""
        connection.broken.set()
        self._connections.remove(connection)

    def break_all(self, breaks: Callable[[Connection], bool]) -> None:
        """Breaks those connections that `breaks` says."""
        for connection in self._connections:
            if breaks(connection):
                connection.broken.set()

    # --- travelling -----------------------------------------------------------------------------

    def send(self, sender: int, to: int, arrive: Callable[[], None]) -> None:
        """A message of consensus leaves; nobody is told what becomes of it."""
        if self.loss and self._dice.random() < self.loss:
            self._faults["lost"] += 1
            return
        self.travel(sender, to, arrive)
        if self.duplication and self._dice.random() < self.duplication:
            self._faults["doubled"] += 1
            self.travel(sender, to, arrive)

    def travel(self, sender: int, to: int, arrive: Callable[[], None]) -> None:
        """Something is under way, unless the way is cut."""
        if (sender, to) in self.cut:
            self._faults["cut off"] += 1
        else:
            token = NODE.set(0)
            self._nursery.start_soon(self._travel, sender, to, arrive)
            NODE.reset(token)

    def hold(self, sender: int, to: int, arrive: Callable[[], None]) -> None:
        """Something is under way that a cut delays and does not lose, as TCP does."""
        token = NODE.set(0)
        self._nursery.start_soon(self._held, sender, to, arrive)
        NODE.reset(token)

    async def _held(self, sender: int, to: int, arrive: Callable[[], None]) -> None:
        await trio.sleep(self.delay_s())
        await self.open(sender, to)
        arrive()

    async def open(self, sender: int, to: int) -> None:
        """Returns when the way is neither cut nor clogged."""
        way = sender, to
        while way in self.cut or way in self.clogged:  # noqa: ASYNC110 - time is simulated
            await trio.sleep(CHECK_S)

    async def _travel(self, sender: int, to: int, arrive: Callable[[], None]) -> None:
        await trio.sleep(self.delay_s())
        held = self.clogged.get((sender, to))
        if held is not None:
            self._faults["clogged"] += 1
            held.append(arrive)
        elif (sender, to) not in self.cut:
            arrive()

    def delay_s(self) -> float:
        """How long something is under way."""
        dice = self._dice
        delay_s = LEAST_DELAY_S + dice.random() * USUAL_DELAY_S
        if self.slow and dice.random() < self.slow:
            self._faults["delayed"] += 1
            delay_s += dice.random() * dice.random() * LONG_DELAY_S
        return delay_s

    # --- faults ---------------------------------------------------------------------------------

    def clog(self, sender: int, to: int) -> None:
        """Nothing arrives any more, and nothing is lost."""
        self.clogged.setdefault((sender, to), [])

    def unclog(self, sender: int, to: int) -> None:
        """Everything that was held back arrives at once, in any order."""
        held = self.clogged.pop((sender, to), [])
        self._dice.shuffle(held)
        for arrive in held:
            arrive()

    def heal(self) -> None:
        """No more faults."""
        self.loss = self.duplication = self.slow = 0.0
        self.cut.clear()
        for sender, to in sorted(self.clogged):
            self.unclog(sender, to)
