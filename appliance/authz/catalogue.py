"""What each request needs: request type -> action, resources, narrowing, code of a refusal.

This is the table that legality is read from (DESIGN section 3). A request type without a row cannot
be registered with the dispatcher, so an API without authorisation cannot be served.

Rules: a row is data. It says which names a request holds, which action on which kind of resource
each needs, and how to keep only some of them; it decides nothing. A row that cannot tell what a
request names asks for more rather than for less.
"""

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeVar, cast

import msgspec

from appliance.authz import narrowing
from appliance.authz.actions import Action, ResourceKind
from appliance.errors import ErrorCode
from appliance.invariant import invariant
from appliance.ports import TopicResolver
from appliance.types import PrincipalKind
from appliance.wire.requests import (
    AddNode,
    AlterClientQuotas,
    AlterConfigs,
    AlterPartitionReassignments,
    AlterUserScramCredentials,
    ApiVersions,
    CreateAcls,
    CreatePartitions,
    CreateTopics,
    DeleteAcls,
    DeleteGroups,
    DeleteRecords,
    DeleteTopics,
    DescribeAcls,
    DescribeClientQuotas,
    DescribeCluster,
    DescribeConfigs,
    DescribeGroups,
    DescribeKeys,
    DescribeLogDirs,
    DescribeNodes,
    DescribePolicy,
    DescribeProducers,
    DescribeQuorum,
    DescribeTopicPartitions,
    DescribeUserScramCredentials,
    DrainNode,
    ElectLeaders,
    Fetch,
    FindCoordinator,
    GetTelemetrySubscriptions,
    Heartbeat,
    IncrementalAlterConfigs,
    InitProducerId,
    JoinGroup,
    LeadPartition,
    LeaveGroup,
    ListConfigResources,
    ListGroups,
    ListOffsets,
    ListPartitionReassignments,
    Metadata,
    MovePartition,
    OffsetCommit,
    OffsetFetch,
    OffsetForLeaderEpoch,
    Produce,
    PushTelemetry,
    RekeyKeys,
    RemoveNode,
    ReplacePolicy,
    Request,
    RewrapKeys,
    SaslAuthenticate,
    SaslHandshake,
    ShredTopic,
    SyncGroup,
    UpdateFeatures,
)

R = TypeVar("R", bound=Request)


class EntryKind(Enum):
    """How a request comes by the resources that it is judged on."""

    OPEN = "open"
    """It names none; to be authenticated is enough."""

    NAMED = "named"
    """It names them."""

    RESOLVED = "resolved"
    """What it leaves open ('all', ids) is named first, from one snapshot of the catalogue. What of
    that is then refused is left out without a word, as what does not exist is."""

    LISTED = "listed"
    """Its results name them: the handler passes each through `Authorized.granted` before it is
    counted or paged."""


Resolve = Callable[[Request, TopicResolver], Request | None]
"""A request with names for what it left open; None if it left nothing open."""


class Requirement(msgspec.Struct, frozen=True):
    """What a request needs as a whole; without it the request is `Denied` with `code`.

    `name` gives the resource's name, or None when this request does not need it.
    """

    action: Action
    kind: ResourceKind
    name: Callable[[Request], str | None]
    code: ErrorCode


class Items(msgspec.Struct, frozen=True):
    """What a request names one by one; each is granted, or refused with `code`, by itself.

    `keep` gives the request with only the items whose name is in a collection.
    """

    action: Action
    kind: ResourceKind
    names: Callable[[Request], Collection[str]]
    keep: Callable[[Request, Collection[str]], Request]
    code: ErrorCode


class CatalogueEntry(msgspec.Struct, frozen=True):
    """One row.

    `code` refuses the request as a whole where no requirement's own code does; `stale_code` does
    while this node has lost contact with the catalogue, and tells a client to try again, elsewhere.
    `asked_by` and `listeners` say who may ask at all, whatever the policy says.
    `sole` is the one name that a request comes to where it names one thing, needs nothing else and
    leaves nothing open, as nearly all of a kind do; else None. Granted on the row's one kind of
    items, it is the whole request; refused, the request goes the long way.
    """

    kind: EntryKind
    code: ErrorCode
    stale_code: ErrorCode
    needs: tuple[Requirement, ...] = ()
    items: tuple[Items, ...] = ()
    resolve: Resolve | None = None
    sole: Callable[[Request], str | None] | None = None
    asked_by: PrincipalKind = PrincipalKind.USER
    listeners: frozenset[str] = frozenset({"kafka", "login", "native"})

    def __post_init__(self) -> None:
        """Checks what a row promises."""
        invariant(self.sole is None or len(self.items) == 1, "a sole name is of one kind of items")


