"""Makes docs/kafka-apis.md from the declarations; run this file to write it anew."""

from pathlib import Path

from appliance.broker.node_settings import NodeFacts, node_settings
from appliance.broker.topic_settings import TOPIC_SETTINGS
from appliance.wire.kafka.apis.registry import APIS
from appliance.wire.kafka.features import FEATURES

PAGE = Path(__file__).parents[3] / "docs" / "kafka-apis.md"

NOT_SERVED = {
    "transactions come later; a transactional id is refused": {
        24: "AddPartitionsToTxn",
        25: "AddOffsetsToTxn",
        26: "EndTxn",
        27: "WriteTxnMarkers",
        28: "TxnOffsetCommit",
        65: "DescribeTransactions",
        66: "ListTransactions",
    },
    "replica log directories: a node has one directory": {
        34: "AlterReplicaLogDirs",
        73: "AssignReplicasToDirs",
    },
    "delegation tokens: a login is by certificate, SCRAM or an issuer's token": {
        38: "CreateDelegationToken",
        39: "RenewDelegationToken",
        40: "ExpireDelegationToken",
        41: "DescribeDelegationToken",
    },
    "offsets are deleted with their group or topic": {47: "OffsetDelete"},
    "KRaft between Kafka's own brokers and controllers; our nodes speak a protocol of their own": {
        52: "Vote",
        53: "BeginQuorumEpoch",
        54: "EndQuorumEpoch",
        56: "AlterPartition",
        58: "Envelope",
        59: "FetchSnapshot",
        62: "BrokerRegistration",
        63: "BrokerHeartbeat",
        64: "UnregisterBroker",
        67: "AllocateProducerIds",
        70: "ControllerRegistration",
        80: "AddRaftVoter",
        81: "RemoveRaftVoter",
        82: "UpdateRaftVoter",
    },
    "groups of the newer protocol (KIP-848) come later": {
        68: "ConsumerGroupHeartbeat",
        69: "ConsumerGroupDescribe",
    },
    "share groups and streams groups": {
        76: "ShareGroupHeartbeat",
        77: "ShareGroupDescribe",
        78: "ShareFetch",
        79: "ShareAcknowledge",
        83: "InitializeShareGroupState",
        84: "ReadShareGroupState",
        85: "WriteShareGroupState",
        86: "DeleteShareGroupState",
        87: "ReadShareGroupStateSummary",
        88: "StreamsGroupHeartbeat",
        89: "StreamsGroupDescribe",
        90: "DescribeShareGroupOffsets",
        91: "AlterShareGroupOffsets",
        92: "DeleteShareGroupOffsets",
    },
}
"""Every API of Kafka 4 that is not served, under the reason why."""

NOT_TOLD = {
    "listeners, TLS and logins are `[listeners]` and `[tls]` of the node's file": (
        "listeners", "advertised.listeners", "listener.*", "inter.broker.listener.name",
        "security.*", "ssl.*", "sasl.*", "connections.max.reauth.ms",
        "connection.failed.authentication.delay.ms",
    ),
    "one gate decides, by the policy; there is no other and no way around it": (
        "authorizer.class.name", "super.users", "allow.everyone.if.no.acl.found",
        "principal.builder.class", "early.start.listeners", "create.topic.policy.class.name",
        "alter.config.policy.class.name",
    ),
    "a node has one directory, `node.data`, and files by the store's own rules": (
        "log.dir", "log.dirs", "log.segment.*", "log.index.*", "log.roll.*", "log.preallocate",
        "log.dir.failure.timeout.ms", "log.initial.task.delay.ms",
        "num.recovery.threads.per.data.dir",
    ),
    "every batch is synced before it is acknowledged": ("log.flush.*",),
    "topics have their own settings, and otherwise the defaults above": (
        "log.retention.hours", "log.retention.minutes", "log.retention.check.interval.ms",
        "log.message.timestamp.*", "log.cleaner.*", "compression.gzip.level",
        "compression.lz4.level", "compression.zstd.level",
    ),
    "one event loop, and threads for disks and cryptography; bounds are in `appliance/limits.py`": (
        "num.io.threads", "num.network.threads", "background.threads", "num.replica.*",
        "queued.*", "socket.listen.backlog.size", "socket.receive.buffer.bytes",
        "socket.send.buffer.bytes", "max.request.partition.size.limit",
    ),
    "partitions, groups and the catalogue are replicated by consensus, with bounds of its own": (
        "replica.*", "controller.*", "controller.quorum.*", "metadata.*",
        "broker.session.timeout.ms",
        "broker.heartbeat.interval.ms", "initial.broker.registration.timeout.ms",
        "server.max.startup.time.ms", "unstable.*", "fetch.purgatory.*", "producer.purgatory.*",
        "delete.records.purgatory.*", "request.timeout.ms",
    ),
    "leadership returns to the first of a partition's nodes, and stays off drained ones": (
        "auto.leader.rebalance.enable", "leader.imbalance.*", "controlled.shutdown.enable",
        "unclean.leader.election.interval.ms",
    ),
    "readers that name their rack are served there; there is one way": ("replica.selector.class",),
    "quotas are set for users, clients and addresses; their window is ten seconds": (
        "quota.*", "controller.quota.*", "replication.quota.*",
        "alter.log.dirs.replication.quota.*",
        "client.quota.callback.class.name", "max.connection.creation.rate",
        "max.connections.per.ip.overrides",
    ),
    "groups of the classic protocol have the bounds of `appliance/limits.py`": (
        "group.coordinator.*", "group.min.session.timeout.ms", "group.max.session.timeout.ms",
        "group.max.size", "offsets.*",
    ),
    "the newer protocols of groups are not served": (
        "group.consumer.*", "group.share.*", "group.streams.*", "share.coordinator.*",
    ),
    "transactions are not served": ("transaction.*", "transactional.id.expiration.ms",
        "producer.id.expiration.check.interval.ms"),
    "there is no tiered storage": ("remote.*", "log.local.*"),
    "there are no delegation tokens": ("delegation.token.*",),
    "nothing that a setting names is loaded as code": (
        "metric.reporters", "metrics.*", "auto.include.jmx.reporter", "config.providers",
        "client.metrics.*", "telemetry.*",
    ),
}  # fmt: skip
"""Settings of Kafka's brokers that no node tells of, under the reason why."""

