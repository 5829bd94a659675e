"""Tier 2: replicas with the real sealed format on simulated disks, one run from one seed.

The broker's own replica, its log writer, the sealed log and the node journal run as they are; the
disk, the network and the clock are simulated, and what would go to a thread runs at once. Rules:
the order of tasks and every delay come from the seed.
"""

import random
import traceback
from collections import Counter

import trio
import trio.testing
from checkers import Checkers, Violation
from cores.run import Outcome
from replicas.cluster import Cluster

from tests.simulation import bounds, threads

STORM_S = 2.5
CALM_S = 15.0
CHECK_S = 0.25

FAULTS = (
    "lost", "doubled", "cut off", "partitions", "power cuts", "kills", "restarts", "failed syncs",
    "pending writes kept", "pending writes lost", "transfers", "membership changes",
    "files freed", "begun anew", "entries spared",
)  # fmt: skip

CHECKED = (
    "election-safety",
    "one-vote-a-term",
    "promises-durable",
    "state-machine-safety",
    "nothing-acknowledged-lost",
    "log-matching",
    "offsets",
    "liveness",
    "core-raises-nothing",
)


async def _storm(cluster: Cluster) -> None:
    """Clients write and things break, until it is over."""
    with trio.move_on_after(STORM_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.clients)
            nursery.start_soon(cluster.trouble)


async def _play(cluster: Cluster) -> None:
    async with trio.open_nursery() as nursery:
        await cluster.start(nursery)
        await _storm(cluster)
        cluster.heal()
        with trio.move_on_after(CALM_S):
            while not cluster.converged():
                cluster.last_write()
                await trio.sleep(CHECK_S)
        await cluster.judge()
        nursery.cancel_scope.cancel()


def run(seed: int, *, traced: bool = False) -> Outcome:
    """Storm, calm, judgement."""
    dice = random.Random(seed)
    checkers, faults = Checkers(), Counter[str]()
    lines: list[str] | None = [] if traced else None
    cluster = Cluster(dice, checkers, faults, lines)
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    trio._core._run._r.seed(seed)  # type: ignore[attr-defined]
    violation, detail = None, ""
    try:
        with threads.inline(), bounds.drawn(dice):
            trio.run(_play, cluster, clock=clock)
    except BaseException as error:  # noqa: BLE001 - whatever leaves a node is a finding
        violation = _first_violation(error)
        detail = "" if violation.checker != "core-raises-nothing" else traceback.format_exc()
    checkers.reached["core-raises-nothing"] += 1
    return Outcome(
        seed, cluster.ran_s * 1000, faults, checkers.reached, violation, detail,
        lines or [], cluster.trace_hash(),
    )  # fmt: skip


def _first_violation(error: BaseException) -> Violation:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, Violation):
        return error
    if isinstance(error, KeyboardInterrupt):
        raise error
    return Violation("core-raises-nothing", repr(error))
