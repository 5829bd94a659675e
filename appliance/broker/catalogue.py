"""The catalogue as this node serves it: commands in, applied state out.

It is the `PolicySource` and the `TopicResolver` of the gate. Rules: what is read here is committed;
text of a policy is checked before it is proposed.
"""

from collections.abc import Callable
from math import inf
from uuid import UUID

import msgspec
import trio

from appliance.authn.sasl_scram import SCRAM_NUMBERS, ScramCredential
from appliance.broker.commands import CommandLog
from appliance.broker.foundation import CATALOGUE_LOG, Foundation
from appliance.coordination.catalog import Catalog
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
from appliance.coordination.credentials import CredentialChanged, CredentialCommand
from appliance.coordination.key_commands import KeyCommand, KeysChanged, TopicKeys
from appliance.coordination.key_domains import KeyOutcome
from appliance.coordination.topic_changes import (
    AddPartitions,
    AlterTopic,
    TopicChange,
    TopicChanged,
)
from appliance.errors import ErrorCode, RequestError
from appliance.limits import PRODUCER_ID_BLOCK
from appliance.types import NodeId, PartitionId, ProducerId, TopicId, TopicName

AnyCommand = CatalogCommand | CredentialCommand | KeyCommand | TopicChange
AnyOutcome = Outcome | CredentialChanged | KeyOutcome | TopicChanged

_DECODER: msgspec.msgpack.Decoder[AnyCommand] = msgspec.msgpack.Decoder(AnyCommand)


