"""Every answer of the broker, refusals included, can be said in every served version."""

import pytest

from appliance.errors import ErrorCode
from appliance.wire.kafka.apis.registry import APIS
from appliance.wire.kafka.codec import Call, encode
from appliance.wire.requests import (
    Acl,
    AclFilter,
    AlterClientQuotas,
    AlterConfigs,
    AlterPartitionReassignments,
    AlterUserScramCredentials,
    AskedSettings,
    CommitPartition,
    CommitTopic,
    CreateAcls,
    CreatePartitions,
    CreateTopics,
    DeleteAcls,
    DeleteGroups,
    DeleteRecords,
    DeleteRecordsPartition,
    DeleteRecordsTopic,
    DeleteTopics,
    DescribeAcls,
    DescribeClientQuotas,
    DescribeCluster,
    DescribeConfigs,
    DescribeGroups,
    DescribeLogDirs,
    DescribeProducers,
    DescribeQuorum,
    DescribeTopicPartitions,
    DescribeUserScramCredentials,
    ElectLeaders,
    EpochPartition,
    EpochTopic,
    FeatureUpdate,
    Fetch,
    FetchPartition,
    FetchTopic,
    FindCoordinator,
    GetTelemetrySubscriptions,
    GroupProtocol,
    Heartbeat,
    IncrementalAlterConfigs,
    InitProducerId,
    JoinGroup,
    LeaveGroup,
    ListConfigResources,
    ListGroups,
    ListOffsets,
    ListOffsetsPartition,
    ListOffsetsTopic,
    ListPartitionReassignments,
    Metadata,
    MorePartitions,
    NamedPartitions,
    NewTopic,
    OffsetCommit,
    OffsetFetch,
    OffsetFetchGroup,
    OffsetForLeaderEpoch,
    PushTelemetry,
    QuotaChange,
    QuotaComponent,
    QuotaEntityPart,
    QuotasToChange,
    ReassignedPartition,
    ReassignedTopic,
    SaslAuthenticate,
    SaslHandshake,
    ScramDeletion,
    SettingsToChange,
    SettingsToReplace,
    SyncGroup,
    UpdateFeatures,
)

ASKED = {
    1: Fetch(0, 0, 100, 0, (FetchTopic("orders", (FetchPartition(0, 0, 100),)),)),
    2: ListOffsets(0, (ListOffsetsTopic("orders", (ListOffsetsPartition(0, -1),)),)),
    3: Metadata(("orders", "absent")),
    8: OffsetCommit("readers", -1, "", (CommitTopic("orders", (CommitPartition(0, 0),)),)),
    9: OffsetFetch((OffsetFetchGroup("readers", (("orders", (0,)),)),)),
    10: FindCoordinator(0, ("readers",)),
    11: JoinGroup("readers", 10_000, 10_000, "", "consumer", (GroupProtocol("range", b""),)),
    12: Heartbeat("readers", 1, "member"),
    13: LeaveGroup("readers", (("member", None),)),
    14: SyncGroup("readers", 1, "member"),
    15: DescribeGroups(("readers", "absent"), True),
    16: ListGroups(),
    42: DeleteGroups(("absent",)),
    17: SaslHandshake("PLAIN"),
    36: SaslAuthenticate(b""),
    45: AlterPartitionReassignments(
        1000, (ReassignedTopic("orders", (ReassignedPartition(0, (1,)),)),)
    ),
    46: ListPartitionReassignments(1000, None),
    48: DescribeClientQuotas((QuotaComponent("user", 2),)),
    49: AlterClientQuotas(
        (
            QuotasToChange(
                (QuotaEntityPart("user", "a"),), (QuotaChange("producer_byte_rate", 9.0),)
            ),
        )
    ),
    50: DescribeUserScramCredentials(None),
    51: AlterUserScramCredentials((ScramDeletion("absent", 1),), ()),
    19: CreateTopics((NewTopic("new"),), 1000, True),
    20: DeleteTopics(("absent",), 1000),
    21: DeleteRecords((DeleteRecordsTopic("orders", (DeleteRecordsPartition(0, 0),)),), 1000),
    22: InitProducerId(None, 1000),
    23: OffsetForLeaderEpoch((EpochTopic("orders", (EpochPartition(0, 1),)),)),
    29: DescribeAcls(AclFilter(1, None, 1, None, None, 1, 1)),
    30: CreateAcls((Acl(2, "*", 3, "User:new", "*", 2, 3), Acl(9, "", 9, "", "", 9, 9))),
    31: DeleteAcls((AclFilter(2, "absent", 3, None, None, 1, 1),)),
    32: DescribeConfigs(
        (AskedSettings(2, "orders"), AskedSettings(4, "1"), AskedSettings(2, "absent")), True, True
    ),
    33: AlterConfigs((SettingsToReplace(2, "orders", ()), SettingsToReplace(4, "1", ()))),
    35: DescribeLogDirs(None),
    37: CreatePartitions((MorePartitions("orders", 3), MorePartitions("absent", 1)), 1000),
    43: ElectLeaders(0, (NamedPartitions("orders", (0,)),), 1000),
    44: IncrementalAlterConfigs((SettingsToChange(2, "orders", ()),)),
    55: DescribeQuorum((NamedPartitions("__cluster_metadata", (0,)),)),
    57: UpdateFeatures(1000, (FeatureUpdate("metadata.version", 1),)),
    60: DescribeCluster(),
    61: DescribeProducers((NamedPartitions("orders", (0, 9)),)),
    71: GetTelemetrySubscriptions(),
    72: PushTelemetry(None, 0, False, 0, b""),
    74: ListConfigResources(),
    75: DescribeTopicPartitions(("orders", "absent"), 1),
}


@pytest.mark.parametrize("who", ["admin", "nobody"])
def test_every_answer_can_be_encoded_in_every_served_version(world, run, who):
    async def main():
        async with world.running() as broker:
            await broker.create()
            asked = ASKED | {0: world.produce_request(world.batch(b"a"))}
            for api in APIS:
                if api.key == 18:  # the codec answers it
                    continue
                request = asked[api.key]
                answer = await broker.ask(who, request)
                handler = broker.dispatcher._handlers[type(request)]
                broken = handler.refuse(request, ErrorCode.KAFKA_STORAGE_ERROR)
                for version in api.versions():
                    for response in (answer, broken):
                        encode(Call(api.key, version, 1, "client", request), response)

    run(main)
