"""The differences that are meant, each with its reason.

A reason names an API, the cases, the place in the answer and both values, each as a pattern of
`fnmatch` or several with `|` between; what a new request or a new version differs in is not among
them. `-1` for Kafka's error is UNKNOWN_SERVER_ERROR: it tripped, and says so.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final


@dataclass(frozen=True)
class Meant:
    """A difference: at which APIs, cases and places, what either side says, and why it is so."""

    why: str
    api: str = "*"
    case: str = "*"
    place: str = "*"
    kafka: str = "*"
    ours: str = "*"
    versions: range = range(-1, 1_000)


_TOPICS_ERROR: Final = "topics[*].error"
_PARTS_ERROR: Final = "topics[*].partitions[*].error"
_NOT_HAD: Final = (
    "compression.gzip.level", "compression.lz4.level", "compression.zstd.level",
    "file.delete.delay.ms", "flush.messages", "flush.ms", "follower.replication.throttled.replicas",
    "index.interval.bytes", "leader.replication.throttled.replicas", "local.retention.bytes",
    "local.retention.ms", "max.compaction.lag.ms", "preallocate", "remote.log.copy.disable",
    "remote.log.delete.on.disable", "remote.storage.enable", "segment.index.bytes",
    "segment.jitter.ms",
)  # fmt: skip
"""Topic settings of Kafka's that the appliance does not have."""
_NAMED_BY_NODE: Final = (
    "log.*", "message.max.bytes", "min.insync.replicas", "min.insync.replicas#2",
)  # fmt: skip
_TRIPS: Final = "Kafka trips over the value (UNKNOWN_SERVER_ERROR)"
_NO_TOPIC: Final = "a name that no topic can have is a topic that is not there, as to a stranger"
_LONG_GROUP: Final = "names of groups are bounded as those of topics are"

_NOT_SERVED: Final = (
    *range(24, 29), 34, *range(38, 42), 47, *range(64, 67), 68, 69, *range(76, 82), *range(83, 93),
)  # fmt: skip
"""Keys of APIs: transactions, delegation tokens, replica directories, KRaft, share and streams."""


def _settings(*names: str) -> str:
    return "|".join(f"{where}[*].settings[{n}]" for where in ("topics", "resources") for n in names)


SETTINGS: Final = (
    Meant("the setting has no meaning here, so it is not told of", "CreateTopics|DescribeConfigs",
          "*", _settings(*_NOT_HAD), "there", "absent"),
    Meant("a setting of the appliance's own", "CreateTopics|DescribeConfigs", "*",
          _settings("memorystreamer.key.domain"), "absent", "there"),
    Meant("Kafka sets it for the whole cluster when it is formatted, here it is a default",
          "CreateTopics|DescribeConfigs", "*",
          _settings("min.insync.replicas") .replace("]|", "].source|") + ".source|resources[*]."
          "settings[min.insync.replicas].synonyms[min.insync.replicas].source", "3", "5"),
    Meant("a node's file has no settings for all topics, so no name of one stands behind a topic's",
          "DescribeConfigs", "*", "|".join(f"resources[*].settings[*].synonyms[{n}]"
                                           for n in _NAMED_BY_NODE), "there", "absent"),
    Meant("the default stands behind a topic's setting under the topic's name for it",
          "DescribeConfigs", "*", "resources[*].settings[*].synonyms[*]", "absent", "there"),
    Meant("under an empty policy nothing is ever removed: a topic would grow for ever",
          "CreateTopics", "*: setting: empty policy", _TOPICS_ERROR, "0", "40"),
    Meant("the broker compresses nothing anew: a batch is stored as its producer sent it",
          "CreateTopics", "*: setting: codec", _TOPICS_ERROR, "0", "40"),
    Meant("a leader that lacks acknowledged records is never elected",
          "CreateTopics", "*: setting: unclean", _TOPICS_ERROR, "0", "40"),
    Meant("one setting with two values is refused, not settled by their order",
          "CreateTopics", "*: one setting twice", _TOPICS_ERROR, "0", "40"),
    Meant("one setting with two values is refused, not settled by their order",
          "CreateTopics", "*settings twice", _TOPICS_ERROR, "0", "40"),
    Meant("the same refusal under the code for settings", "AlterConfigs", "*settings twice",
          "resources[*].error", "42", "40"),
)  # fmt: skip

