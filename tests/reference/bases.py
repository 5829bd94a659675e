"""A valid request of each API, from which the cases are made, and what must have happened before.

Names of topics and groups are of the case or of the version (`fresh`, `scoped`), so that what one
case leaves behind does not reach another.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from messages import PLAIN_BATCH, Row

if TYPE_CHECKING:
    from sides import Side


@dataclass(frozen=True)
class Before:
    """A request that makes what the case needs."""

    api: str
    version: int
    values: Row


@dataclass(frozen=True)
class Base:
    """The valid values of an API's fields; what is not given is made up."""

    values: Row = field(default_factory=dict)
    before: tuple[Before, ...] = ()


PLAIN: Final = "plain"
"""A topic of three partitions; the first holds ten batches of one record."""
COMPACTED: Final = "compacted"


def fresh(side: "Side") -> str:
    """A name of the case's own."""
    return f"fresh-{side.kept['case']}"


def scoped(side: "Side") -> str:
    """A name that the cases of one version share."""
    return f"scoped-{side.kept['scope']}"


def id_of(name: "str | Callable[[Side], str]") -> "Callable[[Side], object]":
    """The id of a topic on the side that is asked."""
    return lambda side: side.topic_id(name if isinstance(name, str) else name(side))


def epoch(side: "Side") -> int:
    """The epoch of every leader."""
    return side.epoch


def kept(name: str) -> "Callable[[Side], object]":
    """What an earlier answer of the case told."""
    return lambda side: side.kept[name]


def new_topic(name: object, partitions: int = 1) -> Row:
    """A topic to be made."""
    return {
        "name": name, "partition_count": partitions, "replication_factor": 1,
        "assignments": [], "settings": [{"name": "retention.ms", "value": "-1"}],
    }  # fmt: skip


def creation(name: object, partitions: int = 1) -> Before:
    """A topic that is there before the case."""
    topics = [new_topic(name, partitions)]
    return Before(
        "CreateTopics", 7, {"topics": topics, "timeout_ms": 5_000, "validate_only": False}
    )


_SCOPED_TOPIC: Final = creation(scoped)
_FRESH_TOPIC: Final = creation(fresh)

_JOINING: Final[Row] = {
    "group": scoped, "session_timeout_ms": 600_000, "rebalance_timeout_ms": 600_000,
    "member_id": "", "group_instance_id": "an-instance", "protocol_type": "consumer",
    "protocols": [{"name": "range", "metadata": b"\x00\x01\x00\x00\x00\x00"}], "reason": None,
}  # fmt: skip
_MEMBER: Final = Before("JoinGroup", 7, _JOINING)
_ASSIGNED: Final = Before("SyncGroup", 4, {
    "group": scoped, "generation_id": kept("generation_id"), "member_id": kept("member_id"),
    "group_instance_id": "an-instance",
    "assignments": [{"member_id": kept("member_id"), "assignment": b"\x00\x01"}],
})  # fmt: skip
_OF_MEMBER: Final[Row] = {
    "group": scoped, "generation_id": kept("generation_id"), "member_id": kept("member_id"),
    "group_instance_id": "an-instance", "protocol_type": "consumer", "protocol_name": "range",
}  # fmt: skip

_ACL: Final[Row] = {
    "kind": 2, "name": fresh, "pattern": 3, "principal": "User:someone", "host": "*",
    "operation": 3, "permission": 3,
}  # fmt: skip

