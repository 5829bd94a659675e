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
    "there are no such resources": {74: "ListConfigResources"},
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
    rows = ["| Setting | From the configuration file | What it is |", "|---|---|---|"]
    for each in node_settings(FACTS):
        where = f"`{each.why}`" if each.from_file else ""
        rows.append(f"| `{each.name}` | {where} | {'' if each.from_file else each.why} |")
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
        "Read-only over the wire; a request to change one is refused.",
        "\n".join(settings_of_nodes()),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
