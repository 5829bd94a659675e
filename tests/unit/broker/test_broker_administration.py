"""Administration as Kafka's tools know it, over the whole broker."""

import pytest
from msgspec.structs import replace

from appliance.broker.passwords import KeptPasswords
from appliance.broker.setting_kinds import Standing
from appliance.broker.topic_settings import TOPIC_SETTINGS
from appliance.errors import ErrorCode
from appliance.wire.requests import (
    Acl,
    AclFilter,
    AlterConfigs,
    AlterUserScramCredentials,
    AskedSettings,
    CommitPartition,
    CommitTopic,
    CreateAcls,
    CreatePartitions,
    Cursor,
    DeleteAcls,
    DeleteGroups,
    DescribeAcls,
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
    IncrementalAlterConfigs,
    ListConfigResources,
    ListGroups,
    MorePartitions,
    NamedPartitions,
    OffsetCommit,
    OffsetForLeaderEpoch,
    ScramDeletion,
    ScramUpsertion,
    SettingOperation,
    SettingSource,
    SettingsToChange,
    SettingsToReplace,
    UpdateFeatures,
)

SET, DELETE = SettingOperation.SET, SettingOperation.DELETE
APPEND = SettingOperation.APPEND
BYTES = "max.message.bytes"


async def settings_of(broker, name="orders", kind=2, **options):
    asked = DescribeConfigs((AskedSettings(kind, name),), **options)
    (described,) = (await broker.ask("admin", asked)).resources
    assert described.error is ErrorCode.NONE, described.message
    return {each.name: each for each in described.settings}


def test_settings_are_all_told_when_none_is_named(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            everything = await settings_of(broker)
            asked = DescribeConfigs((AskedSettings(2, "orders", ()),))
            (described,) = (await broker.ask("admin", asked)).resources
            assert {each.name for each in described.settings} == set(everything)
            asked = DescribeConfigs((AskedSettings(2, "orders", (BYTES,)),))
            (described,) = (await broker.ask("admin", asked)).resources
            assert [each.name for each in described.settings] == [BYTES]

    run(main)


async def change(broker, *changes, name="orders", kind=2, validate_only=False):
    asked = IncrementalAlterConfigs((SettingsToChange(kind, name, changes),), validate_only)
    (answer,) = (await broker.ask("admin", asked)).resources
    return answer


def test_partitions_are_added_and_written_to_and_never_taken_away(world, run):
    async def main():
        disk = world.Disk()
        async with world.running(disk) as broker:
            await broker.create(partitions=2)
            await broker.produce(world.batch(b"a"))

            async def grow(count, validate_only=False):
                asked = CreatePartitions((MorePartitions("orders", count),), 1000, validate_only)
                (answer,) = (await broker.ask("admin", asked)).topics
                return answer.error

            assert await grow(2) is ErrorCode.INVALID_PARTITIONS
            assert await grow(1) is ErrorCode.INVALID_PARTITIONS
            assert await grow(1 << 30) is ErrorCode.INVALID_PARTITIONS
            assert await grow(4, validate_only=True) is ErrorCode.NONE
            assert await grow(4) is ErrorCode.NONE
            reply = await broker.ask("admin", world.produce_request(world.batch(b"b"), index=3))
            assert reply.topics[0].partitions[0].error is ErrorCode.NONE
        async with world.running(disk) as broker:
            asked = DescribeTopicPartitions(("orders",))
            assert len((await broker.ask("admin", asked)).topics[0].partitions) == 4
            assert (await broker.fetch()).batches

    run(main)


def test_settings_are_changed_one_by_one_and_as_a_whole(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create(settings=((BYTES, "5000"),))
            found = await settings_of(broker, synonyms=True)
            assert (found[BYTES].value, found[BYTES].source) == ("5000", SettingSource.TOPIC)
            assert [s.value for s in found[BYTES].synonyms] == ["5000", "1048588"]
            assert found["unclean.leader.election.enable"].value == "false"
            assert found["unclean.leader.election.enable"].documentation is None

            assert (await change(broker, (BYTES, SET, "6000"))).error is ErrorCode.NONE
            assert (await settings_of(broker))[BYTES].value == "6000"
            small, large = world.batch(b"x" * 5500), world.batch(b"x" * 7000)
            codes = [part.error for part in await broker.produce(small, large)]
            assert codes == [ErrorCode.NONE, ErrorCode.MESSAGE_TOO_LARGE]
            assert (await change(broker, (BYTES, DELETE, None))).error is ErrorCode.NONE
            assert (await settings_of(broker))[BYTES].source is SettingSource.DEFAULT

            name = "message.timestamp.after.max.ms"
            whole = AlterConfigs((SettingsToReplace(2, "orders", ((name, "9"),)),))
            assert (await broker.ask("admin", whole)).resources[0].error is ErrorCode.NONE
            assert (await settings_of(broker))[name].value == "9"

    run(main)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (((BYTES, SET, "no number"),), ErrorCode.INVALID_CONFIG),
        (((BYTES, SET, None),), ErrorCode.INVALID_REQUEST),
        (((BYTES, SET, "5000"), (BYTES, DELETE, None)), ErrorCode.INVALID_REQUEST),
        (((BYTES, APPEND, "5000"),), ErrorCode.INVALID_CONFIG),
        (((BYTES, 9, "5000"),), ErrorCode.INVALID_REQUEST),
        (((BYTES, SET, "5000"), ("segment.bytes", SET, "1")), ErrorCode.INVALID_CONFIG),
        ((("unclean.leader.election.enable", SET, "true"),), ErrorCode.INVALID_CONFIG),
        ((("cleanup.policy", APPEND, "delete"),), ErrorCode.NONE),
    ],
)
def test_a_change_that_cannot_be_had_changes_nothing(world, run, changes, code):
    async def main():
        async with world.running() as broker:
            await broker.create()
            before = await settings_of(broker)
            assert (await change(broker, *changes, validate_only=True)).error is code
            assert (await change(broker, *changes)).error is code
            after = await settings_of(broker)
            assert after[BYTES] == before[BYTES]

    run(main)