BASES: Final[dict[str, Base]] = {
    "Produce": Base({
        "transactional_id": None, "acks": -1, "timeout_ms": 5_000,
        "topics": [{
            "name": fresh, "topic_id": id_of(fresh),
            "partitions": [{"index": 0, "batch": PLAIN_BATCH}],
        }],
    }, (_FRESH_TOPIC,)),
    "Fetch": Base({
        "replica_id": -1, "max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20,
        "isolation_level": 0, "session_id": 0, "session_epoch": -1, "rack_id": "",
        "forgotten_topics": [], "replica_state": {"replica_id": -1, "replica_epoch": -1},
        "topics": [{
            "name": PLAIN, "topic_id": id_of(PLAIN),
            "partitions": [{
                "index": 0, "current_leader_epoch": epoch, "offset": 2,
                "last_fetched_epoch": -1, "log_start_offset": -1, "max_bytes": 1 << 20,
            }],
        }],
    }),
    "ListOffsets": Base({
        "replica_id": -1, "isolation_level": 0, "timeout_ms": 5_000,
        "topics": [{"name": PLAIN, "partitions": [
            {"index": 0, "current_leader_epoch": epoch, "timestamp_ms": -1},
        ]}],
    }),
    "Metadata": Base({
        "topics": [{"name": PLAIN, "topic_id": None}], "allow_auto_topic_creation": False,
        "cluster_operations": True, "topic_operations": True,
    }),
    "OffsetCommit": Base({
        **_OF_MEMBER, "retention_time_ms": -1,
        "topics": [{"name": PLAIN, "topic_id": id_of(PLAIN), "partitions": [
            {"index": 0, "offset": 5, "leader_epoch": epoch, "metadata": "where it was"},
        ]}],
    }, (_MEMBER, _ASSIGNED)),
    "OffsetFetch": Base({
        "group": "committed", "topics": [{"name": PLAIN, "indexes": [0]}],
        "groups": [{
            "group": "committed", "member_id": None, "member_epoch": -1,
            "topics": [{"name": PLAIN, "topic_id": id_of(PLAIN), "indexes": [0]}],
        }],
        "require_stable": False,
    }),
    "FindCoordinator": Base({"key": "committed", "key_type": 0, "keys": ["committed"]}),
    "JoinGroup": Base({**_JOINING, "group": fresh, "group_instance_id": None}),
    "Heartbeat": Base(_OF_MEMBER, (_MEMBER, _ASSIGNED)),
    "SyncGroup": Base({
        **_OF_MEMBER, "assignments": [{"member_id": kept("member_id"), "assignment": b"\x00\x01"}],
    }, (_MEMBER,)),
    "LeaveGroup": Base({
        "group": scoped, "member_id": kept("member_id"),
        "members": [{
            "member_id": kept("member_id"), "group_instance_id": "an-instance", "reason": None,
        }],
    }, (_MEMBER, _ASSIGNED)),
    "DescribeGroups": Base({"groups": ["committed"], "operations": True}),
    "ListGroups": Base({"states": ["Empty"], "types": ["classic"]}),
    "SaslHandshake": Base({"mechanism": "SCRAM-SHA-256"}),
    "ApiVersions": Base({"software_name": "tests", "software_version": "1.0"}),
    "CreateTopics": Base({
        "topics": [new_topic(fresh, 2)],
        "timeout_ms": 5_000, "validate_only": False,
    }),
    "DeleteTopics": Base({
        "names": [fresh], "topics": [{"name": fresh, "topic_id": None}], "timeout_ms": 5_000,
    }, (_FRESH_TOPIC,)),
    "DeleteRecords": Base({
        "topics": [{"name": "cut", "partitions": [{"index": 0, "offset": 2}]}], "timeout_ms": 5_000,
    }),
    "InitProducerId": Base({
        "transactional_id": None, "transaction_timeout_ms": 5_000, "producer_id": -1,
        "producer_epoch": -1,
    }),
    "OffsetForLeaderEpoch": Base({
        "replica_id": -2, "topics": [{"name": PLAIN, "partitions": [
            {"index": 0, "current_leader_epoch": epoch, "leader_epoch": epoch},
        ]}],
    }),
    "DescribeAcls": Base({
        "kind": 2, "name": "of-acls", "pattern": 3, "principal": None, "host": None,
        "operation": 1, "permission": 1,
    }),
    "CreateAcls": Base({"acls": [_ACL]}),
    "DeleteAcls": Base({"filters": [_ACL]}, (Before("CreateAcls", 3, {"acls": [_ACL]}),)),
    "DescribeConfigs": Base({
        "resources": [{"kind": 2, "name": PLAIN, "names": ["retention.ms", "max.message.bytes"]}],
        "synonyms": True, "documentation": False,
    }),
    "AlterConfigs": Base({
        "resources": [{"kind": 2, "name": scoped, "settings": [
            {"name": "retention.ms", "value": "70000"},
        ]}],
        "validate_only": False,
    }, (_SCOPED_TOPIC,)),
    "IncrementalAlterConfigs": Base({
        "resources": [{"kind": 2, "name": scoped, "settings": [
            {"name": "retention.ms", "operation": 0, "value": "70000"},
        ]}],
        "validate_only": False,
    }, (_SCOPED_TOPIC,)),
    "DescribeLogDirs": Base({"topics": [{"name": PLAIN, "partitions": [0]}]}),
    "SaslAuthenticate": Base({"auth_bytes": b"n,,n=a,r=b"}),
    "CreatePartitions": Base({
        "topics": [{"name": fresh, "count": 3, "assignments": None}], "timeout_ms": 5_000,
        "validate_only": False,
    }, (_FRESH_TOPIC,)),
    "DeleteGroups": Base({"groups": ["no-such-group"]}),
    "ElectLeaders": Base({
        "election_type": 0, "topics": [{"name": PLAIN, "partitions": [0]}], "timeout_ms": 5_000,
    }),
    "DescribeUserScramCredentials": Base({"users": [{"name": "scram-user"}]}),
    "AlterUserScramCredentials": Base({
        "deletions": [], "upsertions": [{
            "name": fresh, "mechanism": 1, "iterations": 4_096, "salt": b"salt of twenty four byte",
            "salted_password": b"p" * 32,
        }],
    }),
    "DescribeQuorum": Base({
        "topics": [{"name": "__cluster_metadata", "partitions": [{"index": 0}]}],
    }),
    "UpdateFeatures": Base({
        "timeout_ms": 5_000, "updates": [
            {"name": "no.such.feature", "level": 1, "allow_downgrade": False, "upgrade_type": 1},
        ], "validate_only": False,
    }),
    "DescribeCluster": Base({
        "cluster_operations": True, "endpoint_type": 1, "fenced_brokers": False,
    }),
    "DescribeProducers": Base({"topics": [{"name": PLAIN, "partitions": [0]}]}),
    "DescribeTopicPartitions": Base({
        "topics": [{"name": PLAIN}], "partition_limit": 100, "cursor": None,
    }),
    "AlterPartitionReassignments": Base({
        "timeout_ms": 5_000, "allow_factor_change": True,
        "topics": [{"name": PLAIN, "partitions": [{"index": 0, "replicas": [1]}]}],
    }),
    "ListPartitionReassignments": Base({
        "timeout_ms": 5_000, "topics": [{"name": PLAIN, "partitions": [0]}],
    }),
    "DescribeClientQuotas": Base({
        "components": [{"kind": "user", "match": 0, "name": "quota-user"}], "strict": False,
    }),
    "AlterClientQuotas": Base({
        "entries": [{
            "entity": [{"kind": "user", "name": fresh}],
            "changes": [{"key": "producer_byte_rate", "value": 1e9, "remove": False}],
        }],
        "validate_only": False,
    }),
}  # fmt: skip

LEFT_OUT: Final = {
    ("Fetch", "max_wait_ms", str((1 << 31) - 1)),
    ("Metadata", "topics", "null"),
    ("Metadata", "topics", "empty"),
    *{
        (api, "topics.0.partitions.0.current_leader_epoch", number)
        for api in ("Fetch", "ListOffsets", "OffsetForLeaderEpoch")
        for number in ("0", "1")
    },
}
"""(API, field, what is wrong) of which the answer depends on the cases before, or never comes, or
is right on one side only, since leaders begin to count at 0 there and at 1 here."""