class Catalogue:
    """One node's view of the catalogue, and the way to change it."""

    def __init__(self, node: NodeId, new_id: Callable[[], UUID]) -> None:
        """Empty until `open` replays the log."""
        self.state = Catalog()
        self.dropped: list[PartitionId] = []
        """Logs of deleted topics, to be removed from storage by whoever takes them from here."""
        self.on_deleted: Callable[[Topic], None] = lambda _: None
        """Called as a deletion is applied, so that nobody writes to a topic that is gone."""
        self.on_changed: Callable[[Topic], None] = lambda _: None
        """Called as a change of a topic is applied, with the topic as it is now."""
        self._node = node
        self._new_id = new_id
        self._log: CommandLog[AnyCommand, AnyOutcome] | None = None
        self._names: tuple[TopicName, ...] | None = None
        self._ids = ProducerIds(ProducerId(0), 0)
        self._allocating = trio.Lock()

    @staticmethod
    async def open(foundation: Foundation) -> "Catalogue":
        """Opens, or makes, the catalogue's log. Raises StorageError, KeyProviderError."""
        catalogue = Catalogue(foundation.storage.node, foundation.new_id)
        catalogue._log = await CommandLog.open(
            foundation,
            CATALOGUE_LOG,
            decoder=_DECODER,
            apply=catalogue._apply,
        )
        return catalogue

    def _apply(self, command: AnyCommand) -> AnyOutcome:
        outcome = self.state.apply(command)
        if isinstance(outcome, TopicCreated):
            self._names = None
        elif isinstance(outcome, TopicDeleted):
            self._names = None
            self.dropped.extend(outcome.topic.partitions)
            self.on_deleted(outcome.topic)
        elif isinstance(outcome, TopicChanged):
            self.on_changed(outcome.topic)
        return outcome

    async def _execute(self, command: AnyCommand) -> AnyOutcome:
        if self._log is None:
            raise RequestError(ErrorCode.NOT_CONTROLLER, "the catalogue is not open")
        outcome = await self._log.execute(command)
        if isinstance(outcome, CommandRefused):
            raise RequestError(outcome.error, outcome.message)
        return outcome

    # --- topics ---

    def topic_names(self) -> tuple[TopicName, ...]:
        """Every topic, sorted."""
        if self._names is None:
            self._names = tuple(sorted(self.state.topics))
        return self._names

    def name_of(self, topic: TopicId) -> TopicName | None:
        """The name of a topic, or None."""
        return self.state.names.get(topic)

    async def create_topic(
        self, name: TopicName, partition_count: int, settings: tuple[tuple[str, str], ...]
    ) -> Topic:
        """Makes a topic with fresh ids; raises RequestError."""
        partitions = tuple(PartitionId(self._new_id()) for _ in range(partition_count))
        topic = TopicId(self._new_id())
        await self._execute(CreateTopic(topic, name, partitions, settings))
        return Topic(topic, name, partitions, settings)

    async def delete_topic(self, topic: TopicId) -> None:
        """Removes a topic; raises RequestError."""
        await self._execute(DeleteTopic(topic))

    async def alter_topic(self, topic: Topic, settings: tuple[tuple[str, str], ...]) -> None:
        """Gives a topic other settings, unless it has others by now; raises RequestError."""
        await self._execute(AlterTopic(topic.topic, topic.settings, settings))

    async def add_partitions(self, topic: Topic, count: int) -> None:
        """Gives a topic `count` partitions more, unless it has more by now; raises RequestError."""
        partitions = tuple(PartitionId(self._new_id()) for _ in range(count))
        await self._execute(AddPartitions(topic.topic, len(topic.partitions), partitions))

    # --- keys ---

    def topic_keys(self, topic: TopicId) -> TopicKeys | None:
        """A topic's own key domain, or None: it is sealed in the cluster's."""
        return self.state.key_domains.topics.get(topic)

    async def change_keys(self, command: KeyCommand) -> TopicKeys:
        """Has a command about a topic's keys decided; raises RequestError."""
        outcome = await self._execute(command)
        if not isinstance(outcome, KeysChanged):
            raise RequestError(ErrorCode.UNKNOWN_SERVER_ERROR, "the keys were not changed")
        return outcome.keys

    # --- producer ids ---

    async def next_producer_id(self) -> ProducerId:
        """An id that nobody has had (KIP-730: a block of them costs one command)."""
        async with self._allocating:
            if not self._ids.count:
                outcome = await self._execute(AllocateProducerIds(self._node, PRODUCER_ID_BLOCK))
                if not isinstance(outcome, ProducerIds):
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
        """0 while this node leads the catalogue; without its log, too long for any decision."""
        return 0.0 if self._log is not None and not self._log.failed else inf

    async def set_policy(self, text: str, *, expected_version: int) -> int:
        """Puts a checked policy in force and returns its version; raises RequestError."""
        outcome = await self._execute(SetPolicy(text, expected_version))
        if not isinstance(outcome, PolicySet):
            raise RequestError(ErrorCode.UNKNOWN_SERVER_ERROR, "the policy was not set")
        return outcome.version

    def scram_credential(self, user: str, mechanism: str) -> ScramCredential | None:
        """What is kept of a user's password for a mechanism, or None."""
        kept = self.state.credentials.held.get((user, SCRAM_NUMBERS.get(mechanism, 0)))
        if kept is None:
            return None
        return ScramCredential(kept.iterations, kept.salt, kept.stored_key, kept.server_key)

    async def change_credential(self, command: CredentialCommand) -> None:
        """Sets or removes what is kept of a password; raises RequestError."""
        await self._execute(command)

    # --- nodes ---

    async def register(
        self, *, host: str, rack: str | None, endpoints: tuple[Endpoint, ...]
    ) -> None:
        """Says where this node is, unless the catalogue knows it so already."""
        known = RegisterNode(self._node, host, rack, endpoints)
        if self.state.nodes.get(self._node) != known:
            await self._execute(known)

    def endpoint(self, node: NodeId, listener: str) -> Endpoint | None:
        """Where clients of a listener reach a node, or None."""
        known = self.state.nodes.get(node)
        endpoints = known.endpoints if known is not None else ()
        return next((each for each in endpoints if each.listener == listener), None)

    def progress(self) -> tuple[int, int]:
        """The catalogue's term, and the index after its last committed command."""
        return (0, 0) if self._log is None else self._log.progress()

    async def close(self) -> None:
        """Lets what is under way become durable, and closes the log."""
        if self._log is not None:
            await self._log.close()
