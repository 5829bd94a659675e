"""A replica's log may be ended from outside while it works: nothing raises, nobody is told."""

from uuid import UUID

import pytest
import trio

from appliance.broker.log_writer import LogWriter, Reports
from appliance.broker.snapshots import GroupSnapshot, Offered
from appliance.ports import HardState
from appliance.raft.configuration import Configuration, Placed
from appliance.types import Index, NodeId, Offset, PartitionId, Position, Term, TimestampMs

OFFERED = Offered.of(
    Offset(9),
    GroupSnapshot(
        Index(4), Offset(9), TimestampMs(0),
        Placed(Index(0), Configuration(frozenset({NodeId(1)}))), b"state",
    ),
)  # fmt: skip

STEPS = {
    "a vote": lambda writer: writer.save(HardState(Term(3), None)),
    "a truncation": lambda writer: writer.truncate(Index(4)),
    "a reset": lambda writer: writer.reset(Position(Index(4), Term(2)), OFFERED),
}


class Held:
    """A log and a node's storage that take as long as the test wants."""

    def __init__(self):
        self.begun, self.go_on = trio.Event(), trio.Event()

    async def _work(self, *_):
        self.begun.set()
        await self.go_on.wait()

    truncate = reset = save_hard_state = _work


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_a_step_under_way_when_the_log_is_ended_is_told_to_nobody(run, step):
    async def main():
        told, idle, held = [], trio.Event(), Held()
        reports = Reports(
            turn=lambda: told.append("turn"),
            saved=lambda _: told.append("saved"),
            durable=lambda _: told.append("durable"),
            reset=lambda *_: told.append("reset"),
            full=lambda: told.append("full"),
            failed=lambda: told.append("failed"),
            idle=idle.set,
        )
        async with trio.open_nursery() as nursery:
            writer = LogWriter(PartitionId(UUID(int=5)), held, held, nursery, reports)
            step(writer)
            await held.begun.wait()
            writer.end()
            held.go_on.set()
            with trio.fail_after(5):
                await idle.wait()
        assert told == []
        assert not writer.busy

    run(main)