CODES: Final = {
    ResourceKind.TOPIC: ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    ResourceKind.GROUP: ErrorCode.GROUP_AUTHORIZATION_FAILED,
    ResourceKind.TRANSACTIONAL_ID: ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    ResourceKind.CLUSTER: ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    ResourceKind.POLICY: ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
}
"""The code that refuses a resource of each kind."""

Named = Callable[[R], str | None]
Names = Callable[[R], Collection[str]]
Keep = Callable[[R, Collection[str]], R]


def _need(action: Action, kind: ResourceKind, name: Named[R]) -> Requirement:
    return Requirement(action, kind, cast(Named[Request], name), CODES[kind])


def _each(action: Action, kind: ResourceKind, names: Names[R], keep: Keep[R]) -> Items:
    return Items(action, kind, cast(Names[Request], names), cast(Keep[Request], keep), CODES[kind])


def _on_topics(action: Action, stale_code: ErrorCode, *needs: Requirement) -> CatalogueEntry:
    """A row for a request that holds a part for each topic, by its name."""
    return CatalogueEntry(
        EntryKind.NAMED,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        stale_code,
        needs=needs,
        items=(_each(action, ResourceKind.TOPIC, narrowing.topic_names, narrowing.keep_topics),),
    )


def _on_topics_or_ids(action: Action, stale_code: ErrorCode, *needs: Requirement) -> CatalogueEntry:
    """A row for a request that holds a part for each topic, by its name or by its id."""
    row = _on_topics(action, stale_code, *needs)
    return msgspec.structs.replace(
        row, kind=EntryKind.RESOLVED, resolve=cast(Resolve, narrowing.name_ids)
    )


def _in_group(*items: Items) -> CatalogueEntry:
    """A row for a request of one member of one group."""
    return CatalogueEntry(
        EntryKind.NAMED,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        needs=(_need(Action.READ, ResourceKind.GROUP, narrowing.group_of),),
        items=items,
    )


def _on_groups(action: Action) -> CatalogueEntry:
    """A row for a request that names groups, each judged by itself."""
    return CatalogueEntry(
        EntryKind.NAMED,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        items=(
            _each(action, ResourceKind.GROUP, narrowing.named_groups, narrowing.keep_named_groups),
        ),
    )


def _on_cluster(action: Action, *needs: Requirement) -> CatalogueEntry:
    """A row for a request about the cluster as a whole."""
    return CatalogueEntry(
        EntryKind.NAMED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.NOT_CONTROLLER,
        needs=(_need(action, ResourceKind.CLUSTER, narrowing.the_cluster), *needs),
    )


def _the_policy(action: Action) -> Requirement:
    """What a request about the policy, or about who may be whom, needs besides."""
    return _need(action, ResourceKind.POLICY, narrowing.the_policy)


def _before_all_else() -> CatalogueEntry:
    """A row for a message of a login, which whoever is connected may send."""
    return CatalogueEntry(EntryKind.OPEN, ErrorCode.CLUSTER_AUTHORIZATION_FAILED, ErrorCode.NONE)


def _of_itself() -> CatalogueEntry:
    """A row for what a client tells of itself; that it is authenticated is enough, as in Kafka."""
    return CatalogueEntry(EntryKind.OPEN, ErrorCode.CLUSTER_AUTHORIZATION_FAILED, ErrorCode.NONE)


def _on_settings(action: Action) -> CatalogueEntry:
    """A row for a request about settings: of topics each by itself, of all else by the cluster."""
    return CatalogueEntry(
        EntryKind.NAMED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.NOT_CONTROLLER,
        items=(
            _each(
                action,
                ResourceKind.TOPIC,
                narrowing.topics_with_settings,
                narrowing.keep_topics_with_settings,
            ),
            _each(
                action,
                ResourceKind.CLUSTER,
                narrowing.cluster_with_settings,
                narrowing.keep_cluster_with_settings,
            ),
        ),
    )