FETCHING: Final = (
    Meant("no transactions are served: none was aborted, and an empty list says so",
          "Fetch", "*", "topics[*].partitions[*].aborted_transactions", "None", "rows"),
    Meant("only whole batches are sent: a part of one is thrown away by every client",
          "Fetch", "*", "topics[*].partitions[*].batches.rest", "*", "0"),
    Meant(f"{_TRIPS}; without transactions, every level reads the same", "Fetch|ListOffsets",
          "*isolat*", f"error|{_PARTS_ERROR}", "-1", "0"),
    Meant(f"{_TRIPS}; a limit below 0 lets one batch through, as 0 does", "Fetch",
          "*max_bytes -*", f"error|{_PARTS_ERROR}", "-1", "0"),
    Meant("no client is a replica: nodes copy from each other elsewhere, the field says nothing",
          "Fetch", "*replica_id*|*replica_state*", _PARTS_ERROR, "6|75", "0"),
    Meant(f"{_TRIPS}: the number divides to a shard of sessions that there is not; here nobody"
          " has that session", "Fetch", "*session_id 2147483647", "error", "-1", "0"),
    Meant("a session of nothing is not held: it would take the place of another", "Fetch",
          "*session: of nothing", "session_id", "a session", "0"),
    Meant("the id of zero is read as no id, and no topic has the empty name",
          "Fetch|Produce|OffsetCommit", "*unknown topic|*known and an unknown|*topic_id none"
          "|*no topic of this name or id", "topics[].partitions[*].error", "100", "3"),
    Meant("the id of zero is read as no id, and a session is of ids or of names", "Fetch",
          "*session: an unknown one more", "error", "0", "106", range(13, 19)),
    Meant("of a session the number counts, which is drawn at random", "Fetch",
          "*session: *", "session_id", "*[0-9]*[0-9]*[0-9]*", "*[0-9]*[0-9]*[0-9]*"),
    Meant("no epoch below 0 has an end", "OffsetForLeaderEpoch", "*.leader_epoch -2",
          "topics[*].partitions[*].end_offset|topics[*].partitions[*].leader_epoch", "0|-2", "-1"),
    Meant("epochs of leaders begin at 1 here and at 0 in Kafka", "Fetch|OffsetForLeaderEpoch",
          "*last_fetched_epoch [01]|*.leader_epoch [01]", f"{_PARTS_ERROR}|topics[*].partitions[*]."
          "end_offset|topics[*].partitions[*].leader_epoch"),
)  # fmt: skip

PRODUCING: Final = (
    Meant("a refusal is told in words too", "Produce|CreatePartitions|DescribeProducers"
          "|AlterPartitionReassignments|DescribeConfigs", "*",
          "topics[*].partitions[*].message|topics[*].message|resources[*].message", "None|",
          "words"),
    Meant("records are opaque: they are not decompressed, so nobody sees what is in them",
          "Produce", "*: batch: * says GZIP|*: batch: * of no bytes"
          "|*: batch: records that are none|*: batch: a negative record length",
          _PARTS_ERROR, "-1|87|76", "0"),
    Meant("the codec is named as unknown, where Kafka trips", "Produce", "*: batch: codec *",
          _PARTS_ERROR, "-1", "76"),
    Meant("records are opaque: how many there are is the header's word", "Produce",
          "*: batch: count and delta too large", _PARTS_ERROR, "87", "0"),
    Meant("a codec is a matter between clients: an old version may carry a new one", "Produce",
          "*: batch: * in ZSTD", _PARTS_ERROR, "76", "0", range(3, 7)),
    Meant("what follows a batch is no batch, and is refused with it", "Produce",
          "*: batch: a byte after it", _PARTS_ERROR, "0", "87"),
    Meant("attributes are the producer's word, and only those that mean something are taken",
          "Produce", "*: batch: an unknown attribute|*: batch: a producer of epoch -1"
          "|*: batch: append time", _PARTS_ERROR, "0", "87|32"),
    Meant("transactions are not served", "Produce",
          "*: batch: transactional|*: transactional_id *", _PARTS_ERROR, "0|53", "48|87"),
    Meant("with an error no offset is told: there is none that it could be about", "Produce",
          "*: batch: *|*: compacted: *|*: sequence: *",
          "topics[*].partitions[*].log_start_offset", "0", "-1"),
    Meant("a batch sent again has no time of appending where producers tell the time; Kafka gives"
          " the batch's own", "Produce", "*: sequence: *",
          "topics[*].partitions[*].log_append_time_ms", "*", "-1"),
    Meant("which record was at fault is not told: the broker does not look at single records",
          "Produce", "*: batch: *|*: compacted: *", "topics[*].partitions[*].record_errors[*]",
          "there", "absent"),
    Meant(f"{_TRIPS[:-23]} and answers nothing; here it is refused", "Produce",
          "*: batch: no batch|*.batch null", "", "no answer", "answered"),
    Meant("transactions are not served", "InitProducerId", "*transactional_id *", "error",
          "*", "42"),
    Meant("Kafka has no ids to give when it is asked first (COORDINATOR_LOAD_IN_PROGRESS)",
          "InitProducerId", "*", "error", "14", "0"),
    Meant("nobody's transactions are coordinated, as none are served", "FindCoordinator",
          "*key_type 1", "error|coordinators[*].error", "*", "42"),
)  # fmt: skip

