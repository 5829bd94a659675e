"""The catalogue as this node serves it: commands in, applied state out.

It is the `PolicySource` and the `TopicResolver` of the gate. Rules: what is read here is committed;
text of a policy is checked before it is proposed. Commands are executed by the catalogue's leader:
this node sends its own there when another one leads, and waits until their effect shows here.
"""

from collections.abc import Callable, Collection
from math import inf

import msgspec
import structlog
import trio

from appliance.broker.commands import CommandLog, Keeping
from appliance.broker.foundation import CATALOGUE_LOG, Foundation
from appliance.broker.leaders import Leader
from appliance.coordination.catalog import Catalog, KeptCatalog
from appliance.coordination.catalog_changes import changes
from appliance.coordination.cluster_commands import (
    CLUSTER_LEVEL,
    CUT_LEVEL,
    QUOTA_LEVEL,
    AnnounceNode,
    ClusterCommand,
    NodesChanged,
    NodeState,
    PlacePartitions,
    PlaceTopic,
    Reassigned,
    ReplicasMoved,
    SetFeatureLevel,
)
from appliance.coordination.commands import (
    AllocateProducerIds,
    CatalogCommand,
    CommandRefused,
    CreateTopic,
    DeleteTopic,
    Endpoint,
    Outcome,
    PolicySet,
    ProducerIds,
    RegisterNode,
    SetPolicy,
    Topic,
    TopicCreated,
    TopicDeleted,
)
from appliance.coordination.credentials import CredentialChanged, CredentialCommand, SetScram
from appliance.coordination.key_commands import (
    AssignKeyDomain,
    ConfirmShred,
    KeyCommand,
    KeysChanged,
    TopicKeys,
    TopicShredded,
)
from appliance.coordination.key_domains import KeyOutcome
from appliance.coordination.membership import MembershipOutcome
from appliance.coordination.quotas import QuotasSet, SetQuotas
from appliance.coordination.topic_changes import (
    AddPartitions,
    AlterTopic,
    TopicChange,
    TopicChanged,
)
from appliance.errors import DamageDetected, ErrorCode, RequestError
from appliance.limits import DECOY_SECRET_BYTES, MAX_CATALOGUE_WAIT_S, PRODUCER_ID_BLOCK
from appliance.raft.configuration import Configuration
from appliance.types import (
    Index,
    NodeId,
    PartitionId,
    PartitionIndex,
    Position,
    ProducerId,
    Term,
    TopicId,
    TopicName,
)
from appliance.wire.requests import NamedPartitions
from appliance.wire.requests.peer import Enact, Enacted

log = structlog.get_logger()

AnyCommand = (
    CatalogCommand | CredentialCommand | KeyCommand | TopicChange | ClusterCommand | SetQuotas
)
AnyOutcome = Outcome | CredentialChanged | KeyOutcome | TopicChanged | MembershipOutcome | QuotasSet

_DECODER: msgspec.msgpack.Decoder[AnyCommand] = msgspec.msgpack.Decoder(AnyCommand)
_ENCODER = msgspec.msgpack.Encoder()
_KEPT = msgspec.msgpack.Decoder(KeptCatalog)
_KEEPER = msgspec.msgpack.Encoder(uuid_format="bytes")
_REFUSED = CommandRefused(ErrorCode.CLUSTER_AUTHORIZATION_FAILED, "not a node's own command")


NOTHING = Position(Term(0), Index(0))
POLL_S = 0.1


class EnactedOutcome(msgspec.Struct, frozen=True):
    """What a node needs to know of its own command: what it was given, or why nothing was done."""

    ids: ProducerIds | None = None
    refused: CommandRefused | None = None


_OUTCOMES = msgspec.msgpack.Decoder(EnactedOutcome)


