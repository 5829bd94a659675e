"""Tier 1: the core alone, one run from one seed."""

import traceback
from collections import Counter
from typing import NamedTuple

from checkers import Violation
from cores.group import Group
from cores.nemesis import Nemesis
from cores.workload import Workload
from cores.world import World

STORM_MS = 9_000
CALM_MS = 8_000
"""At most; it ends as soon as the group has converged."""
CHECK_MS = 250
STAY_MS = 1_000
"""Once all is well a leader stays."""

FAULTS = (
    "lost", "doubled", "delayed", "cut off", "partitions", "one-way partitions", "clogs", "clogged",
    "crashes", "restarts", "whole power cuts", "lost unsynced writes", "pauses", "clock drift",
    "clock jumps", "coups", "connections reset", "a deaf member",
    "slow disks", "entries taken back", "membership changes", "transfers", "snapshots taken",
    "snapshots installed", "snapshots broken off", "damaged logs", "shrunk log seen",
)  # fmt: skip
"""What must have struck in a run of many seeds."""


class Outcome(NamedTuple):
    """What one run did and found."""

    seed: int
    simulated_ms: float
    faults: Counter[str]
    reached: Counter[str]
    violation: Violation | None
    detail: str
    trace: list[str]
    trace_hash: str


def run(seed: int, *, traced: bool = False) -> Outcome:
    """Storm, calm, judgement."""
    world = World(seed, traced=traced)
    dice = world.random
    group = Group(
        world,
        dice.choice((2, 3, 3, 3, 3, 5)),
        quiet=dice.random() < 0.3,
        part_entries=dice.choice((2, 1024)),
    )
    violation: Violation | None = None
    detail = ""
    try:
        nemesis = Nemesis(group)
        workload = Workload(group, nemesis)
        world.run_until(STORM_MS)
        nemesis.end()
        workload.end()
        _calm(world, group)
    except Violation as found:
        violation = found
    except Exception as error:  # noqa: BLE001 - whatever leaves the core is a finding
        violation = Violation("core-raises-nothing", repr(error))
        detail = traceback.format_exc()
    group.checkers.reached["core-raises-nothing"] += 1
    return Outcome(
        seed, world.now_ms, world.faults, group.checkers.reached, violation, detail,
        world.lines or [], world.trace_hash(),
    )  # fmt: skip


def _calm(world: World, group: Group) -> None:
    """Waits until the group takes a last write and everybody has it; raises Violation."""
    end_ms = world.now_ms + CALM_MS
    asked = False
    while world.now_ms < end_ms:
        world.run_until(world.now_ms + CHECK_MS)
        leader = group.leader()
        if not asked:
            asked = leader is not None and leader.core.settled and leader.propose(-1)
        elif group.converged():
            break
    if not asked:
        raise Violation("liveness", "no leader takes a write at the end")
    group.ended()
    before = group.leadership()
    group.deafen_one()
    world.run_until(world.now_ms + STAY_MS)
    group.checkers.stayed(before, group.leadership())