GATE: Final = (
    Meant(_NO_TOPIC, "DescribeConfigs|AlterConfigs|IncrementalAlterConfigs|DescribeProducers"
          "|DescribeTopicPartitions", "*name empty|*name ill-formed|*name long",
          f"resources[*].error|{_TOPICS_ERROR}|{_PARTS_ERROR}", "17|42|-1", "3"),
    Meant("a topic that is not there has no operations", "DescribeTopicPartitions", "*name unknown",
          "topics[*].operations", "*", "-2147483648"),
    Meant("no topic of the appliance's own holds groups or transactions: they are kept otherwise",
          "Metadata|DescribeTopicPartitions|ElectLeaders", "*",
          "topics[__consumer_offsets]|topics[__transaction_state]", "there", "absent"),
    Meant("no metric has its name from a topic's, so names that differ in . and _ do not collide",
          "CreateTopics", "*: a name that collides", "topics[a_name].error", "17", "0|36"),
    Meant("no metric has its name from a topic's, so names that differ in . and _ do not collide",
          "DescribeTopicPartitions|Metadata", "*", "topics[a_name]", "absent", "there"),
    Meant("nothing was made, so it has no id", "CreateTopics",
          "*: only judged|*: validate_only flipped", "topics[*].topic_id", "an id", "None"),
    Meant("the version declares ids and serves none, in Kafka too: the request is refused whole",
          "Metadata", "*: by id|*of nobody|*: neither|*: *topic_id *|*: *name null*", "",
          "answered", "closed",
          range(10, 12)),
    Meant("who names a topic and its id is answered by the name where ids are not served, and by"
          " the id where they are; Kafka refuses, and tells nothing of the cluster", "Metadata",
          "*: by id and name|*topic_id *|*: neither|*name null",
          "topics[*]|topics[*].error|brokers[*]|cluster_id"
          "|controller_id|operations", "*", "*", range(10, 13)),
    Meant("who asks for a topic by nothing is told of none", "Metadata",
          "*: topics: neither|*name null",
          "topics[]|error", "there|-1", "absent|0"),
    Meant("a topic of that name is like any other: no name is the broker's own",
          "CreateTopics|DescribeTopicPartitions", "*",
          "topics[__consumer_offsets].*", "36|True", "0|False"),
    Meant("of all partitions only those are named where there was something to do; Kafka names"
          " every topic, with no partition beneath", "ElectLeaders", "*topics null", "topics[*]",
          "there", "absent"),
    Meant("unclean elections are refused, and those of no known kind", "ElectLeaders",
          "*election_type *", "error", "0", "42"),
    Meant("what is refused whole has no rows", "ElectLeaders", "*election_type *", "topics[*]",
          "there", "absent"),
    Meant("topics are there whose creation the other side refused, by a reason of this table",
          "ListConfigResources", "*kinds empty",
          "resources[fresh-*]|resources[a_name]|resources[__transaction_state]"),
    Meant("a node's loggers have no settings that are told of", "ListConfigResources",
          "*kinds empty", "resources[1]|resources[1#2]|resources[1].kind", "there|8", "absent|4"),
    Meant("a path of the server's is told to nobody", "DescribeLogDirs", "*",
          "directories[/tmp/*]", "there", "absent"),
    Meant("a path of the server's is told to nobody", "DescribeLogDirs", "*", "directories[data]",
          "absent", "there"),
    Meant("what stands after a request is refused: it is not what the client thinks it is", "*",
          "*: a byte long", "", "answered", "closed"),
    Meant("the request before was a byte long and refused here, so its member is still there and"
          " takes its place back (KIP-345)", "JoinGroup", "LeaveGroup v*: an unknown tag",
          "leader|members[*]", "a member|there", "its member|absent"),
    Meant("a topic to delete is named by its name or by its id: by both or by neither is no"
          " request, and refused whole", "DeleteTopics",
          "*: topics.0.name null|*: topics.0.topic_id of nobody", "", "answered", "closed"),
    Meant("what was asked for twice is answered twice, place by place",
          "Produce|Fetch|ListOffsets|DeleteTopics|CreateTopics|CreatePartitions|DeleteRecords"
          "|DeleteGroups|AlterClientQuotas|OffsetForLeaderEpoch|DescribeProducers", "* twice",
          "topics[*]|topics[*].partitions[*]|groups[*]|entries[*]", "absent", "there"),
    Meant("a topic without partitions has a row without them",
          "OffsetCommit|Fetch|Produce|ListOffsets|DeleteRecords|OffsetForLeaderEpoch",
          "*partitions empty", "topics[*]", "absent", "there"),
    Meant("a feature that is refused has its row beside the error of all", "UpdateFeatures", "*",
          "features[*]", "absent", "there"),
    Meant("an empty text is no message to Kafka, here it is null: every client takes both", "*",
          "*", "message|results[*].message|resources[*].message|coordinators[*].message"
          "|topics[__cluster_metadata].partitions[*].message", "|words", "None"),
    Meant("what was done is told; Kafka gives up waiting, and may do it all the same",
          "CreateTopics|DeleteTopics|CreatePartitions|ElectLeaders|AlterPartitionReassignments",
          "*: timeout_ms *", f"error|{_TOPICS_ERROR}|{_PARTS_ERROR}", "7", "0|84"),
    Meant("so many partitions are no count that a topic could have",
          "CreateTopics|CreatePartitions", "*count 2147483647", _TOPICS_ERROR, "44|-1", "37"),
)  # fmt: skip

