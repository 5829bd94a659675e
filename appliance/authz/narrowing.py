"""Which names requests hold, and the same requests with only some of them.

Rules: pure functions of a request; each name that a handler could act on is among the names, and
what is not kept is gone from the request. Names are compared as they are: no case, no Unicode form
and no pattern is applied.
"""

from collections.abc import Collection

from msgspec.structs import replace

from appliance.authz.actions import CLUSTER, POLICY
from appliance.ports import TopicResolver
from appliance.wire.requests import (
    AlterConfigs,
    CreatePartitions,
    CreateTopics,
    DeleteGroups,
    DeleteTopics,
    DescribeConfigs,
    DescribeGroups,
    DescribeKeys,
    DescribeProducers,
    DescribeTopicPartitions,
    Fetch,
    FindCoordinator,
    Heartbeat,
    IncrementalAlterConfigs,
    InitProducerId,
    JoinGroup,
    LeaveGroup,
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    OffsetFetchGroup,
    OffsetForLeaderEpoch,
    Produce,
    RekeyKeys,
    Request,
    RewrapKeys,
    SettingsOf,
    ShredTopic,
    SyncGroup,
)

ByTopic = (
    Produce
    | Fetch
    | ListOffsets
    | OffsetCommit
    | CreateTopics
    | CreatePartitions
    | OffsetForLeaderEpoch
    | DescribeProducers
)

TRANSACTION_KEY_TYPE = 1
"""FindCoordinator's key type for transactional ids; 0 is for groups."""


def topic_names(request: ByTopic) -> list[str]:
    """The topics of a request that holds a part for each."""
    return [topic.name for topic in request.topics]


def keep_topics(request: ByTopic, granted: Collection[str]) -> ByTopic:
    """The request with the granted topics only, in its order."""
    return replace(request, topics=tuple(t for t in request.topics if t.name in granted))


def sole_topic(request: Produce) -> str | None:
    """The only topic of a produce that names it and is in no transaction, as nearly all are."""
    topics = request.topics
    if len(topics) != 1 or request.transactional_id is not None:
        return None
    topic = topics[0]
    return topic.name if topic.topic_id is None else None


def metadata_names(request: Metadata) -> Collection[str]:
    """The topics asked for; 'all' has been resolved to names before."""
    return request.topics or ()


def keep_metadata(request: Metadata, granted: Collection[str]) -> Metadata:
    """The request with the granted topics only; it never falls back to 'all'."""
    return replace(request, topics=tuple(t for t in request.topics or () if t in granted))


def name_all_topics(request: Metadata, topics: TopicResolver) -> Metadata | None:
    """A request for 'all', or by id, with names; None if it names its topics itself."""
    if request.topics is None:
        return replace(request, topics=topics.topic_names())
    if not request.topic_ids:
        return None
    names = [topics.name_of(topic) for topic in request.topic_ids]
    return replace(request, topics=(*request.topics, *(n for n in names if n is not None)))


ById = Produce | Fetch | OffsetCommit


def name_ids(request: ById, topics: TopicResolver) -> ById | None:
    """A request with names for ids, without what has none; None if it gives no id.

    An id says which topic is meant whatever name stands beside it.
    """
    parts = request.topics
    if not parts or (len(parts) == 1 and parts[0].topic_id is None):
        return None
    if all(part.topic_id is None for part in parts):
        return None
    named = []
    for part in parts:
        name = part.name if part.topic_id is None else topics.name_of(part.topic_id)
        if name is not None:
            named.append(replace(part, name=name))
    return replace(request, topics=tuple(named))


def name_deleted_ids(request: DeleteTopics, topics: TopicResolver) -> DeleteTopics | None:
    """A request with names for ids among its names; None if it gives no id."""
    if not request.topic_ids:
        return None
    names = [topics.name_of(topic) for topic in request.topic_ids]
    known = tuple(name for name in names if name is not None)
    return replace(request, names=(*request.names, *known))


def described_names(request: DescribeTopicPartitions) -> Collection[str]:
    """The topics asked for; 'all' has been resolved to names before."""
    return request.topics


def keep_described(
    request: DescribeTopicPartitions, granted: Collection[str]
) -> DescribeTopicPartitions:
    """The request with the granted topics only."""
    return replace(request, topics=tuple(t for t in request.topics if t in granted))


def name_all_described(
    request: DescribeTopicPartitions, topics: TopicResolver
) -> DescribeTopicPartitions | None:
    """A request for 'all' with every topic's name; None if it names its topics itself."""
    return None if request.topics else replace(request, topics=topics.topic_names())


