"""Processes that attack between `begin` and `stop`, and count what they did."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Event, Semaphore
from typing import Any, Final, NamedTuple

START_S: Final = 120
STOP_S: Final = 30


class Reins(NamedTuple):
    """What an attacker's process shares with whoever holds it."""

    told: "SynchronizedArray[int]"
    """What it counted, in the order of its fields."""
    ready: Semaphore
    go: Event
    until: Event

    def wait_for_start(self) -> None:
        """Says that everything is prepared, and returns when the attack is to begin."""
        self.ready.release()
        self.go.wait()


class Attackers:
    """One way to attack, by one process for each of `shares`."""

    def __init__(
        self, fields: Sequence[str], attack: Callable[..., None], shares: Sequence[tuple[Any, ...]]
    ) -> None:
        """Each process calls `attack` with the reins and one of `shares`; `fields` name counts."""
        spawn = multiprocessing.get_context("spawn")
        self._fields = fields
        self._reins = Reins(
            spawn.Array("q", len(fields)), spawn.Semaphore(0), spawn.Event(), spawn.Event()
        )
        self._processes = [
            spawn.Process(target=_attack, args=(attack, self._reins, *share), daemon=True)
            for share in shares
        ]

    def prepare(self) -> None:
        """Starts the processes; returns when each has prepared what it needs."""
        for process in self._processes:
            process.start()
        for _ in self._processes:
            assert self._reins.ready.acquire(timeout=START_S)

    def begin(self) -> None:
        """Lets them go."""
        self._reins.go.set()

    def stop(self) -> None:
        """Ends them."""
        self._reins.until.set()
        self._reins.go.set()
        for process in self._processes:
            process.join(STOP_S)
            if process.is_alive():
                process.terminate()

    @property
    def told(self) -> dict[str, int]:
        """What was counted so far, by field."""
        return dict(zip(self._fields, self._reins.told, strict=True))


def _attack(attack: Callable[..., None], reins: Reins, *share: Any) -> None:
    os.nice(5)
    attack(reins, *share)