GROUPS: Final = (
    Meant(_LONG_GROUP, "JoinGroup|SyncGroup|Heartbeat|LeaveGroup|OffsetCommit", "*: group long",
          f"error|{_PARTS_ERROR}", "0|25|79|22|69", "24"),
    Meant(_LONG_GROUP, "JoinGroup", "*: group long", "", "no answer", "answered"),
    Meant(_LONG_GROUP, "DescribeGroups|ListGroups|DeleteGroups", "*",
          "groups[xxxxxxxx*]|groups[xxxxxxxx*].*", "*", "absent|Dead||69"),
    Meant("a group has a name: the empty one is refused", "OffsetCommit", "*: group empty",
          _PARTS_ERROR, "22|69", "24"),
    Meant("a group that its last member left is forgotten: who comes late is told to join again",
          "OffsetCommit", "*: group *", _PARTS_ERROR, "69", "22", range(9, 11)),
    Meant("an offset below 0 is refused", "OffsetCommit", "*.offset -*", _PARTS_ERROR, "0", "42"),
    Meant("time-outs are bounded, that of rebalancing too", "JoinGroup",
          "*: rebalance_timeout_ms *", "error", "0|79", "26"),
    Meant("Kafka counts the time without members as a generation; here a group that its last member"
          " left is forgotten, and its count with it", "JoinGroup", "LeaveGroup v*",
          "generation_id", "[3579]|[12][13579]", "[1-9]"),
    Meant("an instance has a name, bounded as others are", "JoinGroup",
          "*: group_instance_id empty|*: group_instance_id long", "error", "0", "42"),
    Meant("Kafka trips over a name twice and answers nothing; here the first counts", "JoinGroup",
          "*: protocols twice", "", "no answer", "answered"),
    Meant("operations are told of a group that is not there too", "DescribeGroups",
          "*: groups.0 empty", "groups[*].operations", "-2147483648", "3400"),
)  # fmt: skip