class Catalogue:
    """One node's view of the catalogue, and the way to change it."""

    def __init__(self, foundation: Foundation) -> None:
        """Empty until `open` replays the log."""
        self.state = Catalog()
        self.dropped: list[PartitionId] = []
        """Logs of deleted topics, to be removed from storage by whoever takes them from here."""
        self.on_deleted: Callable[[Topic], None] = lambda _: None
        """Called as a deletion is applied, so that nobody writes to a topic that is gone."""
        self.on_created: Callable[[Topic], None] = lambda _: None
        """Called as a creation is applied."""
        self.on_changed: Callable[[Topic], None] = lambda _: None
        """Called as a change of a topic is applied, with the topic as it is now."""
        self.on_topic_gone: Callable[[TopicId], None] = lambda _: None
        """Called after that, for what is kept of it elsewhere."""
        self.on_keys: Callable[[TopicId], None] = lambda _: None
        """Called as a step about a topic's keys is applied."""
        self.on_shredded: Callable[[TopicShredded], None] = lambda _: None
        """Called as the last step of a shredding is applied."""
        self.on_placed: Callable[[PartitionId], None] = lambda _: None
        """Called as another assignment of a group is applied."""
        self.on_nodes: Callable[[], None] = lambda: None
        """Called as nodes come, go or move."""
        self._foundation = foundation
        self._node = foundation.node
        self._log: CommandLog[AnyCommand, AnyOutcome] | None = None
        self._names: tuple[TopicName, ...] | None = None
        self._ids = ProducerIds(ProducerId(0), 0)
        self._allocating = trio.Lock()
        self._grown = trio.Event()
        self._led_by: NodeId | None = None

    async def open(self, genesis: Configuration) -> None:
        """Opens, or makes, the catalogue's log. Raises StorageError, KeyProviderError."""
        self._log = await CommandLog.open(
            self._foundation,
            CATALOGUE_LOG,
            decoder=_DECODER,
            apply=self._apply,
            genesis=genesis,
            keeping=Keeping(
                self._snapshot,
                self._restore,
                lambda: self.state.membership.level >= CUT_LEVEL,
            ),
        )

    @property
    def log(self) -> CommandLog[AnyCommand, AnyOutcome]:
        """The replicated log; raises RequestError while it is not open."""
        if self._log is None:
            raise RequestError(ErrorCode.NOT_CONTROLLER, "the catalogue is not open")
        return self._log

    @property
    def leads(self) -> bool:
        """Whether this node leads the catalogue."""
        return self._log is not None and self._log.serving

    @property
    def leader(self) -> Leader:
        """Who leads the catalogue, as far as is known here."""
        return self._foundation.consensus.leaders.of(CATALOGUE_LOG)

    @property
    def applied(self) -> Index:
        """The last entry whose effect can be read here."""
        return self._log.replica.applied if self._log is not None else Index(0)

    def _apply(self, command: AnyCommand) -> AnyOutcome:
        outcome = self.state.apply(command)
        self._tell(outcome)
        self._show()
        return outcome

    def _snapshot(self) -> bytes:
        return _KEEPER.encode(self.state.kept())

    def _restore(self, state: bytes) -> None:
        try:
            kept = _KEPT.decode(state)
        except msgspec.MsgspecError:
            raise DamageDetected("a snapshot holds no catalogue that is known here") from None
        before = self.state.kept()
        self.state.restore(kept)
        for outcome in changes(before, kept):
            self._tell(outcome)
        self._show()

    def _show(self) -> None:
        """Wakes who waits for the state to change."""
        self._grown.set()
        self._grown = trio.Event()

    def _tell(self, outcome: AnyOutcome) -> None:
        """Has it known what has happened."""
        if isinstance(outcome, TopicCreated):
            self._names = None
            self.on_created(outcome.topic)
        elif isinstance(outcome, TopicDeleted):
            self._names = None
            self.dropped.extend(outcome.topic.partitions)
            self.on_deleted(outcome.topic)
            self.on_topic_gone(outcome.topic.topic)
        elif isinstance(outcome, TopicChanged):
            self.on_changed(outcome.topic)
        elif isinstance(outcome, KeysChanged):
            self.on_keys(outcome.topic)
        elif isinstance(outcome, TopicShredded):
            self.dropped.extend(outcome.before.partitions)
            self.on_shredded(outcome)
        elif isinstance(outcome, Reassigned):
            self.on_placed(outcome.group)
        elif isinstance(outcome, NodesChanged):
            self.on_nodes()

    async def caught_up(self, applied: Index) -> None:
        """Returns when everything up to an entry shows here; gives up after a while."""
        with trio.move_on_after(MAX_CATALOGUE_WAIT_S):
            while self.applied < applied:
                await self._grown.wait()

    async def known_whole(self) -> None:
        """Returns when all that this node may have known in an earlier life shows again.

        What it did then for a command, it must not find undone by a state from before it.
        """
        known_last = self._foundation.storage.known_last(CATALOGUE_LOG) or NOTHING
        had = max(known_last, self.log.replica.log.last).index
        said = False
        while not self._includes(had):
            if not said:
                said = True
                log.info("waiting for the cluster", reason="what it has decided is not known here")
            with trio.move_on_after(POLL_S):
                await self._grown.wait()

    def _includes(self, had: Index) -> bool:
        """Whether the state has all up to an entry in it, or up to the end of a log cut before."""
        replica = self.log.replica
        return not replica.core.damaged and replica.included >= min(had, replica.log.last.index)

    def unknown(self, held: Collection[PartitionId]) -> list[PartitionId]:
        """Those of these logs that belong to nothing, once `known_whole` has returned.

        A state that is taken up in place of commands says nothing of what was deleted before.
        """
        known = self.state.has
        return [group for group in held if not known(group) and group not in self.dropped]

    async def execute(self, command: AnyCommand) -> AnyOutcome:
        """Has a command decided by this node, which leads the catalogue; raises RequestError."""
        try:
            outcome = await self.log.execute(command)
        except RequestError as error:
            if error.code is ErrorCode.NOT_LEADER_OR_FOLLOWER:
                raise RequestError(ErrorCode.NOT_CONTROLLER, str(error)) from None
            raise
        if isinstance(outcome, CommandRefused):
            raise RequestError(outcome.error, outcome.message)
        return outcome

    # --- this node's own commands, wherever the catalogue is led ---

    async def execute_own(
        self,
        command: AllocateProducerIds
        | AnnounceNode
        | RegisterNode
        | ReplicasMoved
        | AssignKeyDomain
        | ConfirmShred,
    ) -> ProducerIds | None:
        """Has a command of this node decided; raises RequestError."""
        if self.leads:
            outcome = await self.execute(command)
            return outcome if isinstance(outcome, ProducerIds) else None
        leader = self.leader.node
        if leader is None or leader == self._node:
            raise RequestError(ErrorCode.NOT_CONTROLLER, "nobody leads the catalogue now")
        answer = await self._foundation.peers.caller.call(
            leader, Enact(memoryview(_ENCODER.encode(command))), Enacted
        )
        try:
            result = _OUTCOMES.decode(answer.outcome)
        except msgspec.MsgspecError:
            raise RequestError(ErrorCode.UNKNOWN_SERVER_ERROR, "no outcome") from None
        await self.caught_up(answer.applied)
        if result.refused is not None:
            raise RequestError(result.refused.error, result.refused.message)
        return result.ids

    async def enact(self, node: NodeId, encoded: memoryview) -> bytes:
        """Executes, as leader, what another node asks about itself; raises RequestError."""
        try:
            command = _DECODER.decode(encoded)
        except (msgspec.MsgspecError, RecursionError):
            raise RequestError(ErrorCode.INVALID_REQUEST, "no command that is known") from None
        if not self.leads:
            raise RequestError(ErrorCode.NOT_CONTROLLER, "this node does not lead the catalogue")
        if not self._is_own(node, command):
            return _ENCODER.encode(EnactedOutcome(refused=_REFUSED))
        outcome = await self.log.execute(command)
        return _ENCODER.encode(
            EnactedOutcome(
                outcome if isinstance(outcome, ProducerIds) else None,
                outcome if isinstance(outcome, CommandRefused) else None,
            )
        )

    def _is_own(self, node: NodeId, command: AnyCommand) -> bool:
        if isinstance(command, AllocateProducerIds):
            return command.node == node and command.count == PRODUCER_ID_BLOCK
        if isinstance(command, AnnounceNode | ConfirmShred):
            return command.node == node
        if isinstance(command, AssignKeyDomain):
            name = self.state.names.get(command.topic)
            groups = self.state.topics[name].partitions if name is not None else ()
            return any(node in self.state.membership.assignment(g).everyone for g in groups)
        return isinstance(command, ReplicasMoved) and node in (
            self.state.membership.assignment(command.group).everyone
        )

    # --- topics ---

    def topic_names(self) -> tuple[TopicName, ...]:
        """Every topic, sorted."""
        if self._names is None:
            self._names = tuple(sorted(self.state.topics))
        return self._names

    def group_of(self, name: TopicName, index: int) -> PartitionId | None:
        """The group of a topic's partition, or None."""
        topic = self.state.topics.get(name)
        if topic is None or not 0 <= index < len(topic.partitions):
            return None
        return topic.partitions[index]

    def all_partitions(self) -> tuple[NamedPartitions, ...]:
        """Every partition of every topic, sorted."""
        topics = self.state.topics
        return tuple(
            NamedPartitions(name, tuple(map(PartitionIndex, range(len(topics[name].partitions)))))
            for name in self.topic_names()
        )

    def name_of(self, topic: TopicId) -> TopicName | None:
        """The name of a topic, or None."""
        return self.state.names.get(topic)

    async def create_topic(
        self,
        name: TopicName,
        replicas: tuple[tuple[NodeId, ...], ...],
        settings: tuple[tuple[str, str], ...],
    ) -> Topic:
        """Makes a topic with fresh ids, each partition on its nodes; raises RequestError."""
        new_id = self._foundation.new_id
        partitions = tuple(PartitionId(new_id()) for _ in replicas)
        topic = TopicId(new_id())
        if self.state.membership.level >= CLUSTER_LEVEL:
            await self.execute(PlaceTopic(topic, name, partitions, replicas, settings))
        else:
            await self.execute(CreateTopic(topic, name, partitions, settings))
        return Topic(topic, name, partitions, settings)

    async def delete_topic(self, topic: TopicId) -> None:
        """Removes a topic; raises RequestError."""
        await self.execute(DeleteTopic(topic))

    async def alter_topic(self, topic: Topic, settings: tuple[tuple[str, str], ...]) -> None:
        """Gives a topic other settings, unless it has others by now; raises RequestError."""
        await self.execute(AlterTopic(topic.topic, topic.settings, settings))

    async def add_partitions(self, topic: Topic, replicas: tuple[tuple[NodeId, ...], ...]) -> None:
        """Gives a topic more partitions, unless it has more by now; raises RequestError."""
        partitions = tuple(PartitionId(self._foundation.new_id()) for _ in replicas)
        if self.state.membership.level >= CLUSTER_LEVEL:
            command: AnyCommand = PlacePartitions(
                topic.topic, len(topic.partitions), partitions, replicas
            )
        else:
            command = AddPartitions(topic.topic, len(topic.partitions), partitions)
        await self.execute(command)

    # --- keys ---

    def topic_keys(self, topic: TopicId) -> TopicKeys | None:
        """A topic's own key domain, or None: it is sealed in the cluster's."""
        return self.state.key_domains.topics.get(topic)

    async def change_keys(self, command: KeyCommand) -> TopicKeys:
        """Has a command about a topic's keys decided; raises RequestError."""
        if isinstance(command, AssignKeyDomain | ConfirmShred) and not self.leads:
            await self.execute_own(command)
            keys = self.topic_keys(command.topic)
            if keys is None:
                raise RequestError(ErrorCode.NOT_CONTROLLER, "the topic's keys do not show yet")
            return keys
        outcome = await self.execute(command)
        if not isinstance(outcome, KeysChanged | TopicShredded):
            raise RequestError(ErrorCode.UNKNOWN_SERVER_ERROR, "the keys were not changed")
        return outcome.keys

    # --- producer ids ---

    async def next_producer_id(self) -> ProducerId:
        """An id that nobody has had (KIP-730: a block of them costs one command)."""
        async with self._allocating:
            if not self._ids.count:
                outcome = await self.execute_own(AllocateProducerIds(self._node, PRODUCER_ID_BLOCK))
                if outcome is None:
                    raise RequestError(ErrorCode.UNKNOWN_SERVER_ERROR, "no producer ids")
                self._ids = outcome
            first, count = self._ids.first, self._ids.count
            self._ids = ProducerIds(ProducerId(first + 1), count - 1)
            return first

    # --- policy ---

    def policy(self) -> tuple[int, str]:
        """(version, text) in force."""
        return self.state.policy

    def contact_age_s(self) -> float:
        """0 while this node leads the catalogue, else how long its last leader was not heard.

        Without its log, or before any leader was heard, too long for any decision.
        """
        if self._log is None or self._log.failed:
            return inf
        if self._log.serving:
            self._led_by = self._node
            return 0.0
        consensus, leader = self._foundation.consensus, self.leader.node
        if leader not in {None, self._node}:
            self._led_by = leader  # until this node serves, what it knows is of the one before
        if self._led_by is None:
            return inf
        if self._led_by == self._node:
            return consensus.leaderless_s(CATALOGUE_LOG)
        return consensus.silence_s(self._led_by)

    async def set_policy(self, text: str, *, expected_version: int) -> int:
        """Puts a checked policy in force and returns its version; raises RequestError."""
        outcome = await self.execute(SetPolicy(text, expected_version))
        if not isinstance(outcome, PolicySet):
            raise RequestError(ErrorCode.UNKNOWN_SERVER_ERROR, "the policy was not set")
        return outcome.version

    async def change_credential(self, command: CredentialCommand) -> None:
        """Sets or removes what is kept of a password; raises RequestError.

        The first that is set brings the secret that decoys are made from.
        """
        if isinstance(command, SetScram) and not self.state.credentials.decoy_secret:
            secret = self._foundation.entropy.random_bytes(DECOY_SECRET_BYTES)
            command = msgspec.structs.replace(command, decoy_secret=secret)
        await self.execute(command)

    async def set_quotas(self, command: SetQuotas) -> None:
        """Changes one entity's quotas; raises RequestError."""
        if self.state.membership.level < QUOTA_LEVEL:
            raise RequestError(
                ErrorCode.UNSUPPORTED_VERSION, "a node does not know quotas yet: upgrade it first"
            )
        await self.execute(command)

    # --- nodes ---

    async def register(
        self,
        *,
        host: str,
        rack: str | None,
        endpoints: tuple[Endpoint, ...],
        levels: tuple[int, int],
    ) -> None:
        """Says where this node is, unless the catalogue knows it so already."""
        known = self.state.nodes.get(self._node)
        draining = known is not None and known.draining
        if known == NodeState(self._node, host, rack, endpoints, levels, draining):
            return
        await self.execute_own(AnnounceNode(self._node, host, rack, endpoints, levels))

    async def raise_level(self, wanted: int) -> None:
        """Allows, as leader, the newest commands that every node knows."""
        membership = self.state.membership
        known = min(node.levels[1] for node in membership.nodes.values())
        level = min(known, wanted)
        if membership.level < level:
            await self.execute(SetFeatureLevel(level))

    def endpoint(self, node: NodeId, listener: str) -> Endpoint | None:
        """Where clients of a listener reach a node, or None."""
        known = self.state.nodes.get(node)
        return known.endpoint(listener) if known is not None else None

    def progress(self) -> tuple[int, int]:
        """The catalogue's term, and the index after its last committed command."""
        return (0, 0) if self._log is None else self._log.progress()

    async def repair(self, *, distrusted: bool) -> bool:
        """Has a damaged log cut and filled by its other members; what was applied stays."""
        return await self.log.repair(distrusted=distrusted)

    async def close(self) -> None:
        """Lets what is under way become durable, and closes the log."""
        if self._log is not None:
            await self._log.close()
