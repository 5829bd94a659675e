"""A network that loses, doubles, delays, reorders, clogs and cuts, one way or both.

Rules: a message is handed over as it was sent, or not at all. Faults are set by the nemesis; each
time one strikes it is counted.
"""

from collections.abc import Callable
from functools import partial

from cores.world import World

Deliver = Callable[[int, object], None]


class Network:
    """All links between members."""

    def __init__(self, world: World, deliver: Deliver) -> None:
        self._world = world
        self._deliver = deliver
        self.loss = 0.0
        self.duplication = 0.0
        self.slow = 0.0
        """Chance of a delay long enough to be overtaken by much."""
        self.cut: set[tuple[int, int]] = set()
        self.clogged: dict[tuple[int, int], list[object]] = {}

    def send(self, sender: int, to: int, payload: object) -> None:
        """A message leaves."""
        world, dice = self._world, self._world.random.random
        if (sender, to) in self.cut:
            world.faults["cut off"] += 1
            return
        if self.loss and dice() < self.loss:
            world.faults["lost"] += 1
            return
        self._travel(sender, to, payload)
        if self.duplication and dice() < self.duplication:
            world.faults["doubled"] += 1
            self._travel(sender, to, payload)

    def _travel(self, sender: int, to: int, payload: object) -> None:
        dice = self._world.random.random
        delay_ms = 0.3 + dice() * 2
        if self.slow and dice() < self.slow:
            self._world.faults["delayed"] += 1
            delay_ms += dice() * dice() * 400
        self._world.after(delay_ms, partial(self._arrive, sender, to, payload))

    def _arrive(self, sender: int, to: int, payload: object) -> None:
        clog = self.clogged.get((sender, to))
        if clog is not None:
            self._world.faults["clogged"] += 1
            clog.append(payload)
        elif (sender, to) not in self.cut:
            self._deliver(to, payload)

    def clog(self, sender: int, to: int) -> None:
        """Nothing arrives any more, and nothing is lost."""
        self.clogged.setdefault((sender, to), [])

    def unclog(self, sender: int, to: int) -> None:
        """Everything that was held back arrives at once."""
        for payload in self.clogged.pop((sender, to), []):
            self._world.after(0.1, partial(self._arrive, sender, to, payload))

    def heal(self) -> None:
        """No more faults."""
        self.loss = self.duplication = self.slow = 0.0
        self.cut.clear()
        for sender, to in sorted(self.clogged):
            self.unclog(sender, to)
