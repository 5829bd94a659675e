"""Every group of this node, moved together: time, messages, and who lives.

Rules (DESIGN section 7):

- One task gives time to all groups, and only to those that wait for something; a quiet group costs
  nothing. A tick that comes late lets what has arrived be read first and counts once.
- Nodes tell each other every 100 ms that they live, in one message whatever the number of groups.
  A node that was not heard for an election time-out, or whose connection broke, counts as silent:
  the groups that it led here begin to wait for its successor.
- Messages for a group that is not open here are dropped, and whoever opens groups is told.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

import trio

from appliance.broker import liveness, peer_codec
from appliance.broker.leaders import Leader, LeaderTable
from appliance.broker.liveness import Liveness, Row
from appliance.broker.outbox import Channel
from appliance.broker.peering import Peers
from appliance.broker.replica import Replica
from appliance.errors import ProtocolViolation
from appliance.limits import (
    LIVENESS_TICKS,
    MAX_EARLY_GROUPS,
    MAX_EARLY_MESSAGES,
    RAFT_ELECTION_TICKS,
    RAFT_TICK_MS,
)
from appliance.ports import ReplicationStanding
from appliance.raft.messages import Append, PeerMessage, SnapshotOffer
from appliance.raft.ready import Leadership, Role, Shrunk
from appliance.types import Entry, Index, NodeId, PartitionId, Term

TICK_S = RAFT_TICK_MS / 1000
LATE_TICKS = 2
"""For which messages that a dead node had sent may still come in, and prove nothing of its life."""
HEARD_WITHIN_S = 2.0
"""For every leader to be heard that there is, after a start: a few election time-outs."""
DRAIN_ROUNDS = 8
"""Turns of the event loop that a late tick leaves to what has arrived."""


class _Neighbour:
    """What is known of another node's life."""

    __slots__ = ("alive", "epoch", "heard_tick", "leads", "lost_tick", "sequence", "unsent")

    def __init__(self) -> None:
        self.alive = False
        self.epoch = 0
        self.heard_tick = 0
        self.leads: dict[PartitionId, Term] = {}
        """What it has said that it leads."""
        self.lost_tick = 0
        """When its connection broke; what was under way is taken in until `LATE_TICKS` later."""
        self.sequence = 0
        self.unsent: dict[PartitionId, None] | None = None
        """Groups whose leadership has changed since the last message; None: tell of all."""