def test_settings_of_a_node_are_told_and_never_changed_over_the_wire(world, run):
    async def main():
        async with world.running() as broker:
            found = await settings_of(broker, name="1", kind=4)
            assert all(each.read_only for each in found.values())
            assert found["broker.id"].value == "1"
            refused = await change(broker, ("num.partitions", SET, "2"), name="1", kind=4)
            assert refused.error is ErrorCode.INVALID_REQUEST
            assert "configuration file" in refused.message
            other = DescribeConfigs((AskedSettings(4, "2"), AskedSettings(32, "group")))
            answers = (await broker.ask("admin", other)).resources
            assert {each.error for each in answers} == {ErrorCode.INVALID_REQUEST}

    run(main)


def test_whoever_may_not_alter_settings_alters_none(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            asked = IncrementalAlterConfigs(
                (SettingsToChange(2, "orders", ((BYTES, SET, "5000"),)),)
            )
            (answer,) = (await broker.ask("reader", asked)).resources
            assert answer.error is ErrorCode.TOPIC_AUTHORIZATION_FAILED
            assert (await settings_of(broker))[BYTES].source is SettingSource.DEFAULT

    run(main)


def test_every_setting_of_kafka_is_in_the_table_once_and_says_why():
    names = [each.name for each in TOPIC_SETTINGS]
    assert len(names) == len(set(names))
    for each in TOPIC_SETTINGS:
        assert each.why
        assert (each.fault(each.value or "") is None) == (each.standing is not Standing.REFUSED)


def test_ends_of_epochs_show_where_a_reader_went_astray(world, run):
    async def main():
        disk = world.Disk()
        async with world.running(disk) as broker:
            await broker.create()
            await broker.produce(world.batch(b"a", b"b"))
        async with world.running(disk) as broker:
            await broker.produce(world.batch(b"c"))
            parts = tuple(EpochPartition(0, epoch) for epoch in (0, 1, 2, 9))
            asked = OffsetForLeaderEpoch((EpochTopic("orders", parts),))
            (topic,) = (await broker.ask("admin", asked)).topics
            found = [(part.leader_epoch, part.end_offset) for part in topic.partitions]
            assert found == [(-1, -1), (1, 2), (2, 3), (-1, -1)]
            wrong = OffsetForLeaderEpoch((EpochTopic("orders", (EpochPartition(0, 1, 1),)),))
            part = (await broker.ask("admin", wrong)).topics[0].partitions[0]
            assert part.error is ErrorCode.FENCED_LEADER_EPOCH

    run(main)


def test_topics_are_described_page_by_page(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create("a", 3)
            await broker.create("b", 2)
            seen, cursor = [], None
            while True:
                page = await broker.ask("admin", DescribeTopicPartitions((), 2, cursor))
                told = [(t.name, p.index) for t in page.topics for p in t.partitions]
                assert len(told) <= 2
                seen += told
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert seen == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
            hidden = await broker.ask("nobody", DescribeTopicPartitions(()))
            assert hidden.topics == ()
            far = DescribeTopicPartitions((), 9, Cursor("z", -5))
            assert (await broker.ask("admin", far)).topics == ()

    run(main)


def test_nodes_producers_sizes_and_quorum_are_told(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            each = world.batch(b"a", producer=(7, 0, 0))
            await broker.produce(each)
            cluster = await broker.ask("nobody", DescribeCluster(cluster_operations=True))
            assert [(b.node_id, b.host) for b in cluster.brokers] == [(1, "k.example")]
            assert cluster.operations == 0
            controllers = await broker.ask("nobody", DescribeCluster(endpoint_type=2))
            assert controllers.error is ErrorCode.MISMATCHED_ENDPOINT_TYPE
            neither = await broker.ask("nobody", DescribeCluster(endpoint_type=0))
            assert neither.error is ErrorCode.UNSUPPORTED_ENDPOINT_TYPE
            asked = DescribeProducers((NamedPartitions("orders", (0,)),))
            (found,) = (await broker.ask("admin", asked)).topics[0].partitions[0].producers
            assert (found.producer_id, found.last_sequence) == (7, 0)
            (directory,) = (await broker.ask("admin", DescribeLogDirs(None))).directories
            assert "/" not in directory.name
            assert directory.topics[0].partitions[0].size_bytes == len(each)
            quorum = DescribeQuorum((NamedPartitions("__cluster_metadata", (0,)),))
            part = (await broker.ask("admin", quorum)).topics[0].partitions[0]
            assert (part.leader_id, part.error) == (1, ErrorCode.NONE)
            assert part.high_watermark > 0

    run(main)


def test_a_size_is_told_of_each_log_here_and_none_is_made_for_it(world, run):
    async def main():
        disk = world.Disk()
        async with world.running(disk) as broker:
            await broker.create(partitions=1)
            asked = CreatePartitions((MorePartitions("orders", 40),), 1000)
            await broker.ask("admin", asked)
            await broker.produce(world.batch(b"a"))
            held = broker.storage.partitions()
            (directory,) = (await broker.ask("admin", DescribeLogDirs(None))).directories
            first, *rest = directory.topics[0].partitions
            assert [part.index for part in rest] == list(range(1, 40))
            assert first.size_bytes > 0
            assert {part.size_bytes for part in rest} == {0}
            assert broker.storage.partitions() == held
        async with world.running(disk) as broker:
            # Closed logs are opened, to be told as they were before.
            (again,) = (await broker.ask("admin", DescribeLogDirs(None))).directories
            assert again.topics[0].partitions[0].size_bytes == first.size_bytes
            some = DescribeLogDirs(
                (NamedPartitions("orders", (3, 99)), NamedPartitions("no", (0,)))
            )
            (named,) = (await broker.ask("admin", some)).directories
            assert [(t.name, [p.index for p in t.partitions]) for t in named.topics] == [
                ("orders", [3])
            ]

    run(main)


def test_what_has_settings_is_listed_by_kind(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create("b")
            await broker.create("a")

            async def listed(*kinds):
                result = await broker.ask("admin", ListConfigResources(kinds))
                return result.error, [(each.kind, each.name) for each in result.resources]

            none = ErrorCode.NONE
            topics, nodes = [(2, "a"), (2, "b")], [(4, "1")]
            assert await listed() == (none, topics + nodes)
            assert await listed(2) == (none, topics)
            assert await listed(4) == (none, nodes)
            assert await listed(8, 16, 32) == (none, [])
            assert await listed(2, 99) == (ErrorCode.UNSUPPORTED_VERSION, [])

    run(main)


def test_no_unclean_election_and_no_other_feature_level_can_be_had(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            asked = (NamedPartitions("orders", (0, 9)),)
            preferred = await broker.ask("admin", ElectLeaders(0, asked, 1))
            assert [part.error for part in preferred.topics[0].partitions] == [
                ErrorCode.ELECTION_NOT_NEEDED,
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ]
            unclean = await broker.ask("admin", ElectLeaders(1, asked, 1))
            assert unclean.error is ErrorCode.INVALID_REQUEST
            for update, code in [
                (FeatureUpdate("metadata.version", 25), ErrorCode.NONE),
                (FeatureUpdate("metadata.version", 7, 3), ErrorCode.INVALID_UPDATE_VERSION),
                (FeatureUpdate("unknown", 1), ErrorCode.INVALID_UPDATE_VERSION),
            ]:
                result = await broker.ask("admin", UpdateFeatures(1, (update,)))
                assert result.error is code

    run(main)


def test_rules_made_with_kafkas_tools_are_the_policy_at_once(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            await broker.produce(world.batch(b"a"))
            rule = Acl(2, "orders", 3, "User:late", "*", 3, 3)
            assert (await broker.fetch(name="late")).error is not ErrorCode.NONE
            made = await broker.ask("admin", CreateAcls((rule, replace(rule, host="no host"))))
            assert [each.error for each in made.results] == [
                ErrorCode.NONE,
                ErrorCode.INVALID_REQUEST,
            ]
            assert (await broker.fetch(name="late")).error is ErrorCode.NONE
            mine = AclFilter(1, None, 1, "User:late", None, 1, 1)
            assert (await broker.ask("admin", DescribeAcls(mine))).acls == (rule,)
            (gone,) = (await broker.ask("admin", DeleteAcls((mine,)))).results
            assert gone.acls == (rule,)
            assert (await broker.fetch(name="late")).error is not ErrorCode.NONE
            details = [event.detail for event in broker.sink.of("Mutation")]
            assert "+ p, User:late, READ, TOPIC, orders, allow" in details
            assert "- p, User:late, READ, TOPIC, orders, allow" in details

    run(main)


def test_a_right_over_the_cluster_alone_does_not_reach_the_policy(world, run):
    async def main():
        policy = "p, User:admin, *, *, *, allow\np, User:operator, *, CLUSTER, *, allow\n"
        async with world.running(policy=policy) as broker:
            rule = Acl(2, "*", 3, "User:operator", "*", 2, 3)
            (refused,) = (await broker.ask("operator", CreateAcls((rule,)))).results
            assert refused.error is ErrorCode.CLUSTER_AUTHORIZATION_FAILED
            assert broker.node.policies.policy() == (1, policy)

    run(main)


def test_groups_are_listed_described_and_deleted_by_whom_they_concern(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            for group in ("readers", "others"):
                commit = (CommitTopic("orders", (CommitPartition(0, 7),)),)
                await broker.ask("admin", OffsetCommit(group, -1, "", commit))
            everything = await broker.ask("admin", ListGroups())
            assert [(g.group, g.state) for g in everything.groups] == [
                ("others", "Empty"),
                ("readers", "Empty"),
            ]
            mine = await broker.ask("reader", ListGroups())
            assert [g.group for g in mine.groups] == ["readers"]
            assert (await broker.ask("admin", ListGroups(("Stable",)))).groups == ()
            assert (await broker.ask("nobody", ListGroups())).groups == ()
            asked = DescribeGroups(("readers", "absent", "others"), operations=True)
            told = (await broker.ask("reader", asked)).groups
            assert [each.error for each in told] == [
                ErrorCode.NONE,
                ErrorCode.GROUP_AUTHORIZATION_FAILED,
                ErrorCode.GROUP_AUTHORIZATION_FAILED,
            ]
            assert told[0].operations == (1 << 3) | (1 << 8)
            gone = await broker.ask("admin", DeleteGroups(("readers", "readers", "absent")))
            assert [each.error for each in gone.groups] == [
                ErrorCode.NONE,
                ErrorCode.GROUP_ID_NOT_FOUND,
                ErrorCode.GROUP_ID_NOT_FOUND,
            ]
            assert [g.group for g in (await broker.ask("admin", ListGroups())).groups] == ["others"]

    run(main)


def test_a_credential_is_set_told_of_and_removed_and_survives_a_restart(world, run):
    async def main():
        disk = world.Disk()
        good = ScramUpsertion("alice", 1, 4096, b"salt", b"x" * 32)
        async with world.running(disk) as broker:
            changes = (
                good,
                replace(good, name="bob", iterations=1),
                replace(good, name="carol", iterations=1 << 30),
                replace(good, name="dave", mechanism=2),
                replace(good, name="e f"),
                replace(good, name="frank", salt=b""),
                replace(good, name="grace", mechanism=9),
            )
            asked = AlterUserScramCredentials((ScramDeletion("absent", 1),), changes)
            told = (await broker.ask("admin", asked)).users
            codes = {each.name: each.error for each in told}
            assert codes.pop("alice") is ErrorCode.NONE
            assert codes.pop("absent") is ErrorCode.RESOURCE_NOT_FOUND
            assert codes.pop("grace") is ErrorCode.UNSUPPORTED_SASL_MECHANISM
            assert set(codes.values()) == {ErrorCode.UNACCEPTABLE_CREDENTIAL}
            refused = (await broker.ask("reader", asked)).users
            assert {e.error for e in refused} == {ErrorCode.CLUSTER_AUTHORIZATION_FAILED}
            assert "xxxx" not in repr(asked) + repr(broker.sink.events)
            passwords = KeptPasswords(broker.node.policies, b"a node's own")
            secret = passwords.decoy_secret()
            assert len(secret) == 32
            assert passwords.shapes("SCRAM-SHA-256") == {(4096, 4): 1}
            again = replace(good, iterations=8192, salt=b"another salt")
            await broker.ask("admin", AlterUserScramCredentials((), (again,)))
            assert passwords.shapes("SCRAM-SHA-256") == {(8192, 12): 1}
            await broker.ask("admin", AlterUserScramCredentials((), (good,)))
        async with world.running(disk) as broker:
            passwords = KeptPasswords(broker.node.policies, b"a node's own")
            assert passwords.decoy_secret() == secret, "the secret is the cluster's for all time"
            kept = passwords.find("alice", "SCRAM-SHA-256")
            assert kept.iterations == 4096
            (user,) = (await broker.ask("admin", DescribeUserScramCredentials(None))).users
            assert [(c.mechanism, c.iterations) for c in user.credentials] == [(1, 4096)]
            gone = AlterUserScramCredentials((ScramDeletion("alice", 1),), ())
            await broker.ask("admin", gone)
            assert passwords.find("alice", "SCRAM-SHA-256") is None
            assert passwords.shapes("SCRAM-SHA-256") == {}

    run(main)