WithSettings = DescribeConfigs | AlterConfigs | IncrementalAlterConfigs


def topics_with_settings(request: WithSettings) -> list[str]:
    """The topics whose settings are meant."""
    return [part.name for part in request.resources if part.kind == SettingsOf.TOPIC]


def keep_topics_with_settings(request: WithSettings, granted: Collection[str]) -> WithSettings:
    """The request with the granted topics only, and whatever is no topic."""
    kept = [p for p in request.resources if p.kind != SettingsOf.TOPIC or p.name in granted]
    return replace(request, resources=tuple(kept))


def cluster_with_settings(request: WithSettings) -> Collection[str]:
    """The cluster, if anything is meant that is no topic: nodes, and what is not known."""
    others = any(part.kind != SettingsOf.TOPIC for part in request.resources)
    return (CLUSTER.name,) if others else ()


def keep_cluster_with_settings(request: WithSettings, granted: Collection[str]) -> WithSettings:
    """The request with topics only, unless the cluster is granted."""
    if CLUSTER.name in granted:
        return request
    kept = [part for part in request.resources if part.kind == SettingsOf.TOPIC]
    return replace(request, resources=tuple(kept))


def the_cluster(_: Request) -> str:
    """The one cluster."""
    return CLUSTER.name


def deleted_names(request: DeleteTopics) -> Collection[str]:
    """The topics to delete."""
    return request.names


def keep_deleted(request: DeleteTopics, granted: Collection[str]) -> DeleteTopics:
    """The request with the granted topics only."""
    return replace(request, names=tuple(n for n in request.names if n in granted))


def group_of(request: JoinGroup | SyncGroup | Heartbeat | LeaveGroup | OffsetCommit) -> str:
    """The group that a request is about."""
    return request.group


def transaction_of(request: Produce | InitProducerId) -> str | None:
    """The transactional id, if there is one; an empty one is one."""
    return request.transactional_id


def idempotent_in(request: InitProducerId) -> str | None:
    """The cluster, for a producer that is idempotent but not transactional."""
    return CLUSTER.name if request.transactional_id is None else None


def the_policy(_: Request) -> str:
    """The one policy."""
    return POLICY.name


def cluster_name(_: DescribeKeys | RewrapKeys | RekeyKeys | ShredTopic) -> str:
    """The one cluster."""
    return CLUSTER.name


def shredded_topic(request: ShredTopic) -> str:
    """The topic whose records go."""
    return request.topic


def group_keys(request: FindCoordinator) -> Collection[str]:
    """The keys that are groups; a key type that is not known counts as a group."""
    return () if request.key_type == TRANSACTION_KEY_TYPE else request.keys


def transaction_keys(request: FindCoordinator) -> Collection[str]:
    """The keys that are transactional ids."""
    return request.keys if request.key_type == TRANSACTION_KEY_TYPE else ()


def keep_keys(request: FindCoordinator, granted: Collection[str]) -> FindCoordinator:
    """The request with the granted keys only."""
    return replace(request, keys=tuple(k for k in request.keys if k in granted))


def named_groups(request: DescribeGroups | DeleteGroups) -> Collection[str]:
    """The groups that are named."""
    return request.groups


def keep_named_groups(
    request: DescribeGroups | DeleteGroups, granted: Collection[str]
) -> DescribeGroups | DeleteGroups:
    """The request with the granted groups only."""
    return replace(request, groups=tuple(g for g in request.groups if g in granted))


def fetched_groups(request: OffsetFetch) -> list[str]:
    """The groups whose offsets are asked for."""
    return [part.group for part in request.groups]


def keep_groups(request: OffsetFetch, granted: Collection[str]) -> OffsetFetch:
    """The request with the granted groups only."""
    return replace(request, groups=tuple(g for g in request.groups if g.group in granted))


def offset_topics(request: OffsetFetch) -> Collection[str]:
    """The topics that are named in any group, each once."""
    return dict.fromkeys(name for part in request.groups for name, _ in part.topics or ())


def keep_offset_topics(request: OffsetFetch, granted: Collection[str]) -> OffsetFetch:
    """The request with the granted topics only; a group that asks for 'all' stays as it is."""
    return replace(request, groups=tuple(_keep_in_group(part, granted) for part in request.groups))


def _keep_in_group(part: OffsetFetchGroup, granted: Collection[str]) -> OffsetFetchGroup:
    if part.topics is None:
        return part
    return replace(part, topics=tuple(t for t in part.topics if t[0] in granted))
