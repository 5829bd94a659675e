"""The settings of a node as Kafka's clients read them: what is in force here, under Kafka's names.

Rules: a node's settings are its configuration file's and are changed there, never over the wire; so
all are read-only, and a request to change one is refused with what to do instead.
"""

from typing import Final

import msgspec

from appliance.broker.topic_settings import WEEK_MS
from appliance.limits import (
    DEFAULT_BATCH_BYTES,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_FETCH_BYTES,
    MAX_FETCH_SESSIONS,
    MAX_FRAME_BYTES,
    MAX_IDLE_S,
    MAX_OFFSET_METADATA_BYTES,
    PRODUCER_EXPIRY_MS,
)
from appliance.types import NodeId
from appliance.wire.requests import SettingKind

BOOLEAN, STRING, INT = SettingKind.BOOLEAN, SettingKind.STRING, SettingKind.INT
LONG, LIST = SettingKind.LONG, SettingKind.LIST

CHANGED_IN_THE_FILE: Final = (
    "a node's settings are changed in its configuration file; then restart it"
)


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from node to node, or by its configuration."""

    node: NodeId
    rack: str | None
    auto_create: bool
    default_partitions: int
    default_replicas: int
    first_join_delay_ms: int


class NodeSetting(msgspec.Struct, frozen=True):
    """One setting as it is in force; `from_file` says whether the configuration file gives it."""

    name: str
    kind: SettingKind
    value: str | None
    why: str
    from_file: bool = False


def node_settings(facts: NodeFacts) -> tuple[NodeSetting, ...]:
    """Every setting that is told, by name."""

    def bound(name: str, value: int, why: str) -> NodeSetting:
        return NodeSetting(name, LONG if value >> 31 else INT, str(value), why)

    def given(name: str, kind: SettingKind, value: str | None, why: str) -> NodeSetting:
        return NodeSetting(name, kind, value, why, from_file=True)

    return (
        given("auto.create.topics.enable", BOOLEAN, _flag(facts.auto_create), "topics.auto_create"),
        given("broker.id", INT, str(facts.node), "node.id"),
        given("broker.rack", STRING, facts.rack, "node.rack"),
        NodeSetting("compression.type", STRING, "producer", "batches are kept as they came"),
        bound("connections.max.idle.ms", MAX_IDLE_S * 1000, "before an idle connection is closed"),
        given(
            "default.replication.factor",
            INT,
            str(facts.default_replicas),
            "topics.default_replication",
        ),
        NodeSetting("delete.topic.enable", BOOLEAN, "true", "whoever may delete a topic can"),
        bound("fetch.max.bytes", MAX_FETCH_BYTES, "what one fetch may ask for"),
        bound(
            "group.initial.rebalance.delay.ms",
            facts.first_join_delay_ms,
            "how long an empty group waits for more members",
        ),
        NodeSetting("log.cleanup.policy", LIST, "delete", "the default of a topic's"),
        NodeSetting("log.retention.bytes", LONG, "-1", "the default of a topic's"),
        bound("log.retention.ms", WEEK_MS, "the default of a topic's"),
        bound("max.connections", MAX_CONNECTIONS, "of one listener"),
        bound("max.connections.per.ip", MAX_CONNECTIONS_PER_ADDRESS, "of one listener"),
        bound("max.incremental.fetch.session.cache.slots", MAX_FETCH_SESSIONS, "fetch sessions"),
        bound("message.max.bytes", DEFAULT_BATCH_BYTES, "the default of a topic's"),
        NodeSetting(
            "min.insync.replicas",
            INT,
            "1",
            "the default of a topic's, beside a majority",
        ),
        given("node.id", INT, str(facts.node), "node.id"),
        given("num.partitions", INT, str(facts.default_partitions), "topics.default_partitions"),
        bound("offset.metadata.max.bytes", MAX_OFFSET_METADATA_BYTES, "of one committed offset"),
        NodeSetting("process.roles", LIST, "broker,controller", "every node is both"),
        bound(
            "producer.id.expiration.ms", PRODUCER_EXPIRY_MS, "before a silent producer is forgotten"
        ),
        bound("socket.request.max.bytes", MAX_FRAME_BYTES, "the largest request"),
        NodeSetting(
            "unclean.leader.election.enable",
            BOOLEAN,
            "false",
            "a leader that lacks acknowledged records is never elected",
        ),
    )


def _flag(value: bool) -> str:
    return "true" if value else "false"