def _on_policy(action: Action) -> CatalogueEntry:
    """A row for a request about the policy, which Kafka's dialect does not know."""
    return CatalogueEntry(
        EntryKind.NAMED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.NOT_CONTROLLER,
        needs=(_the_policy(action),),
        listeners=frozenset({"native"}),
    )


def _on_keys(*needs: Requirement) -> CatalogueEntry:
    """A row for a request about the keys that data is sealed with."""
    return CatalogueEntry(
        EntryKind.NAMED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.NOT_CONTROLLER,
        needs=needs,
        listeners=frozenset({"native"}),
    )


def _on_nodes(action: Action) -> CatalogueEntry:
    """A row for an operator's request about nodes, which Kafka's dialect does not know."""
    return CatalogueEntry(
        EntryKind.NAMED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.NOT_CONTROLLER,
        needs=(_need(action, ResourceKind.CLUSTER, narrowing.the_cluster),),
        listeners=frozenset({"native"}),
    )


CATALOGUE: Final[Mapping[type[Request], CatalogueEntry]] = MappingProxyType({
    ApiVersions: CatalogueEntry(
        EntryKind.OPEN, ErrorCode.CLUSTER_AUTHORIZATION_FAILED, ErrorCode.NONE
    ),
    Produce: msgspec.structs.replace(
        _on_topics_or_ids(
            Action.WRITE,
            ErrorCode.NOT_LEADER_OR_FOLLOWER,
            _need(Action.WRITE, ResourceKind.TRANSACTIONAL_ID, narrowing.transaction_of),
        ),
        sole=cast(Named[Request], narrowing.sole_topic),
    ),
    Fetch: _on_topics_or_ids(Action.READ, ErrorCode.NOT_LEADER_OR_FOLLOWER),
    ListOffsets: _on_topics(Action.DESCRIBE, ErrorCode.NOT_LEADER_OR_FOLLOWER),
    DeleteRecords: _on_topics(Action.DELETE, ErrorCode.NOT_LEADER_OR_FOLLOWER),
    CreateTopics: _on_topics(Action.CREATE, ErrorCode.NOT_CONTROLLER),
    DeleteTopics: CatalogueEntry(
        EntryKind.RESOLVED,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.NOT_CONTROLLER,
        items=(
            _each(
                Action.DELETE,
                ResourceKind.TOPIC,
                narrowing.deleted_names,
                narrowing.keep_deleted,
            ),
        ),
        resolve=cast(Resolve, narrowing.name_deleted_ids),
    ),
    Metadata: CatalogueEntry(
        EntryKind.RESOLVED,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.LEADER_NOT_AVAILABLE,
        items=(
            _each(
                Action.DESCRIBE,
                ResourceKind.TOPIC,
                narrowing.metadata_names,
                narrowing.keep_metadata,
            ),
        ),
        resolve=cast(Resolve, narrowing.name_all_topics),
    ),
    InitProducerId: CatalogueEntry(
        EntryKind.NAMED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        needs=(
            _need(Action.WRITE, ResourceKind.TRANSACTIONAL_ID, narrowing.transaction_of),
            _need(Action.IDEMPOTENT_WRITE, ResourceKind.CLUSTER, narrowing.idempotent_in),
        ),
    ),
    FindCoordinator: CatalogueEntry(
        EntryKind.NAMED,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        items=(
            _each(
                Action.DESCRIBE,
                ResourceKind.GROUP,
                narrowing.group_keys,
                narrowing.keep_keys,
            ),
            _each(
                Action.DESCRIBE,
                ResourceKind.TRANSACTIONAL_ID,
                narrowing.transaction_keys,
                narrowing.keep_keys,
            ),
        ),
    ),
    JoinGroup: _in_group(),
    SyncGroup: _in_group(),
    Heartbeat: _in_group(),
    LeaveGroup: _in_group(),
    OffsetCommit: msgspec.structs.replace(
        _in_group(
            _each(
                Action.READ,
                ResourceKind.TOPIC,
                narrowing.topic_names,
                narrowing.keep_topics,
            )
        ),
        kind=EntryKind.RESOLVED,
        resolve=cast(Resolve, narrowing.name_ids),
    ),
    OffsetFetch: CatalogueEntry(
        EntryKind.LISTED,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        items=(
            _each(
                Action.DESCRIBE,
                ResourceKind.GROUP,
                narrowing.fetched_groups,
                narrowing.keep_groups,
            ),
            _each(
                Action.DESCRIBE,
                ResourceKind.TOPIC,
                narrowing.offset_topics,
                narrowing.keep_offset_topics,
            ),
        ),
    ),
    ListGroups: CatalogueEntry(
        EntryKind.LISTED,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ),
    DescribeGroups: _on_groups(Action.DESCRIBE),
    DeleteGroups: _on_groups(Action.DELETE),
    OffsetForLeaderEpoch: _on_topics(Action.DESCRIBE, ErrorCode.NOT_LEADER_OR_FOLLOWER),
    CreatePartitions: _on_topics(Action.ALTER, ErrorCode.NOT_CONTROLLER),
    DescribeProducers: _on_topics(Action.READ, ErrorCode.NOT_LEADER_OR_FOLLOWER),
    DescribeTopicPartitions: CatalogueEntry(
        EntryKind.RESOLVED,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.LEADER_NOT_AVAILABLE,
        items=(
            _each(
                Action.DESCRIBE,
                ResourceKind.TOPIC,
                narrowing.described_names,
                narrowing.keep_described,
            ),
        ),
        resolve=cast(Resolve, narrowing.name_all_described),
    ),
    DescribeCluster: CatalogueEntry(
        EntryKind.OPEN, ErrorCode.CLUSTER_AUTHORIZATION_FAILED, ErrorCode.NONE
    ),
    DescribeConfigs: _on_settings(Action.DESCRIBE_CONFIGS),
    ListConfigResources: _on_cluster(Action.DESCRIBE_CONFIGS),
    AlterConfigs: _on_settings(Action.ALTER_CONFIGS),
    IncrementalAlterConfigs: _on_settings(Action.ALTER_CONFIGS),
    DescribeAcls: _on_cluster(Action.DESCRIBE, _the_policy(Action.DESCRIBE)),
    CreateAcls: _on_cluster(Action.ALTER, _the_policy(Action.ALTER)),
    DeleteAcls: _on_cluster(Action.ALTER, _the_policy(Action.ALTER)),
    SaslHandshake: _before_all_else(),
    SaslAuthenticate: _before_all_else(),
    DescribeUserScramCredentials: _on_cluster(Action.DESCRIBE),
    AlterUserScramCredentials: _on_cluster(Action.ALTER, _the_policy(Action.ALTER)),
    DescribeLogDirs: _on_cluster(Action.DESCRIBE),
    DescribeQuorum: _on_cluster(Action.DESCRIBE),
    ElectLeaders: _on_cluster(Action.ALTER),
    UpdateFeatures: _on_cluster(Action.ALTER),
    GetTelemetrySubscriptions: _of_itself(),
    PushTelemetry: _of_itself(),
    DescribeClientQuotas: _on_cluster(Action.DESCRIBE_CONFIGS),
    AlterPartitionReassignments: _on_cluster(Action.ALTER),
    ListPartitionReassignments: _on_cluster(Action.DESCRIBE),
    AlterClientQuotas: _on_cluster(Action.ALTER_CONFIGS),
    DescribePolicy: _on_policy(Action.DESCRIBE),
    ReplacePolicy: _on_policy(Action.ALTER),
    DescribeKeys: _on_keys(
        _need(Action.DESCRIBE, ResourceKind.CLUSTER, narrowing.cluster_name)
    ),
    RewrapKeys: _on_keys(_need(Action.ALTER, ResourceKind.CLUSTER, narrowing.cluster_name)),
    RekeyKeys: _on_keys(_need(Action.ALTER, ResourceKind.CLUSTER, narrowing.cluster_name)),
    ShredTopic: _on_keys(
        _need(Action.ALTER, ResourceKind.CLUSTER, narrowing.cluster_name),
        _need(Action.DELETE, ResourceKind.TOPIC, narrowing.shredded_topic),
    ),
    DescribeNodes: _on_nodes(Action.DESCRIBE),
    AddNode: _on_nodes(Action.ALTER),
    RemoveNode: _on_nodes(Action.ALTER),
    DrainNode: _on_nodes(Action.ALTER),
    MovePartition: _on_nodes(Action.ALTER),
    LeadPartition: _on_nodes(Action.ALTER),
})  # fmt: skip
"""Every request that can be served, and what it needs."""
