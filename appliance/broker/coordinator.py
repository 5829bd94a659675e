"""The shell of the group coordinator: parks requests, keeps time, commits what must survive.

Rules: one task sleeps until the nearest deadline of all groups; without members there is none and
nothing wakes. An answer that rests on a command goes out once the command is committed, or as
COORDINATOR_NOT_AVAILABLE if it cannot be.
"""

from collections.abc import Mapping, Sequence
from math import inf

import msgspec
import trio

from appliance.broker.commands import CommandLog
from appliance.broker.foundation import GROUPS_LOG, Foundation
from appliance.coordination.group_messages import (
    Answer,
    Claim,
    CommitOffsets,
    ForgetTopic,
    GroupCommand,
    Join,
    Joined,
    Persist,
    StoredOffset,
    Sync,
    Synced,
    Ticket,
)
from appliance.coordination.group_store import GroupStore, Place
from appliance.coordination.groups import Groups
from appliance.errors import ErrorCode, RequestError
from appliance.types import GroupName, MemberId, TopicId

FIRST_JOIN_DELAY_MS = 500
"""How long an empty group waits for more first members (KIP-134)."""

_DECODER = msgspec.msgpack.Decoder(GroupCommand)


class _Parked:
    """One request that waits for its group."""

    __slots__ = ("event", "result")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.result: Joined | Synced | None = None


class Coordinator:
    """All consumer groups of this node."""

    def __init__(
        self,
        foundation: Foundation,
        store: GroupStore,
        log: CommandLog[GroupCommand, bool],
        *,
        first_join_delay_ms: int,
    ) -> None:
        """Use `open`."""
        self._foundation = foundation
        self._store = store
        self._log = log
        self._groups = Groups(store, first_join_delay_ms=first_join_delay_ms)
        self._parked: dict[Ticket, _Parked] = {}
        self._last_ticket = Ticket(0)
        self._sleeps_until_ms: float = inf
        self._earlier = trio.Event()
        self._timer = trio.CancelScope()

    @staticmethod
    async def open(
        foundation: Foundation, *, first_join_delay_ms: int = FIRST_JOIN_DELAY_MS
    ) -> "Coordinator":
        """Opens, or makes, the groups' log, and starts the timer in the foundation's nursery."""
        store = GroupStore()

        def apply(command: GroupCommand) -> bool:
            store.apply(command)
            return True

        log = await CommandLog.open(foundation, GROUPS_LOG, decoder=_DECODER, apply=apply)
        coordinator = Coordinator(foundation, store, log, first_join_delay_ms=first_join_delay_ms)
        foundation.nursery.start_soon(coordinator.keep_time)
        return coordinator

    # --- members ---

    async def join(self, join: Join) -> Joined:
        """Returns when the member is in a generation, or is not let in."""
        ticket, parked = self._park()
        self._groups.join(ticket, join, self._now_ms())
        result = await self._wait(join.group, ticket, parked)
        return result if isinstance(result, Joined) else Joined(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    async def sync(self, sync: Sync) -> Synced:
        """Returns when the member has its assignment, or will not get one."""
        ticket, parked = self._park()
        self._groups.sync(ticket, sync, self._now_ms())
        result = await self._wait(sync.group, ticket, parked)
        return result if isinstance(result, Synced) else Synced(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    def heartbeat(self, claim: Claim) -> ErrorCode:
        """Notes that a member lives."""
        error = self._groups.heartbeat(claim, self._now_ms())
        self._pump()
        return error

    def leave(
        self, group: GroupName, members: Sequence[tuple[MemberId, str | None]]
    ) -> list[ErrorCode]:
        """Takes members out; what became of each."""
        now_ms = self._now_ms()
        errors = [
            self._groups.leave(group, member, instance, now_ms) for member, instance in members
        ]
        self._pump()
        return errors

    def new_member_id(self, prefix: str) -> MemberId:
        """An id that nobody has; `prefix` is for people who read it."""
        return MemberId(f"{prefix[:64]}-{self._foundation.new_id()}")

    # --- offsets ---

    def may_commit(self, claim: Claim) -> ErrorCode:
        """Whether these may be the group's offsets."""
        error = self._groups.may_commit(claim, self._now_ms())
        self._pump()
        return error

    async def commit(self, group: GroupName, offsets: tuple[StoredOffset, ...]) -> None:
        """Returns when the offsets are durable; raises RequestError."""
        try:
            await self._log.execute(CommitOffsets(group, offsets))
        except RequestError:
            raise RequestError(
                ErrorCode.COORDINATOR_NOT_AVAILABLE, "the offsets cannot be made durable"
            ) from None

    def offsets(self, group: GroupName) -> Mapping[Place, StoredOffset]:
        """The group's committed offsets."""
        return self._store.offsets(group)

    async def forget_topics(self, gone: Sequence[TopicId]) -> None:
        """Drops all groups' offsets of deleted topics; raises RequestError."""
        kept = self._store.topics()
        for topic in gone:
            if topic in kept:
                await self._log.execute(ForgetTopic(topic))

    def topics_with_offsets(self) -> frozenset[TopicId]:
        """Every topic of which some group has an offset."""
        return self._store.topics()

    # --- parking ---

    def _park(self) -> tuple[Ticket, _Parked]:
        self._last_ticket = ticket = Ticket(self._last_ticket + 1)
        parked = self._parked[ticket] = _Parked()
        return ticket, parked

    async def _wait(
        self, group: GroupName, ticket: Ticket, parked: _Parked
    ) -> Joined | Synced | None:
        try:
            self._pump()
            await parked.event.wait()
        finally:
            if self._parked.pop(ticket, None) is not None:
                self._groups.abandon(group, ticket)
        return parked.result

    def _answer(self, answer: Answer) -> None:
        parked = self._parked.pop(answer.ticket, None)
        if parked is not None:
            parked.result = answer.result
            parked.event.set()

    def _pump(self) -> None:
        """Carries out what the groups have come to."""
        for effect in self._groups.drain():
            if isinstance(effect, Answer):
                self._answer(effect)
            else:
                self._persist(effect)
        nearest = self._groups.nearest_deadline_ms
        if nearest is not None and nearest < self._sleeps_until_ms:
            self._earlier.set()

    def _persist(self, effect: Persist) -> None:
        def committed(error: ErrorCode, _: bool | None) -> None:
            for answer in effect.answers:
                self._answer(answer if error is ErrorCode.NONE else _unavailable(answer))

        try:
            self._log.submit(effect.command, committed)
        except RequestError as error:
            committed(error.code, None)

    # --- time ---

    def _now_ms(self) -> int:
        return self._foundation.monotonic_ms()

    async def keep_time(self) -> None:
        """Acts on deadlines until the coordinator is closed."""
        with self._timer:
            while True:
                nearest = self._groups.nearest_deadline_ms
                self._sleeps_until_ms = inf if nearest is None else nearest
                left_s = inf if nearest is None else max(0, nearest - self._now_ms()) / 1000
                self._earlier = trio.Event()
                with trio.move_on_after(left_s):
                    await self._earlier.wait()
                self._groups.tick(self._now_ms())
                self._pump()

    async def close(self) -> None:
        """Ends keeping time, sends the parked away, and closes the log."""
        self._timer.cancel()
        for ticket, parked in list(self._parked.items()):
            del self._parked[ticket]
            parked.event.set()
        await self._log.close()


def _unavailable(answer: Answer) -> Answer:
    failed = ErrorCode.COORDINATOR_NOT_AVAILABLE
    result = Joined(failed) if isinstance(answer.result, Joined) else Synced(failed)
    return Answer(answer.ticket, result)
