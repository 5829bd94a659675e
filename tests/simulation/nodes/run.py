"""Tier 3: whole nodes, one run from one seed: a storm, a calm, and judgement.

Judges stand apart from the workload: they get what clients were told, who led which term, and what
lies on the disks at the end.
"""

import logging
import random
import traceback
from collections import Counter
from collections.abc import Callable

import structlog
import trio
from checkers import Violation
from cores.run import Outcome
from nodes.clients import Administrator, Consumer, Producer
from nodes.nemesis import Nemesis
from nodes.operators import Operator
from nodes.time import JumpingClock
from nodes.verdict import founded, judge, unlike
from nodes.world import DATA, World

from appliance.errors import ErrorCode
from appliance.types import TopicName
from appliance.wire.requests import AddNode, CreateTopics, NewTopic
from tests.checkers.catalogue import Verb
from tests.checkers.kafka_history import ANOMALIES
from tests.simulation import bounds, threads
from tests.simulation.recorder import SealRecorder

STORM_S = 10.0
START_S = 60.0
CALM_S = 40.0
CHECK_S = 0.25

FAULTS = (
    "lost", "doubled", "delayed", "cut off", "partitions", "one-way partitions", "clogs", "clogged",
    "crashes", "kills", "power cuts", "whole power cuts", "restarts", "clean stops", "pauses",
    "clock jumps", "crashes in a step of the disk", "pending writes kept",
    "pending writes lost", "failed syncs", "failed writes",
    "short writes", "full disks", "failed reads", "misdirected writes", "lost writes", "bit rot",
    "ended by its disk", "lost replies", "nodes added", "nodes removed", "nodes replaced",
    "nodes drained", "partitions moved", "transfers",
)  # fmt: skip

CHECKED = (
    *ANOMALIES, "nothing-forgotten", "linearizable-catalogue", "election-safety", "same-log",
    "same-catalogue", "sealed-once", "liveness", "nothing-raises",
)  # fmt: skip


async def _play(world: World) -> None:
    async with trio.open_nursery() as nursery:
        world.begin(nursery)
        operator = Operator(world)
        await _founded(world, operator)
        async with trio.open_nursery() as work:
            work.start_soon(operator.run)
            await _storm(world)
            await _calm(world, operator)
            work.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def _founded(world: World, operator: Operator) -> None:
    """A cluster of three or five, with the topic that data is written to."""
    count = world.dice.choice((3, 3, 3, 5))
    world.everybody = set(range(1, count + 1))
    for node in range(1, count + 1):
        await world.add_machine(node)

    async def asks(request: object, node: int) -> bool:
        reply = await operator.ask(request, node)
        told = getattr(reply, "topics", (reply,))[0] if reply is not None else None
        return told is not None and told.error in {
            ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS, ErrorCode.INVALID_REQUEST
        }  # fmt: skip

    world.stormy = False
    for node in range(2, count + 1):
        await _until(lambda node=node: asks(AddNode(node, f"n{node}", 9293), 1), "a cluster")
    topic = CreateTopics((NewTopic(TopicName(DATA), 2, 3),), 1000)
    await _until(lambda: asks(topic, 1), "a topic")
    await _until(lambda: founded(world), "three holders of everything", START_S)
    world.stormy = True
    world.say(f"{count} nodes BEGIN")


async def _until(
    condition: Callable[[], object],
    what: str,
    seconds: float = START_S,
    why: Callable[[], object] = str,
) -> None:
    with trio.move_on_after(seconds):
        while True:
            found = condition()
            if hasattr(found, "__await__"):
                found = await found
            if found:
                return
            await trio.sleep(CHECK_S)
    raise Violation("liveness", f"{what} did not come about in {seconds} s {why()}")


async def _storm(world: World) -> None:
    nemesis = Nemesis(world)
    with trio.move_on_after(STORM_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nemesis.run)
            for number in range(2):
                nursery.start_soon(Producer(world, f"producer-{number}").run)
                nursery.start_soon(Consumer(world, f"consumer-{number}").run)
                nursery.start_soon(Administrator(world, f"admin-{number}").run)
    nemesis.end()


async def _calm(world: World, operator: Operator) -> None:
    """The cluster becomes available and converges, or liveness is broken; then all is judged."""
    await _until(
        lambda: operator.idle and not operator.broken() and not operator.drained,
        "what the operator has begun", CALM_S,
        lambda: f"{operator.broken()} {operator.drained} {operator.doing}",
    )  # fmt: skip
    await _until(
        lambda: all(_serves(world, node) for node in world.machines), "every node", CALM_S,
        lambda: {node: _serves(world, node) for node in world.machines},
    )  # fmt: skip
    producer = Producer(world, "producer-last")
    for key in world.keys_of_data:
        await _until(lambda key=key: producer.write(key), f"a write to {key}", CALM_S)
    administrator = Administrator(world, "admin-last")
    await _until(lambda: administrator.act(Verb.CREATE, "last"), "a new topic", CALM_S)
    await _until(lambda: administrator.act(Verb.DELETE, "last"), "no such topic", CALM_S)
    await _until(lambda: not unlike(world), "the same on every node", CALM_S, lambda: unlike(world))
    reader = Consumer(world, "consumer-last")
    for key in world.keys_of_data:
        await _until(lambda key=key: reader.read_to_end(key), f"the end of {key}", CALM_S)
    world.reached["liveness"] += 1
    await judge(world)


def _serves(world: World, node: int) -> bool:
    member = world.member(node)
    return member is not None and member.joined.is_set()


def run(seed: int, *, traced: bool = False) -> Outcome:
    """Storm, calm, judgement."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    world = World(seed, traced=traced)
    recorder = SealRecorder()
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    trio._core._run._r = random.Random(seed)  # type: ignore[attr-defined]
    violation, detail = None, ""
    try:
        with threads.inline(), recorder.watching(), bounds.drawn(random.Random(seed)):
            trio.run(_play, world, clock=JumpingClock())
    except BaseException as error:  # noqa: BLE001 - whatever leaves a node is a finding
        violation = _first_violation(error)
        detail = "".join(traceback.format_exception(error)[-60:])
    world.reached["nothing-raises"] += 1
    world.reached["nothing-forgotten"] += len(world.history)
    world.reached["sealed-once"] += recorder.seals
    if recorder.repeated and violation is None:
        violation = Violation("sealed-once", f"{recorder.repeated} nonces were used again")
    faults: Counter[str] = world.faults
    return Outcome(
        seed, world.ran_s * 1000, faults, world.reached, violation, detail,
        world.lines or [], world.trace_hash(),
    )  # fmt: skip


def _first_violation(error: BaseException) -> Violation:
    while isinstance(error, BaseExceptionGroup):
        error = next(
            (e for e in error.exceptions if not isinstance(e, trio.Cancelled)), error.exceptions[0]
        )
    if isinstance(error, Violation):
        return error
    if isinstance(error, KeyboardInterrupt):
        raise error
    return Violation("nothing-raises", repr(error))
