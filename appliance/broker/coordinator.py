"""The shell of the group coordinator: parks requests, keeps time, commits what must survive.

Rules: one task sleeps until the nearest deadline of all groups; without members there is none and
nothing wakes. An answer that rests on a command goes out once the command is committed, or as
COORDINATOR_NOT_AVAILABLE if it cannot be.
"""

from collections.abc import Mapping, Sequence
from math import inf

import msgspec
import trio

from appliance.broker.commands import CommandLog, Keeping
from appliance.broker.foundation import GROUPS_LOG, Foundation
from appliance.coordination.group import Group
from appliance.coordination.group_messages import (
    Answer,
    Claim,
    CommitOffsets,
    DropGroup,
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
from appliance.coordination.group_states import GroupState
from appliance.coordination.group_store import GroupStore, KeptGroups, Place
from appliance.coordination.groups import Groups
from appliance.errors import DamageDetected, ErrorCode, RequestError
from appliance.raft.configuration import Configuration
from appliance.types import GroupName, MemberId, Term, TopicId

FIRST_JOIN_DELAY_MS = 500
"""How long an empty group waits for more first members (KIP-134)."""

_DECODER = msgspec.msgpack.Decoder(GroupCommand)
_ENCODER = msgspec.msgpack.Encoder()
_KEPT = msgspec.msgpack.Decoder(KeptGroups)


class _Parked:
    """One request that waits for its group."""

    __slots__ = ("event", "result")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.result: Joined | Synced | None = None


class Coordinator:
    """All consumer groups, while this node leads their log."""

    def __init__(self, foundation: Foundation, *, first_join_delay_ms: int) -> None:
        """Coordinates nothing until `hold`; `keep_time` runs beside it."""
        self._foundation = foundation
        self._first_join_delay_ms = first_join_delay_ms
        self._store = GroupStore()
        self._log: CommandLog[GroupCommand, bool] | None = None
        self._groups = Groups(self._store, first_join_delay_ms=first_join_delay_ms)
        self._term = Term(0)
        self._parked: dict[Ticket, _Parked] = {}
        self._last_ticket = Ticket(0)
        self._sleeps_until_ms: float = inf
        self._earlier = trio.Event()
        self._timer = trio.CancelScope()
        self._opening = trio.Lock()

    async def hold(self, genesis: Configuration) -> None:
        """Opens the log on this node, once."""
        async with self._opening:
            if self._log is None:
                self._store = GroupStore()
                self._log = await CommandLog.open(
                    self._foundation,
                    GROUPS_LOG,
                    decoder=_DECODER,
                    apply=self._apply,
                    genesis=genesis,
                    keeping=Keeping(self._snapshot, self._restore),
                )

    async def give_up(self) -> None:
        """Closes the log and removes it: others hold it now."""
        async with self._opening:
            log, self._log = self._log, None
            if log is not None:
                self._foundation.consensus.remove(GROUPS_LOG)
                await log.close()
                await self._foundation.remove(GROUPS_LOG)
                self.leadership_changed()

    async def repair(self, *, distrusted: bool) -> bool:
        """Has a damaged log cut and filled by its other members; what was applied stays."""
        async with self._opening:
            return self._log is not None and await self._log.repair(distrusted=distrusted)

    def _apply(self, command: GroupCommand) -> bool:
        self._store.apply(command)
        return True

    def _snapshot(self) -> bytes:
        return _ENCODER.encode(self._store.kept())

    def _restore(self, state: bytes) -> None:
        try:
            self._store.restore(_KEPT.decode(state))
        except msgspec.MsgspecError:
            raise DamageDetected("a snapshot holds no groups that are known here") from None

    @property
    def leads(self) -> bool:
        """Whether groups are coordinated here."""
        return self._log is not None and self._log.serving

    def leadership_changed(self) -> None:
        """Sends the parked away when another node coordinates now."""
        if not self.leads and self._parked:
            for ticket, parked in list(self._parked.items()):
                del self._parked[ticket]
                parked.event.set()
            self._begin()

    def _begin(self) -> None:
        """Members are known to one leader of one term only: the next begins with none."""
        self._groups = Groups(self._store, first_join_delay_ms=self._first_join_delay_ms)

    def _leading(self) -> Groups:
        """The groups, if they are coordinated here; raises RequestError."""
        log = self._log
        if log is None or not log.serving:
            raise RequestError(ErrorCode.NOT_COORDINATOR, "another node coordinates this group")
        if log.replica.term != self._term:
            self._term = log.replica.term
            self._begin()
        return self._groups

    # --- members ---

    async def join(self, join: Join) -> Joined:
        """Returns when the member is in a generation, or is not let in."""
        groups = self._leading()
        ticket, parked = self._park()
        groups.join(ticket, join, self._now_ms())
        result = await self._wait(join.group, ticket, parked)
        return result if isinstance(result, Joined) else Joined(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    async def sync(self, sync: Sync) -> Synced:
        """Returns when the member has its assignment, or will not get one."""
        groups = self._leading()
        ticket, parked = self._park()
        groups.sync(ticket, sync, self._now_ms())
        result = await self._wait(sync.group, ticket, parked)
        return result if isinstance(result, Synced) else Synced(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    def heartbeat(self, claim: Claim) -> ErrorCode:
        """Notes that a member lives."""
        error = self._leading().heartbeat(claim, self._now_ms())
        self._pump()
        return error

    def leave(
        self, group: GroupName, members: Sequence[tuple[MemberId, str | None]]
    ) -> list[ErrorCode]:
        """Takes members out; what became of each."""
        now_ms = self._now_ms()
        groups = self._leading()
        errors = [groups.leave(group, member, instance, now_ms) for member, instance in members]
        self._pump()
        return errors

    def new_member_id(self, prefix: str) -> MemberId:
        """An id that nobody has; `prefix` is for people who read it."""
        return MemberId(f"{prefix[:64]}-{self._foundation.new_id()}")

    # --- offsets ---

    def may_commit(self, claim: Claim) -> ErrorCode:
        """Whether these may be the group's offsets."""
        error = self._leading().may_commit(claim, self._now_ms())
        self._pump()
        return error

    async def commit(self, group: GroupName, offsets: tuple[StoredOffset, ...]) -> None:
        """Returns when the offsets are durable; raises RequestError."""
        self._leading()
        try:
            await self._commands().execute(CommitOffsets(group, offsets))
        except RequestError:
            raise RequestError(
                ErrorCode.COORDINATOR_NOT_AVAILABLE, "the offsets cannot be made durable"
            ) from None

    def offsets(self, group: GroupName) -> Mapping[Place, StoredOffset]:
        """The group's committed offsets."""
        self._leading()
        return self._store.offsets(group)

    def _commands(self) -> CommandLog[GroupCommand, bool]:
        if self._log is None:
            raise RequestError(ErrorCode.NOT_COORDINATOR, "another node coordinates this group")
        return self._log

    async def forget_topics(self, gone: Sequence[TopicId]) -> None:
        """Drops all groups' offsets of deleted topics; raises RequestError."""
        kept = self._store.topics()
        for topic in gone:
            if topic in kept and self.leads:
                await self._commands().execute(ForgetTopic(topic))

    def topics_with_offsets(self) -> frozenset[TopicId]:
        """Every topic of which some group has an offset."""
        return self._store.topics()

    # --- administration ---

    def group_names(self) -> tuple[GroupName, ...]:
        """Every group of which anything is known, sorted; none where another node coordinates."""
        return self._leading().names() if self.leads else ()

    def look_at(self, name: GroupName) -> tuple[GroupState, str, Group | None]:
        """A group's state, its protocol type, and the group itself if it has members."""
        return self._leading().look_at(name)

    def check_deletable(self, name: GroupName) -> None:
        """Raises RequestError: GROUP_ID_NOT_FOUND, or NON_EMPTY_GROUP for one with members."""
        state = self._leading().state_of(name)
        if state is GroupState.DEAD:
            raise RequestError(ErrorCode.GROUP_ID_NOT_FOUND, "there is no such group")
        if state is not GroupState.EMPTY:
            raise RequestError(ErrorCode.NON_EMPTY_GROUP, "the group has members")

    async def delete_group(self, name: GroupName) -> None:
        """Drops a group without members, and its offsets; raises RequestError."""
        self.check_deletable(name)
        await self._commands().execute(DropGroup(name))

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
            self._commands().submit(effect.command, committed)
        except RequestError as error:
            committed(error.code, None)

    # --- time ---

    def _now_ms(self) -> int:
        return self._foundation.monotonic_ms()

    async def keep_time(self) -> None:
        """Acts on deadlines until the coordinator is closed."""
        with self._timer:
            while True:
                nearest = self._groups.nearest_deadline_ms if self.leads else None
                self._sleeps_until_ms = inf if nearest is None else nearest
                left_s = inf if nearest is None else max(0, nearest - self._now_ms()) / 1000
                self._earlier = trio.Event()
                with trio.move_on_after(left_s):
                    await self._earlier.wait()
                if self.leads:
                    self._groups.tick(self._now_ms())
                self._pump()

    async def close(self) -> None:
        """Ends keeping time, sends the parked away, and closes the log."""
        self._timer.cancel()
        for ticket, parked in list(self._parked.items()):
            del self._parked[ticket]
            parked.event.set()
        if self._log is not None:
            await self._log.close()


def _unavailable(answer: Answer) -> Answer:
    failed = ErrorCode.COORDINATOR_NOT_AVAILABLE
    result = Joined(failed) if isinstance(answer.result, Joined) else Synced(failed)
    return Answer(answer.ticket, result)
