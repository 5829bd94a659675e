"""One node's replica of one group: consensus decides, this carries it out over one sealed log.

The way of an entry: `propose` gives it index, term, offsets and leader time; at the writer's next
turn everything that was proposed is carried out together: it goes to the followers while it is made
durable here; consensus says what a quorum holds; decided entries are applied in order, and each
one's callback runs right after its own apply. A follower's way is the same without the proposal:
entries come in messages.

Rules: nothing is applied or visible before it is committed. What was proposed is carried out before
consensus learns anything that could end the leadership it was proposed under. A leader serves once
the no-op that began its term is applied: it knows then all that was ever acknowledged (DESIGN
section 4). A log that cannot keep its promise ends this replica's leadership for good: everyone who
waits is told KAFKA_STORAGE_ERROR, whoever proposes later too, and readers keep what was committed.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar, cast

import trio

from appliance.broker.applying import Applying, Machine, OnCommitted
from appliance.broker.beginning import Beginning
from appliance.broker.confirming import Confirmations
from appliance.broker.growth import Readers
from appliance.broker.hosting import Environment
from appliance.broker.log_writer import LogWriter, Reports
from appliance.broker.peer_codec import encode_configuration
from appliance.broker.placing import Placing
from appliance.broker.room import Room
from appliance.broker.snapshots import GroupSnapshot, Offered
from appliance.broker.supply import Supply
from appliance.broker.tail import EntryTail
from appliance.broker.withheld import Withheld
from appliance.errors import DamageDetected, ErrorCode, RequestError, StorageError
from appliance.limits import (
    RAFT_ELECTION_TICKS,
    RAFT_TICK_MS,
    TAIL_BYTES,
)
from appliance.ports import HardState, PartitionLog
from appliance.raft.configuration import Configuration
from appliance.raft.core import Core
from appliance.raft.messages import Append, Heartbeat, PeerMessage, Run
from appliance.raft.ready import Leadership, Ready, Recovered, Refused, Role
from appliance.types import (
    Buffer,
    Entry,
    EntryHeader,
    EntryKind,
    Index,
    NodeId,
    Offset,
    PartitionId,
    Position,
    Term,
)

R = TypeVar("R")

HANDOVER_WAIT_S = RAFT_ELECTION_TICKS * RAFT_TICK_MS / 1000
"""For whoever is to take over: as long as consensus waits for it."""

_NOT_HERE = "this node does not lead"


class Replica(Generic[R]):
    """One node's replica of one group."""

    def __init__(
        self,
        partition: PartitionId,
        log: PartitionLog,
        machine: Machine[R],
        recovered: Recovered,
        environment: Environment,
        *,
        snapshot: GroupSnapshot | None = None,
    ) -> None:
        """Takes an open log and what was recovered of it, its snapshot among it."""
        storage, nursery, host = environment.storage, environment.nursery, environment.host
        self.partition = partition
        self.serving = False
        """Whether this replica leads and has applied all that was decided before its term."""
        self._log = log
        self._host = host
        self._storage = storage
        self._nursery = nursery
        self._node = storage.node
        self._core = Core(
            node=storage.node,
            recovered=recovered,
            entropy=environment.entropy,
            incarnation=host.incarnation + environment.opened,
        )
        self._configuration = recovered.configurations[-1].configuration
        self._tail = EntryTail()
        self._pace = environment.pace
        self._placing = Placing(environment.clock, log.end_offset)
        self._applying: Applying[R] = Applying(
            log, self._tail, machine, self._placing, nursery,
            on_applied=self._on_applied, snapshot=snapshot,
        )  # fmt: skip
        self.room = Room(lambda: self._applying.waiting_bytes)
        """For more proposals."""
        self.beginning = Beginning(
            partition, log, self._core, cast(Applying[object], self._applying), self.start_soon
        )
        """Where the log begins, and what is kept of its state."""
        self._writer = LogWriter(
            partition, log, storage, nursery,
            Reports(
                self._pump,
                self._on_saved,
                self._on_durable,
                self._on_reset,
                self._on_full,
                self._on_failed,
                self.room.changed,
            ),
        )  # fmt: skip
        self._supply = Supply(
            storage.node, log, self._tail, nursery,
            damaged=self.report_damage,
            send=lambda message, entries: host.send(partition, message, entries),
            still_leads=self._core.sends_for,
            held_back=self._hold_back,
        )  # fmt: skip
        self.withheld = Withheld(
            self._core, environment.clock.monotonic, lambda: host.stirred(partition)
        )
        """Acknowledgements that wait for more replicas than a majority."""
        self.told_commit = Index(0)
        """How far a leader has said that the group has come; 0 before it was heard."""
        self._term_began = Index(0)
        self._decided = trio.Event()
        self.leaving = False
        """Whether leadership is being handed over, and proposals wait for whoever takes over."""
        self._left = False
        """Whether it was handed over, to a leader that holds all that was proposed here."""
        self._failed = False
        self._short = recovered.known_last is not None
        self._closed = False
        self._confirmations = Confirmations(self._core)
        self._remember_peers()

    # --- what others see -----------------------------------------------------------------------

    @property
    def term(self) -> Term:
        """The current term: the leader epoch that clients see."""
        return self._core.term

    @property
    def role(self) -> Role:
        """This member's part in its term."""
        return self._core.role

    @property
    def leader(self) -> NodeId | None:
        """Who leads the term, as far as this member knows."""
        return self._core.leader

    @property
    def closed(self) -> bool:
        """Whether it takes part no more."""
        return self._closed

    @property
    def idle(self) -> bool:
        """Whether nothing waits for time to pass while the nodes that matter are heard."""
        return self._core.idle

    @property
    def applied(self) -> Index:
        """The last entry whose effect can be seen here."""
        return self._applying.applied

    @property
    def included(self) -> Index:
        """The last entry that is in the state here: a snapshot's may be beyond what is applied."""
        return self._applying.included

    @property
    def configuration(self) -> Configuration:
        """The members of the group, as the log here has them."""
        return self._configuration

    @property
    def log(self) -> PartitionLog:
        """The log, for reading below the high watermark."""
        return self._log

    @property
    def readers(self) -> Readers:
        """Those who wait for this replica's data to grow."""
        return self._applying.readers

    @property
    def high_watermark(self) -> Offset:
        """The offset after the last committed batch; nothing at or above it is shown."""
        return self._applying.high_watermark

    @property
    def failed(self) -> bool:
        """Whether the log broke: it leads no more."""
        return self._failed

    @property
    def core(self) -> Core:
        """For status, and for what the cluster's operator asks of a group."""
        return self._core

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Runs a task of whoever this replica serves, as long as its node lives."""
        self._nursery.start_soon(task)

    # --- time and messages ---------------------------------------------------------------------

    def step(
        self, message: PeerMessage, entries: Sequence[Entry] = (), offered: Offered | None = None
    ) -> None:
        """Takes a message of another member, with the entries or the snapshot that it carries."""
        if not self._closed:
            if isinstance(message, Append | Heartbeat) and message.commit > self.told_commit:
                self.told_commit = message.commit
            self._writer.take_turn()
            self._core.step(message)
            self._pump(entries, offered)
            self.withheld.heard()

    def tick(self, ticks: int = 1) -> None:
        """Lets the core's time pass."""
        if not self._closed:
            self._writer.take_turn()
            self._core.tick(ticks)
            self._pump()
            self.withheld.heard()
            if self.leaving and not self._core.handing_over:
                self.leaving = False  # the other did not take over: this one goes on
                self._tell_deciders()

    def heard(self, leader: NodeId, term: Term) -> None:
        """The node of this group's leader lives and says that it leads this term."""
        if not self._closed:
            self._writer.take_turn()
            self._core.heard(leader, term)
            self._pump()

    def reached(self, node: NodeId) -> None:
        """A member's node was heard from."""
        self._core.reached(node)

    def lost(self, leader: NodeId) -> None:
        """The leader's node is gone: the other voters campaign one after the other.

        Who is first differs from group to group, so that no node takes over everything.
        """
        if self._closed:
            return
        order = sorted(self._configuration.voters - {leader})
        if self._node in order:
            turn = (order.index(self._node) - self.partition.int) % len(order)
            self._core.lost(leader, turn)
            self._pump()

    def silent(self, node: NodeId) -> None:
        """Nothing reaches a member's node."""
        self._core.report_unreachable(node)
        self.withheld.lost(node)

    def campaign(self) -> None:
        """Stands for election at once."""
        if not self._closed and self._core.role is not Role.LEADER:
            self._core.campaign()
            self._pump()

    def change(self, voters: frozenset[NodeId], learners: frozenset[NodeId]) -> None:
        """Takes the next step towards these members; raises `raft.ready.Refused`."""
        self._core.propose_configuration(voters, learners)
        self._host.stirred(self.partition)
        self._pump()

    def hand_over(self, to: NodeId) -> None:
        """Begins to hand leadership to another voter; raises `raft.ready.Refused`."""
        self._core.transfer_leadership(to)
        self.leaving = True
        self._host.stirred(self.partition)
        self._pump()

    async def handed_over(self) -> None:
        """Returns when whoever is to take over has, or is given up."""
        with trio.move_on_after(HANDOVER_WAIT_S):
            while self.leaving:
                await self._decided.wait()

    # --- leading -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Lets a single voter lead at once, and waits for it; others wait for their leader.

        So does a log that was cut: what is missing may have named others.

        Raises StorageError or KeyProviderError when the log cannot be read or written.
        """
        alone = self._configuration.voters == {self._node} and not self._configuration.joint
        if alone and not self._short:
            self.campaign()
            await self.wait_serving()

    async def wait_serving(self) -> None:
        """Returns when this replica leads and serves.

        Raises RequestError when another member leads, StorageError when the log has failed.
        """
        while not self.serving:
            if self._failed:
                raise self._applying.failure or StorageError("the group's log has failed")
            if self._closed:
                raise RequestError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the node is stopping")
            if self._core.role is Role.FOLLOWER and self._core.leader not in {None, self._node}:
                raise RequestError(ErrorCode.NOT_LEADER_OR_FOLLOWER, _NOT_HERE)
            await self._decided.wait()

    def check_leading(self) -> None:
        """Raises RequestError when this replica takes no proposals."""
        if self._failed:
            raise RequestError(ErrorCode.KAFKA_STORAGE_ERROR, "the partition's log has failed")
        if self._writer.full:
            raise RequestError(ErrorCode.KAFKA_STORAGE_ERROR, "no space is left on the disk")
        if self._closed or not self.serving:
            raise RequestError(ErrorCode.NOT_LEADER_OR_FOLLOWER, _NOT_HERE)

    async def confirm(self) -> None:
        """Returns once a quorum has said that this replica leads now; raises RequestError."""
        self.check_leading()
        number = self._confirmations.ask()
        self._host.stirred(self.partition)
        self._pump()
        await self._confirmations.wait(number)

    def propose(
        self,
        kind: EntryKind,
        payload: Buffer,
        last_offset_delta: int,
        on_committed: OnCommitted[R],
    ) -> EntryHeader:
        """Gives an entry its place and has it made durable; returns at once.

        It is carried out at the writer's next turn, with all that is proposed until then.
        `on_committed` is called later, on the event loop, and must not raise. Raises RequestError
        without having taken the entry.
        """
        if not self.serving or self._writer.full:
            self.check_leading()
        size = len(payload)
        try:
            position = self._core.propose(kind, size)
        except Refused:
            raise RequestError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER, "leadership is being handed over"
            ) from None
        header = self._placing.header(kind, position, last_offset_delta, size)
        self._tail.append(Entry(header, payload))
        self._applying.expect(header, on_committed)
        self._writer.ask_for_turn()
        return header

    # --- carrying out --------------------------------------------------------------------------

    def _pump(self, incoming: Sequence[Entry] = (), offered: Offered | None = None) -> None:
        """Carries out what consensus has come to; `raft.ready` gives the order."""
        ready = self._core.ready()
        if ready.leadership is not None:
            self._lead_or_follow(ready.leadership)
        if ready.configuration is not None:
            self._configuration = ready.configuration.configuration
            self._remember_peers()
        for message in ready.messages:
            self._host.send(self.partition, message, ())
        for shrunk in ready.shrunk:
            self._host.shrunk(self.partition, shrunk)
        if ready.reads or ready.reads_lost:
            self._confirmations.settle(ready.reads, ready.reads_lost)
        try:
            self._store(ready, incoming)
            if ready.install is not None and offered is not None:
                self._writer.reset(ready.install.position, offered)
        except StorageError:
            self._on_failed()
            return
        for order in ready.sends:
            self._supply.supply(order)
        self._applying.decide(min(ready.commit, self._core.durable))

    def _store(self, ready: Ready, incoming: Sequence[Entry]) -> None:
        if ready.hard_state is not None:
            self._writer.save(ready.hard_state)
        if ready.truncate_after is not None:
            self._take_back(ready.truncate_after)
        if ready.entries:
            fresh: list[Entry] = []
            for run in ready.entries:
                proposed = self._tail.get(run.first)
                if proposed is not None:
                    fresh.append(proposed)
                else:
                    fresh += self._kept(self._entries_of(run, incoming))
            self._writer.append(fresh)

    def _kept(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        for entry in entries:
            self._tail.append(entry)
        return entries

    def _entries_of(self, run: Run, incoming: Sequence[Entry]) -> Sequence[Entry]:
        """The entries of a run: those that a message brought, or those that a leader makes."""
        if incoming and run.first >= incoming[0].header.index:
            at = run.first - incoming[0].header.index
            entries = incoming[at : at + len(run.sizes)]
            if len(entries) == len(run.sizes) and entries[0].header.term == run.term:
                self._placing.follow(entries[-1].header)
                return entries
        payload = b"" if run.configuration is None else encode_configuration(run.configuration)
        if run.kind is EntryKind.NO_OP:
            self._term_began = run.first
        header = self._placing.header(run.kind, run.position, -1, len(payload))
        return (Entry(header, payload),)

    def _take_back(self, last_kept: Index) -> None:
        self._writer.truncate(last_kept)
        first_void = self._tail.get(Index(last_kept + 1))
        if first_void is not None:
            self._placing.end_offset = first_void.header.base_offset
        self._tail.truncate(last_kept)

    def _lead_or_follow(self, leadership: Leadership) -> None:
        self.serving = False
        self._term_began = Index(0)
        self.withheld.end(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if leadership.role is Role.LEADER:
            # Whatever came before the vote has been staged: a vote is saved after it.
            self._placing.end_offset = self._log.end_offset
        else:
            self.readers.end()
        if self._applying.waiting_bytes and not self._passes_on(leadership):
            self._renounce()
        self._left, self.leaving = self.leaving, False
        self._host.led(self.partition, leadership)
        self._tell_deciders()

    def _passes_on(self, leadership: Leadership) -> bool:
        """Whether what waits here is with the next leader, and will most likely be decided by it.

        An entry is its term and index: who proposed it may say that it is written as soon as it is
        applied here, whoever leads by then. So nothing that was under way fails for a handover.
        """
        if leadership.role is not Role.FOLLOWER:
            return False
        if self.leaving:
            self._nursery.start_soon(self._renounce_late, leadership.term)
            return True
        return self._left and leadership.leader not in {None, self._node}

    async def _renounce_late(self, term: Term) -> None:
        """Ends the wait for what the next leader has not decided within a time-out."""
        await trio.sleep(HANDOVER_WAIT_S)
        if self._applying.waiting_bytes and self.term >= term and not self.serving:
            self._renounce()

    def _renounce(self) -> None:
        self._applying.renounce(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self.room.changed()

    async def _hold_back(self, node: NodeId, size: int) -> None:
        """Waits where a member is yet to come: its log must not crowd out clients."""
        if node in self._configuration.learners:
            await self._pace.take(size)

    def _remember_peers(self) -> None:
        alone = self._configuration.members <= {self._node}
        self._tail.kept_bytes = 0 if alone else TAIL_BYTES

    # --- reports of the log --------------------------------------------------------------------

    def _on_saved(self, state: HardState) -> None:
        self._core.advance(saved=state)
        self._pump()

    def _on_durable(self, index: Index) -> None:
        term = self._log.term_at(index)
        if term is not None:
            self._core.advance(persisted=Position(term, index))
            self._pump()
        if self._short and not self._core.damaged:
            self._short = False
            self._nursery.start_soon(self._note_whole)
        self.room.changed()

    async def _note_whole(self) -> None:
        """The log holds again what it held before it was damaged."""
        with suppress(StorageError):  # it is as short as before for whoever starts next, no more
            await self._storage.save_known_last(self.partition, None)

    def report_damage(self) -> None:
        """Somebody could not read this log."""
        self._host.damaged(self.partition, distrusted=False)

    def _on_reset(self, position: Position, offered: Offered) -> None:
        """The log is empty behind a position now; the leader sends what follows."""
        self._tail.clear()
        self._placing.end_offset = offered.offset
        try:
            self._applying.restart(position.index, offered)
        except StorageError:  # a state that this release does not know
            self._on_failed()
            return
        self._core.advance(snapshot=position)
        self._pump()

    def _on_applied(self, index: Index) -> None:
        if self._applying.failure is not None:
            self._on_failed()
            return
        if not self.serving and index >= self._term_began > 0:
            self.serving = self._core.role is Role.LEADER and not self._closed
            self._tell_deciders()
        self._core.advance(applied=index)
        self._tail.release(min(index, self._core.durable))
        self.room.changed()
        self.beginning.grown()

    def _on_full(self) -> None:
        """There is no space: who waits is told so, and what they gave may yet become durable.

        That is as after a lost reply; a producer that is idempotent finds out by trying again.
        """
        self._applying.dismiss(ErrorCode.KAFKA_STORAGE_ERROR)
        self.room.changed()

    def _on_failed(self) -> None:
        if self._failed:
            return
        self._failed = True
        self.serving = False
        self._writer.end()
        self._core.resign()
        self._confirmations.end()
        self._applying.renounce(ErrorCode.KAFKA_STORAGE_ERROR)
        self.withheld.end(ErrorCode.KAFKA_STORAGE_ERROR)
        self._host.led(self.partition, Leadership(Role.FOLLOWER, self._core.term, None))
        self._tell_deciders()
        self.room.changed()
        unreadable = isinstance(self._applying.failure, DamageDetected)
        self._host.damaged(self.partition, distrusted=not unreadable)

    def _tell_deciders(self) -> None:
        self._decided.set()
        self._decided = trio.Event()

    async def close(self) -> None:
        """Takes no more proposals, lets those under way become durable, and closes the log.

        Raises StorageError when the log could not be closed cleanly.
        """
        self._closed = True
        self._writer.closing = True
        self.serving = False
        self.readers.end()
        self._confirmations.end()
        self._tell_deciders()
        await self.room.wait_until(lambda: not self._writer.busy)
        self._applying.renounce(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self.withheld.end(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self._tail.clear()
        if not self._failed:
            await self.beginning.keep_last()
            await self._log.close()