FACTS = NodeFacts(
    node=1,
    rack="rack",
    auto_create=False,
    default_partitions=1,
    default_replicas=3,
    first_join_delay_ms=500,
)


def served() -> list[str]:
    rows = ["| Key | API | Versions | Advertised |", "|---|---|---|---|"]
    for api in APIS:
        lowest = api.lowest if api.advertised_from is None else api.advertised_from
        advertised = "as served" if lowest == api.lowest else f"{lowest} to {api.highest}"
        versions = (
            str(api.lowest) if api.lowest == api.highest else f"{api.lowest} to {api.highest}"
        )
        rows.append(f"| {api.key} | {api.name} | {versions} | {advertised} |")
    return rows


def not_served() -> list[str]:
    rows = ["| APIs | Why |", "|---|---|"]
    for why, apis in NOT_SERVED.items():
        names = ", ".join(f"{name} ({key})" for key, name in sorted(apis.items()))
        rows.append(f"| {names} | {why} |")
    return rows


def topic_settings() -> list[str]:
    rows = ["| Setting | Default | Standing | What it does, or why not |", "|---|---|---|---|"]
    for each in TOPIC_SETTINGS:
        value = "" if each.value is None else f"`{each.value}`"
        rows.append(f"| `{each.name}` | {value} | {each.standing} | {each.why} |")
    return rows


def settings_of_nodes() -> list[str]:
    rows = ["| Setting | Value | Standing | Where it is set, or what it is |", "|---|---|---|---|"]
    for each in node_settings(FACTS):
        if each.from_file:
            rows.append(f"| `{each.name}` |  | honoured | `{each.why}` in the configuration file |")
        else:
            rows.append(f"| `{each.name}` | `{each.value}` | one value only | {each.why} |")
    return rows


def settings_not_told() -> list[str]:
    rows = ["| Settings | Why there are none such |", "|---|---|"]
    for why, names in NOT_TOLD.items():
        rows.append(f"| {', '.join(f'`{name}`' for name in names)} | {why} |")
    return rows


MADE = """Made from the declarations by `python tests/unit/kafka/kafka_documentation.py`;
a test holds the two equal."""

ADVERTISED = """What is not served is not advertised, with Kafka 4's own exception: Produce from
version 0, because clients built on librdkafka switch their codecs off otherwise (KAFKA-18659).
Versions 0 to 2 are refused. So is version 0 of SaslHandshake, which librdkafka 2.0 looks for."""


def page() -> str:
    features = [f"| {f.name} | {f.lowest} to {f.highest} | {f.finalised} |" for f in FEATURES]
    parts = [
        "# What of Kafka's protocol is served",
        MADE,
        "## APIs",
        "\n".join(served()),
        ADVERTISED,
        "## Not served",
        "\n".join(not_served()),
        "## Finalised features",
        "\n".join(["| Feature | Levels | Finalised |", "|---|---|---|", *features]),
        "## Settings of topics",
        "\n".join(topic_settings()),
        "## Settings of nodes",
        "Read-only over the wire: a request to change one is refused, and so is every other name.",
        "\n".join(settings_of_nodes()),
        "\n".join(settings_not_told()),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
