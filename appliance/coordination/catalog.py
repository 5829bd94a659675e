"""The cluster's catalogue: topics, producer ids, the policy and the nodes.

Rules: deterministic. The same commands in the same order make the same catalogue on every node and
at every replay; whatever a command asks that cannot be had leaves everything as it was and says so.
Policies of every version are text that was checked before it was proposed; the catalogue does not
read it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import assert_never

import msgspec
from msgspec.structs import replace

from appliance.coordination.cluster_commands import (
    AdmitNode,
    AnnounceNode,
    AssignReplicas,
    ClusterCommand,
    DrainNode,
    NodeState,
    PlacePartitions,
    PlaceTopic,
    ReplicasMoved,
    RetireNode,
    SetFeatureLevel,
)
from appliance.coordination.commands import (
    AllocateProducerIds,
    CatalogCommand,
    CommandRefused,
    CreateTopic,
    DeleteTopic,
    NodeRegistered,
    Outcome,
    PolicySet,
    ProducerIds,
    RegisterNode,
    SetPolicy,
    Topic,
    TopicCreated,
    TopicDeleted,
)
from appliance.coordination.credentials import (
    CredentialChanged,
    CredentialCommand,
    Credentials,
    KeptCredentials,
    RemoveScram,
    SetScram,
)
from appliance.coordination.key_commands import (
    AssignKeyDomain,
    BeginShred,
    CompleteShred,
    ConfirmShred,
    KeyCommand,
    KeysChanged,
    LogBegin,
    NoteKeyGone,
    TopicKeys,
    TopicShredded,
)
from appliance.coordination.key_domains import KeyDomains, KeyOutcome
from appliance.coordination.membership import KeptMembership, Membership, MembershipOutcome
from appliance.coordination.quotas import KeptQuotas, Quotas, QuotasSet, SetQuotas
from appliance.coordination.shred_ends import begin_after
from appliance.coordination.topic_changes import (
    AddPartitions,
    AlterTopic,
    TopicChange,
    TopicChanged,
)
from appliance.errors import ErrorCode
from appliance.limits import (
    MAX_PARTITIONS,
    MAX_PARTITIONS_PER_TOPIC,
    MAX_POLICY_BYTES,
    MAX_TOPICS,
)
from appliance.types import NodeId, PartitionId, ProducerId, TopicId, TopicName

MAX_PRODUCER_ID = (1 << 63) - 1
INTERNAL_ID_VERSION = 8

_Further = CredentialCommand | KeyCommand | TopicChange | ClusterCommand | SetQuotas
_AnyOutcome = (
    Outcome | CredentialChanged | KeyOutcome | TopicChanged | MembershipOutcome | QuotasSet
)


class KeptCatalog(msgspec.Struct, frozen=True, tag="catalogue/1"):
    """Everything, as a snapshot holds it."""

    topics: tuple[Topic, ...]
    keys: dict[TopicId, TopicKeys]
    membership: KeptMembership
    credentials: KeptCredentials
    quotas: tuple[KeptQuotas, ...]
    next_producer_id: ProducerId
    policy_version: int
    policy_text: str


class Catalog:
    """Applied state; read through views of what it is now."""

    def __init__(self) -> None:
        self._topics: dict[TopicName, Topic] = {}
        self._names: dict[TopicId, TopicName] = {}
        self.key_domains = KeyDomains()
        self.membership = Membership()
        self._partitions: set[PartitionId] = set()
        self._next_producer_id = ProducerId(0)
        self._policy_version = 0
        self._policy_text = ""
        self.credentials = Credentials()
        self.quotas = Quotas()

    @property
    def topics(self) -> Mapping[TopicName, Topic]:
        """Every topic by its name."""
        return MappingProxyType(self._topics)

    @property
    def names(self) -> Mapping[TopicId, TopicName]:
        """Every topic's name by its id."""
        return MappingProxyType(self._names)

    def has(self, group: PartitionId) -> bool:
        """Whether a group is a topic's partition, or one of the cluster's own logs."""
        return group in self._partitions or _is_internal(group)

    @property
    def nodes(self) -> Mapping[NodeId, NodeState]:
        """Every node as it last registered."""
        return self.membership.nodes

    @property
    def policy(self) -> tuple[int, str]:
        """(version, text); version 0 is 'none was ever set'."""
        return self._policy_version, self._policy_text

    def kept(self) -> KeptCatalog:
        """Everything, for a snapshot."""
        return KeptCatalog(
            tuple(self._topics.values()),
            dict(self.key_domains.topics),
            self.membership.kept(),
            self.credentials.kept(),
            self.quotas.kept(),
            self._next_producer_id,
            self._policy_version,
            self._policy_text,
        )

    def restore(self, kept: KeptCatalog) -> None:
        """Holds what a snapshot holds, and nothing else."""
        self._topics = {topic.name: topic for topic in kept.topics}
        self._names = {topic.topic: topic.name for topic in kept.topics}
        self._partitions = {group for topic in kept.topics for group in topic.partitions}
        self.key_domains.restore(kept.keys)
        self.membership.restore(kept.membership)
        self.credentials.restore(kept.credentials)
        self.quotas.restore(kept.quotas)
        self._next_producer_id = kept.next_producer_id
        self._policy_version, self._policy_text = kept.policy_version, kept.policy_text

    def apply(self, command: CatalogCommand | _Further) -> _AnyOutcome:
        """Takes the next command of the log."""
        match command:
            case CreateTopic():
                return self._create(command, ())
            case DeleteTopic():
                return self._delete(command)
            case AllocateProducerIds():
                return self._allocate(command)
            case SetPolicy():
                return self._set_policy(command)
            case RegisterNode():
                self.membership.register(command)
                return NodeRegistered(command.node)
            case _:
                return self._apply_further(command)

    def _apply_further(self, command: _Further) -> _AnyOutcome:
        match command:
            case SetScram() | RemoveScram():
                return self.credentials.apply(command)
            case SetQuotas():
                return self.quotas.apply(command)
            case (
                AssignKeyDomain() | BeginShred() | ConfirmShred() | NoteKeyGone() | CompleteShred()
            ):
                return self._change_keys(command)
            case AlterTopic() | AddPartitions():
                return self._change(command)
            case PlaceTopic():
                return self._place(command)
            case PlacePartitions():
                return self._place_more(command)
            case _:
                return self._apply_to_members(command)

    def _apply_to_members(
        self,
        command: SetFeatureLevel | AdmitNode | AnnounceNode | DrainNode | RetireNode
        | AssignReplicas | ReplicasMoved,
    ) -> MembershipOutcome:  # fmt: skip
        members = self.membership
        match command:
            case SetFeatureLevel():
                return members.set_level(command)
            case AdmitNode():
                return members.admit(command)
            case AnnounceNode():
                return members.announce(command)
            case DrainNode():
                return members.drain(command)
            case RetireNode():
                return members.retire(command)
            case AssignReplicas():
                if not self.has(command.group):
                    return CommandRefused(
                        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such partition"
                    )
                return members.assign(command)
            case ReplicasMoved():
                return members.moved(command)
            case _:
                assert_never(command)

    def _change_keys(self, command: KeyCommand) -> KeyOutcome:
        if command.topic not in self._names:
            return CommandRefused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
        if isinstance(command, CompleteShred):
            return self._complete_shred(command)
        return self.key_domains.apply(command)

    def _complete_shred(self, command: CompleteShred) -> KeyOutcome:
        """Puts new logs, where they are known to begin, in place of those that were shredded."""
        before = self._topics[self._names[command.topic]]
        keys = self.key_domains.topics.get(command.topic)
        if keys is not None and keys.last is not None and keys.last.shred == command.shred:
            return KeysChanged(command.topic, keys)
        if len(set(command.partitions) - set(before.partitions)) != len(before.partitions):
            return CommandRefused(ErrorCode.INVALID_REQUEST, "each partition gets one new log")
        begins = self.judge_ends(before, command.partitions)
        if begins is None:
            return CommandRefused(
                ErrorCode.INVALID_REQUEST, "too few nodes have said where the logs ended"
            )
        outcome = self.key_domains.complete(command, begins)
        if isinstance(outcome, CommandRefused):
            return outcome
        topic = replace(before, partitions=command.partitions)
        self._topics[topic.name] = topic
        self._partitions.difference_update(before.partitions)
        self._partitions.update(topic.partitions)
        for old, new in zip(before.partitions, topic.partitions, strict=True):
            self.membership.succeed(old, new)
        return TopicShredded(before, topic, outcome)

    def judge_ends(
        self, topic: Topic, successors: tuple[PartitionId, ...]
    ) -> tuple[LogBegin, ...] | None:
        """Where the logs in place of a topic's begin, or None until enough nodes have said so."""
        keys = self.key_domains.topics.get(topic.topic)
        if keys is None or keys.shredding is None:
            return None
        begins = []
        for partition, successor in zip(topic.partitions, successors, strict=True):
            assignment = self.membership.assignment(partition)
            begin = begin_after(keys.shredding, partition, assignment, successor)
            if begin is None:
                return None
            begins.append(begin)
        return tuple(begins)

    def judge_new_topic(self, name: TopicName, partition_count: int) -> CommandRefused | None:
        """Why a topic cannot be made now, or None; asked before and at apply."""
        if name in self._topics:
            return CommandRefused(ErrorCode.TOPIC_ALREADY_EXISTS, f"topic '{name}' exists")
        if not 0 < partition_count <= MAX_PARTITIONS_PER_TOPIC:
            return CommandRefused(
                ErrorCode.INVALID_PARTITIONS,
                f"a topic has 1 to {MAX_PARTITIONS_PER_TOPIC} partitions",
            )
        if len(self._topics) >= MAX_TOPICS:
            return CommandRefused(ErrorCode.POLICY_VIOLATION, f"there are {MAX_TOPICS} topics")
        if len(self._partitions) + partition_count > MAX_PARTITIONS:
            return CommandRefused(
                ErrorCode.POLICY_VIOLATION, f"there would be over {MAX_PARTITIONS} partitions"
            )
        return None

    def _place(self, command: PlaceTopic) -> Outcome:
        fault = self._fault_in(command)
        if fault is not None:
            return fault
        return self._create(command, command.replicas)

    def _place_more(self, command: PlacePartitions) -> CommandRefused | TopicChanged:
        fault = self._fault_in(command)
        if fault is not None:
            return fault
        outcome = self._change(
            AddPartitions(command.topic, command.expected_count, command.partitions)
        )
        if isinstance(outcome, TopicChanged):
            for partition, holders in zip(command.partitions, command.replicas, strict=True):
                self.membership.place(partition, holders)
        return outcome

    def _fault_in(self, command: PlaceTopic | PlacePartitions) -> CommandRefused | None:
        """Why partitions cannot lie where a command wants them, or None."""
        if len(command.replicas) != len(command.partitions):
            return CommandRefused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT, "each partition has its replicas"
            )
        faults = map(self.membership.fault_in, command.replicas)
        return next((fault for fault in faults if fault is not None), None)

    def _create(
        self, command: CreateTopic | PlaceTopic, replicas: tuple[tuple[NodeId, ...], ...]
    ) -> Outcome:
        refusal = self.judge_new_topic(command.name, len(command.partitions))
        if refusal is not None:
            return refusal
        if command.topic in self._names:
            return CommandRefused(ErrorCode.INVALID_REQUEST, "the topic's id is taken")
        topic = Topic(command.topic, command.name, command.partitions, command.settings)
        self._topics[topic.name] = topic
        self._names[topic.topic] = topic.name
        self._partitions.update(topic.partitions)
        for partition, holders in zip(topic.partitions, replicas, strict=False):
            self.membership.place(partition, holders)
        return TopicCreated(topic)

    def _delete(self, command: DeleteTopic) -> Outcome:
        name = self._names.pop(command.topic, None)
        if name is None:
            return CommandRefused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
        topic = self._topics.pop(name)
        self.key_domains.forget(command.topic)
        self._partitions.difference_update(topic.partitions)
        for partition in topic.partitions:
            self.membership.forget(partition)
        return TopicDeleted(topic)

    def judge_more_partitions(self, topic: Topic, count: int) -> CommandRefused | None:
        """Why a topic cannot have `count` more partitions, or None; asked before and at apply."""
        if count < 1:
            return CommandRefused(
                ErrorCode.INVALID_PARTITIONS, f"the topic has {len(topic.partitions)} already"
            )
        if len(topic.partitions) + count > MAX_PARTITIONS_PER_TOPIC:
            return CommandRefused(
                ErrorCode.INVALID_PARTITIONS,
                f"a topic has 1 to {MAX_PARTITIONS_PER_TOPIC} partitions",
            )
        if len(self._partitions) + count > MAX_PARTITIONS:
            return CommandRefused(
                ErrorCode.POLICY_VIOLATION, f"there would be over {MAX_PARTITIONS} partitions"
            )
        return None

    def _change(self, command: TopicChange) -> CommandRefused | TopicChanged:
        name = self._names.get(command.topic)
        if name is None:
            return CommandRefused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
        topic = self._topics[name]
        if isinstance(command, AlterTopic):
            if command.expected != topic.settings:
                return CommandRefused(
                    ErrorCode.INVALID_CONFIG, "the settings were changed meanwhile: try again"
                )
            topic = replace(topic, settings=command.settings)
        elif self.key_domains.is_shredding(command.topic):
            return CommandRefused(
                ErrorCode.INVALID_REQUEST, "the topic is being shredded: try again after that"
            )
        else:
            if command.expected_count != len(topic.partitions):
                return CommandRefused(
                    ErrorCode.INVALID_PARTITIONS, "partitions were added meanwhile: try again"
                )
            refusal = self.judge_more_partitions(topic, len(command.partitions))
            if refusal is not None:
                return refusal
            topic = replace(topic, partitions=(*topic.partitions, *command.partitions))
            self._partitions.update(command.partitions)
        self._topics[name] = topic
        return TopicChanged(topic)

    def _allocate(self, command: AllocateProducerIds) -> Outcome:
        first = self._next_producer_id
        if command.count < 1 or first + command.count > MAX_PRODUCER_ID:
            return CommandRefused(ErrorCode.INVALID_REQUEST, "producer ids have run out")
        self._next_producer_id = ProducerId(first + command.count)
        return ProducerIds(first, command.count)

    def _set_policy(self, command: SetPolicy) -> Outcome:
        if command.expected_version != self._policy_version:
            return CommandRefused(
                ErrorCode.INVALID_UPDATE_VERSION,
                f"version {self._policy_version} is in force, not {command.expected_version}",
            )
        if len(command.text.encode()) > MAX_POLICY_BYTES:
            return CommandRefused(
                ErrorCode.INVALID_REQUEST, f"a policy has at most {MAX_POLICY_BYTES} bytes"
            )
        self._policy_version += 1
        self._policy_text = command.text
        return PolicySet(self._policy_version)


def _is_internal(group: PartitionId) -> bool:
    """Whether a group is one of the cluster's own logs, whose ids are of version 8 (RFC 9562)."""
    return group.version == INTERNAL_ID_VERSION
