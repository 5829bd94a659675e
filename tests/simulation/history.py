"""Random histories of one node: what it is asked, how the disk fails it, and how each life ends.

A history is its seed. In each life the node appends, takes back, begins anew, rolls, marks, votes,
re-wraps; a step of the disk may fail, an operation may be cancelled; then the life ends by a stop,
a kill, a power cut at any step, the restore of a backup, or two processes started from one image.
Whatever comes next must open, and hold everything that was called durable.
"""

import random

import trio

from appliance.errors import StorageError

from .disk import Action, Fault, Image
from .ledger import Ledger
from .node import SimulatedNode

LIVES = (1, 4)
OPERATIONS = (1, 12)
FAULTY = (Action.WRITE, Action.SYNC, Action.RESERVE, Action.RENAME, Action.SYNC_DIRECTORY,
          Action.TRUNCATE, Action.MAKE, Action.READ)  # fmt: skip


class History:
    """One history; `run` plays it."""

    def __init__(self, seed: object, *, faults: bool) -> None:
        """With `faults`, one step of each life fails."""
        self.source = random.Random(f"history {seed!r}")
        self.node = SimulatedNode(("history", seed))
        self.faults = faults
        self.injected = 0
        self.acknowledged = 0
        self._backup: tuple[Image, Ledger] | None = None
        self._photograph: tuple[Image, Ledger] | None = None

    async def run(self) -> None:
        """Plays it to its end; raises AssertionError where something was lost or made up."""
        await self.node.create()
        for _ in range(self.source.randint(*LIVES)):
            await self._live()
            self.acknowledged += len(self.node.ledger.base.entries)
            await self._die()
        await self.node.append(b"at the end", term=self._term())
        await self.node.stop()

    # --- a life --------------------------------------------------------------------------------

    async def _live(self) -> None:
        node, source = self.node, self.source
        self._photograph = None
        first = node.disk.steps
        self._photographed_at = first + source.randint(1, 60)
        self._fails_at = first + source.randint(1, 40) if self.faults else 0
        node.disk.on_step = self._on_step
        try:
            for _ in range(source.randint(*OPERATIONS)):
                with trio.CancelScope() as scope:
                    if source.random() < 0.05:
                        scope.cancel()
                    await self._operate()
                if scope.cancelled_caught:
                    break
                if source.random() < 0.1:
                    self._backup = (node.disk.image(), node.ledger)
        except StorageError:
            assert self.faults, "nothing failed, and an operation did"
        node.disk.on_step = _nothing

    def _on_step(self, action: Action, name: str) -> Fault | None:
        disk = self.node.disk
        if disk.steps == self._photographed_at:
            self._photograph = (disk.image(), self.node.ledger)
        if not self._fails_at or disk.steps < self._fails_at or action not in FAULTY:
            return None
        self._fails_at = 0
        self.injected += 1
        faults = [Fault.IO] if action is Action.READ else [Fault.IO, Fault.FULL]
        if action is Action.WRITE:
            faults.append(Fault.SHORT)
        if _is_log_data(name) and action in (Action.WRITE, Action.SYNC):
            self.node.failed = True
        return self.source.choice(faults)

    async def _operate(self) -> None:
        node, source = self.node, self.source
        log = node.log
        match source.choice(
            ["append"] * 8 + ["record", "vote", "mark", "truncate", "reset", "raise", "keep",
                              "rewrap", "rotate", "rekey"]
        ):  # fmt: skip
            case "append":
                bodies = [
                    source.randbytes(source.choice((0, 1, 30, 300, 1500)))
                    for _ in range(source.randint(1, 3))
                ]
                await node.append(*bodies, term=self._term(), records=source.randint(1, 3))
            case "record":
                await node.record(*(source.randbytes(20) for _ in range(source.randint(1, 3))))
            case "vote":
                await node.vote(self._term() + 1)
            case "mark":
                await node.mark()
            case "truncate":
                await node.truncate(source.choice(self._not_committed()))
            case "reset":
                state = source.randbytes(40)
                await node.reset(self._term() + 1, log.last.index + 7, log.end_offset + 11, state)
            case "raise":
                offset = source.randint(log.start_offset, log.end_offset)
                await node.raise_start(offset, state=source.randbytes(60))
            case "keep":
                await node.keep(source.randbytes(60))
            case "rewrap":
                await node.rewrap()
            case "rotate":
                await node.rotate()
            case "rekey":
                await node.rekey()

    def _not_committed(self) -> list[int]:
        """What truncation may keep up to: never less than where the log starts for readers."""
        log, base = self.node.log, self.node.ledger.base
        return [
            index
            for index in range(log.first_index - 1, log.last.index + 1)
            if base.up_to(index).end_offset >= log.start_offset
        ]

    def _term(self) -> int:
        log = self.node.log
        last = log.last.term
        return max(1, last + (self.source.random() < 0.2))

    # --- an end --------------------------------------------------------------------------------

    async def _die(self) -> None:
        node, source = self.node, self.source
        ends = ["kill", "power cut", "photograph", "twins"]
        if self._backup is not None:
            ends.append("restore")
        if not self.faults:
            ends.append("stop")
        match source.choice(ends):
            case "stop" if not node.ledger.instead and not node.ledger.sent:
                await node.stop()
                await node.open(node.disk.image().after_a_kill())
            case "photograph" if self._photograph is not None:
                image, node.ledger = self._photograph
                await self._open_after(image)
            case "restore":
                image, node.ledger = self._backup
                await self._open_after(image)
            case "twins":
                image, ledger = node.disk.image(), node.ledger
                await node.open(image.after_a_kill())
                await node.append(b"one of two", term=self._term())
                node.ledger = ledger
                await node.open(image.after_a_kill())
                await node.append(b"the other", term=self._term())
            case _:
                await self._open_after(node.disk.image())

    async def _open_after(self, image: Image) -> None:
        """Starts after a kill, or after a power cut that keeps what it likes; then once more."""
        node, source = self.node, self.source
        if source.random() < 0.3:
            await node.open(image.after_a_kill())
        else:
            share = source.choice((0.0, 0.3, 0.5, 0.7, 1.0))
            await node.open(image.after_a_power_cut(lambda *_: source.random() < share))
        await node.open(node.disk.image().after_a_power_cut(_nothing_kept))


def _is_log_data(name: str) -> bool:
    base = name.rpartition("/")[2]
    return (
        "/" in name
        and not name.startswith("journals")
        and "manifest" not in base
        and ("." not in base)
    )


def _nothing(_action: Action, _name: str) -> None:
    return None


def _nothing_kept(_number: int, _atom: object) -> bool:
    return False