CLUSTER: Final = (
    Meant("not served, so not shown: docs/kafka-apis.md says why", "ApiVersions", "*",
          "|".join(f"apis[{key}]" for key in _NOT_SERVED), "there", "absent"),
    Meant("Kafka shows the telemetry of clients where a plugin takes it, here it is built in",
          "ApiVersions", "*", "apis[71]|apis[72]", "absent", "there"),
    Meant("a text is UTF-8", "frames", "a client id that is no text", "", "*", "closed"),
    Meant("the log of the catalogue is at its own place", "DescribeQuorum", "*",
          "topics[__cluster_metadata].partitions[*].leader_epoch|topics[__cluster_metadata]"
          ".partitions[*].high_watermark|topics[*].partitions[*].voters[*].log_end_offset",
          "[0-9]*", "[0-9]*"),
    Meant("unknown is -1, and not a number that could be meant", "DescribeQuorum", "*",
          "topics[*].partitions[*].leader_id|topics[*].partitions[*].leader_epoch"
          "|topics[*].partitions[*].high_watermark", "0|current", "-1"),
    Meant("every partition that was asked for is judged by itself", "DescribeQuorum", "*twice",
          _PARTS_ERROR, "3", "0"),
    Meant("listeners have their own names", "DescribeQuorum", "*", "nodes[*].listeners[KAFKA]",
          "absent", "there"),
    Meant("nodes are told whatever was asked", "DescribeQuorum", "*", "nodes[*]", "absent",
          "there"),
    Meant("listeners have their own names", "DescribeQuorum", "*", "nodes[*].listeners[CONTROLLER]",
          "there", "absent"),
    Meant("the feature is not had", "ApiVersions", "*", "|".join(
          f"{where}[{name}.version]" for where in ("finalised", "supported") for name in (
              "group", "streams", "transaction", "eligible.leader.replicas", "share", "kraft")),
          "there", "absent"),
    Meant("the level of metadata that this wire needs; Kafka's is that of its own log",
          "ApiVersions", "*", "finalised[metadata.version].*|supported[metadata.version].*",
          "30", "25"),
    Meant(f"{_TRIPS[:-23]} and hangs up; here it is answered", "DescribeAcls|CreateAcls|DeleteAcls",
          "*kind 0|*pattern 0|*operation 0|*permission 0", "", "closed", "answered"),
    Meant("a rule of no known kind is refused by name, where Kafka trips", "CreateAcls",
          "*.kind *|*.pattern *|*.operation *|*.permission *", "results[*].error", "-1", "42"),
    Meant("a filter of no known kind is refused, not taken for one that fits nothing",
          "DescribeAcls", "*: pattern *|*: operation *|*: permission *", "error",
          "0", "42"),
    Meant("rules are there whose creation was refused here, as this table says", "DeleteAcls",
          "*filters.0.name null", "results[*].acls[fresh-*]|results[*].acls[bad name!]"
          "|results[*].acls[xxxxxxxx*]", "there", "absent"),
    Meant("rules are there whose deletion, a byte long, was refused here", "DeleteAcls",
          "*filters.0.name null", "results[*].acls[fresh-*]", "absent", "there"),
    Meant("the appliance has rules from its first start", "DescribeAcls", "*: name null",
          "resources[*]", "absent", "there"),
    Meant("a rule is of names that can be and of addresses; Kafka keeps what can never fit",
          "CreateAcls", "*.name ill-formed|*.name long|*.host *", "results[*].error", "0", "42"),
    Meant("Kafka trips over a thing twice and answers nothing", "AlterConfigs", "*resources twice",
          "", "no answer", "answered"),
    Meant("who is named by two values of one kind is nobody", "AlterClientQuotas",
          "*.entity twice", "entries[*].error", "0", "42"),
    Meant("a name of a user or client is bounded, and a rate is a number", "AlterClientQuotas",
          "*.entity.0.name long|*.value nan", "entries[*].error", "0", "42"),
    Meant("an operation of none is refused by name, where Kafka trips", "IncrementalAlterConfigs",
          "*.operation *", "resources[*].error", "-1", "42"),
    Meant("a user has a name and a password has its salt, each within bounds",
          "AlterUserScramCredentials", "*: upsertions.0.salt empty|*: upsertions.0.name *"
          "|*: upsertions.0.salted_password *", "users[*].error", "0|-1", "93"),
)  # fmt: skip

MEANT: Final[tuple[Meant, ...]] = (*SETTINGS, *FETCHING, *PRODUCING, *GATE, *GROUPS, *CLUSTER)


def explain(api: str, version: int, case: str, place: str, theirs: str, ours: str) -> int | None:
    """The number of the first reason that fits a difference."""
    for number, each in enumerate(MEANT):
        if (
            version in each.versions
            and _fits(api, each.api)
            and _fits(place, each.place)
            and _fits(theirs, each.kafka, literal=False)
            and _fits(ours, each.ours, literal=False)
            and _fits(case, each.case, literal=False)
        ):
            return number
    return None


def _fits(told: str, patterns: str, *, literal: bool = True) -> bool:
    """Whether one of the patterns fits; in places, brackets stand for themselves."""
    plain = patterns.replace("[", "[[]") if literal else patterns
    return any(fnmatchcase(told, each) for each in plain.split("|"))