class Consensus:
    """See `broker.hosting.Host`."""

    def __init__(self, peers: Peers) -> None:
        """No group and no neighbour yet."""
        self.leaders = LeaderTable()
        self.on_unknown: Callable[[PartitionId], None] = lambda _: None
        """Told of groups that others take this node for a member of."""
        self.on_leadership: Callable[[PartitionId], None] = lambda _: None
        """Told when a group here has another leader, or the same one begins to serve."""
        self.on_shrunk: Callable[[PartitionId, Shrunk], None] = lambda _group, _shrunk: None
        """Told when a member of a group that is led here holds less than it acknowledged."""
        self.on_damaged: Callable[[PartitionId, bool], None] = lambda _group, _distrusted: None
        """Told when a log here cannot be read, or, true, when a write or sync of it failed."""
        self._peers = peers
        self._node = peers.identity.node
        self._groups: dict[PartitionId, Replica[object]] = {}
        self._awake: dict[PartitionId, None] = {}
        self._followed: dict[NodeId, set[PartitionId]] = {}
        self._neighbours: dict[NodeId, _Neighbour] = {}
        self._openings: Counter[PartitionId] = Counter()
        """How often each group was opened in this life of the node."""
        self._early: dict[PartitionId, list[peer_codec.Item]] = {}
        """Messages for groups that are being opened."""
        self._leaderless: dict[PartitionId, int] = {}
        """Groups here whose leader is not known, and since which tick."""
        self._tick = 0
        self._removals = 0
        self._shrunk = self._damaged = 0
        """Alarms since the start."""
        self._stirred = trio.Event()
        peers.on_up = self._connected
        peers.on_down = self._broke

    # --- groups --------------------------------------------------------------------------------

    def add(self, replica: Replica[object]) -> None:
        """Gives a replica its time and its messages."""
        self._groups[replica.partition] = replica
        self.stirred(replica.partition)
        for item in self._early.pop(replica.partition, ()):
            replica.step(item.message, item.entries, item.offered)

    def count_opening(self, group: PartitionId) -> int:
        """How often a group was opened here before."""
        self._openings[group] += 1
        return self._openings[group] - 1

    def remove(self, group: PartitionId) -> None:
        """The replica is closed, or about to be."""
        if self._groups.pop(group, None) is None:
            return
        self._removals += 1
        self._awake.pop(group, None)
        self._leaderless.pop(group, None)
        for followed in self._followed.values():
            followed.discard(group)
        if self.leaders.of(group).node == self._node:
            self.leaders.lost(group, self._node, self.leaders.of(group).term)
            self._announce(group)

    def replica(self, group: PartitionId) -> Replica[object] | None:
        """The replica of a group that is open here."""
        return self._groups.get(group)

    def replicas(self) -> Iterable[Replica[object]]:
        """All that are open here."""
        return tuple(self._groups.values())

    async def caught_up(self) -> None:
        """Returns once each replica here has applied what its group had decided when it was heard.

        One whose leader is not heard is waited for only for a while: there may be none.
        """
        heard_by = trio.current_time() + HEARD_WITHIN_S
        wanted: dict[PartitionId, Index] = {}
        while True:
            patient = trio.current_time() < heard_by
            lagging = [each for each in self.replicas() if _lags(each, wanted, patient=patient)]
            if not lagging:
                return
            await trio.sleep(TICK_S)

    def alive(self, node: NodeId) -> bool:
        """Whether a node was heard lately; this one always is."""
        known = self._neighbours.get(node)
        return node == self._node or (known is not None and known.alive)

    def silence_s(self, node: NodeId) -> float:
        """How long a node has not been heard."""
        if node == self._node:
            return 0.0
        known = self._neighbours.get(node)
        if known is None or not known.heard_tick:
            return float("inf")
        return (self._tick - known.heard_tick) * TICK_S

    def leaderless_s(self, group: PartitionId) -> float:
        """How long a group of this node has had no leader but perhaps this node, since it served.

        For ever if it never had one here.
        """
        since = self._leaderless.get(group)
        if since is None or not self.leaders.of(group).term:
            return float("inf")
        return (self._tick - since) * TICK_S

    def standing(self) -> ReplicationStanding:
        """How the replicas of this node stand."""
        led = [replica for replica in self._groups.values() if replica.serving]
        return ReplicationStanding(
            held=len(self._groups),
            led=len(led),
            under_replicated=sum(
                not all(map(self.alive, each.configuration.voters)) for each in led
            ),
            leaderless=sum(self.leaders.of(group).node is None for group in self._groups),
            shrunk=self._shrunk,
            damaged=self._damaged,
        )

    # --- `Host` --------------------------------------------------------------------------------

    @property
    def incarnation(self) -> int:
        """See `Host.incarnation`; a log that is removed and made anew has another."""
        return self._peers.identity.epoch + self._removals

    def send(self, group: PartitionId, message: PeerMessage, entries: Sequence[Entry]) -> None:
        """See `Host.send`."""
        offered = None
        if isinstance(message, SnapshotOffer):
            replica = self._groups.get(group)
            offered = replica.beginning.offered(message.position) if replica is not None else None
            if offered is None:
                return
        # An append without entries stays behind those that it follows on: where it overtook them it
        # would be refused, and all of them would be sent again.
        bulk = isinstance(message, Append | SnapshotOffer)
        outbox = self._peers.outbox(message.to, Channel.BULK if bulk else Channel.CONTROL)
        if outbox is not None and outbox.open:
            outbox.put(peer_codec.encode(group, message, entries, offered))

    def led(self, group: PartitionId, leadership: Leadership) -> None:
        """See `Host.led`."""
        for followed in self._followed.values():
            followed.discard(group)
        leader, term = leadership.leader, leadership.term
        before = self.leaders.of(group)
        if leader is None and before.node == self._node:
            self._leaderless[group] = self._tick
        elif leader is None:
            self._leaderless.setdefault(group, self._tick)
        elif leader != self._node:
            self._leaderless.pop(group, None)
        if leader is not None:
            self.leaders.learn(group, Leader(leader, term))
        elif before.node is not None and term >= before.term:
            self.leaders.lost(group, before.node, before.term)
        if leader is not None and leader != self._node:
            self._followed.setdefault(leader, set()).add(group)
        if self._node in {leader, before.node}:
            self._announce(group)
        self.stirred(group)
        self.on_leadership(group)

    def stirred(self, group: PartitionId) -> None:
        """See `Host.stirred`."""
        if group not in self._awake and group in self._groups:
            self._awake[group] = None
            self._stirred.set()

    def shrunk(self, group: PartitionId, shrunk: Shrunk) -> None:
        """See `Host.shrunk`."""
        self._shrunk += 1
        self.on_shrunk(group, shrunk)

    def damaged(self, group: PartitionId, *, distrusted: bool) -> None:
        """See `Host.damaged`."""
        self._damaged += 1
        self.on_damaged(group, distrusted)

    # --- messages ------------------------------------------------------------------------------

    def receive(self, sender: NodeId, delivery: memoryview) -> None:
        """Takes what another node has sent; raises ProtocolViolation."""
        for item in peer_codec.split(delivery):
            if isinstance(item, memoryview):
                self._hear(sender, liveness.decode(item))
                continue
            message = item.message
            if message.sender != sender or message.to != self._node:
                raise ProtocolViolation("a message that is not from this node, or not to this one")
            replica = self._groups.get(item.group)
            if replica is None:
                self._keep_early(item)
                continue
            self.stirred(item.group)
            replica.step(message, item.entries, item.offered)

    def _keep_early(self, item: peer_codec.Item) -> None:
        """Keeps the first messages of a group that is opened because of them."""
        early = self._early.get(item.group)
        if early is None:
            if len(self._early) >= MAX_EARLY_GROUPS:
                self._early.pop(next(iter(self._early)))
            early = self._early[item.group] = []
        if len(early) < MAX_EARLY_MESSAGES:
            early.append(item)
        self.on_unknown(item.group)

    def _hear(self, node: NodeId, said: Liveness) -> None:
        neighbour = self._neighbours.setdefault(node, _Neighbour())
        if said.epoch == neighbour.epoch and self._is_late(neighbour) and not said.full:
            return
        if neighbour.epoch != said.epoch:
            self._orphan(node)
        if said.full:
            neighbour.leads.clear()
        returned = not neighbour.alive or said.full
        neighbour.epoch = said.epoch
        neighbour.heard_tick = max(self._tick, 1)
        neighbour.alive = True
        for row in said.rows():
            if row.leads:
                neighbour.leads[row.group] = row.term
                self._follow(node, row.group, row.term)
            else:
                neighbour.leads.pop(row.group, None)
                self.leaders.lost(row.group, node, row.term)
                self.stirred(row.group)
        if said.full:
            self._orphan(node, but=neighbour.leads)
        if returned:
            for group, term in neighbour.leads.items():
                self._follow(node, group, term)
        for group in tuple(self._groups) if returned else tuple(self._awake):
            self._reassure(node, group, returned=returned)

    def _follow(self, node: NodeId, group: PartitionId, term: Term) -> None:
        self.leaders.learn(group, Leader(node, term))
        replica = self._groups.get(group)
        if replica is not None:
            replica.heard(node, term)

    def _reassure(self, node: NodeId, group: PartitionId, *, returned: bool) -> None:
        """Tells one group that a node lives, if that concerns it."""
        replica = self._groups[group]
        leader = self.leaders.of(group)
        if leader.node == node:
            if self._says_so(leader, group):
                replica.heard(node, leader.term)
        elif replica.role is Role.LEADER and node in replica.configuration.members:
            replica.reached(node)
            if returned:
                self.stirred(group)

    # --- silence -------------------------------------------------------------------------------

    def _connected(self, node: NodeId) -> None:
        neighbour = self._neighbours.setdefault(node, _Neighbour())
        neighbour.unsent = None
        neighbour.lost_tick = 0
        self._stirred.set()
        self._say(node)

    def _broke(self, node: NodeId) -> None:
        """The connection to a node broke: most likely its process ended (DESIGN section 7)."""
        neighbour = self._neighbours.get(node)
        if neighbour is not None:
            neighbour.lost_tick = max(self._tick, 1)
        self._silent(node)

    def _is_late(self, neighbour: _Neighbour) -> bool:
        return neighbour.lost_tick > 0 and self._tick - neighbour.lost_tick <= LATE_TICKS

    def _silent(self, node: NodeId) -> None:
        """A node is taken for dead: its groups choose another leader, without waiting."""
        neighbour = self._neighbours.get(node)
        if neighbour is None or not neighbour.alive:
            return
        neighbour.alive = False
        self._peers.on_silent(node)
        outbox = self._peers.outbox(node, Channel.BULK)
        if outbox is not None:
            outbox.clear()  # consensus sends it all again: two copies would crowd out each other
        self._orphan(node)
        for group, replica in tuple(self._groups.items()):
            if replica.role is Role.LEADER and node in replica.configuration.members:
                replica.silent(node)
                self.stirred(group)

    def _orphan(self, node: NodeId, but: Collection[PartitionId] = ()) -> None:
        """The groups that a node led here have no leader now, `but` for those."""
        followed = self._followed.pop(node, set())
        kept = followed.intersection(but)
        if kept:
            self._followed[node] = kept
        for group in tuple(followed - kept):
            leader = self.leaders.of(group)
            if leader.node == node:
                self.leaders.lost(group, node, leader.term)
            self.stirred(group)
            replica = self._groups.get(group)
            if replica is not None:
                replica.lost(node)

    # --- time ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Gives time to the groups and says that this node lives, until cancelled."""
        due = trio.current_time() + TICK_S
        while True:
            if not self._awake and not self._peers.nodes:
                self._stirred = trio.Event()
                await self._stirred.wait()  # a node alone at rest has no time to give
                due = trio.current_time() + TICK_S
            await trio.sleep_until(due)
            now = trio.current_time()
            if now - due > TICK_S:
                for _ in range(DRAIN_ROUNDS):
                    await trio.lowlevel.checkpoint()
                due = trio.current_time()
            due += TICK_S
            self._pass_time()

    def _pass_time(self) -> None:
        self._tick += 1
        for group in tuple(self._awake):
            replica = self._groups.get(group)
            if replica is None or self._rests(group, replica):
                self._awake.pop(group, None)
            else:
                replica.tick()
        if self._tick % LIVENESS_TICKS == 0:
            for node in self._peers.nodes:
                self._say(node)
        for node, neighbour in self._neighbours.items():
            if self._is_late(neighbour):
                self._orphan(node)  # entries that it had sent named it as their leader again
            if neighbour.alive and self._tick - neighbour.heard_tick > RAFT_ELECTION_TICKS:
                self._silent(node)

    def _rests(self, group: PartitionId, replica: Replica[object]) -> bool:
        """Whether nothing here waits for time: the life of nodes stands for heartbeats."""
        if not replica.idle:
            return False
        leader = self.leaders.of(group)
        if leader.node is None or leader.term != replica.term:
            return False
        return self.alive(leader.node) and self._says_so(leader, group)

    def _says_so(self, leader: Leader, group: PartitionId) -> bool:
        """Whether whoever is taken for a leader has said last that it is.

        Entries that came late may name one that has stepped down since, and lives on.
        """
        if leader.node is None or leader.node == self._node:
            return leader.node is not None
        neighbour = self._neighbours.get(leader.node)
        return neighbour is not None and neighbour.leads.get(group) == leader.term

    # --- saying that this node lives -----------------------------------------------------------

    def _announce(self, group: PartitionId) -> None:
        for neighbour in self._neighbours.values():
            if neighbour.unsent is not None:
                neighbour.unsent[group] = None

    def _say(self, node: NodeId) -> None:
        outbox = self._peers.outbox(node, Channel.CONTROL)
        if outbox is not None and outbox.open:
            neighbour = self._neighbours.setdefault(node, _Neighbour())
            outbox.put_liveness(lambda: self._liveness(neighbour))

    def _liveness(self, neighbour: _Neighbour) -> bytes:
        full = neighbour.unsent is None
        groups = self._groups if neighbour.unsent is None else neighbour.unsent
        rows = [self._row(group) for group in groups]
        if full:
            rows = [row for row in rows if row.leads]
        neighbour.unsent = {}
        neighbour.sequence += 1
        body = liveness.encode(self._peers.identity.epoch, neighbour.sequence, rows, full=full)
        return peer_codec.encode_liveness(body)

    def _row(self, group: PartitionId) -> Row:
        replica = self._groups.get(group)
        if replica is None:
            return Row(group, self.leaders.of(group).term, leads=False)
        return Row(group, Term(replica.term), leads=replica.role is Role.LEADER)


def _lags(replica: Replica[object], wanted: dict[PartitionId, Index], *, patient: bool) -> bool:
    """Whether a replica is yet to come to where it is wanted; notes that as its leader is heard."""
    if replica.closed or replica.failed or replica.role is Role.LEADER:
        return False
    if not replica.told_commit:
        return patient
    return replica.applied < wanted.setdefault(replica.partition, replica.told_commit)
