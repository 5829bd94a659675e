"""Consumer groups through the whole broker: parked requests, time, offsets that survive."""

from uuid import UUID

import trio

from appliance.broker.foundation import GROUPS_LOG
from appliance.errors import ErrorCode
from appliance.wire.requests import (
    CommitPartition,
    CommitTopic,
    DeleteTopics,
    DescribeGroups,
    GroupProtocol,
    Heartbeat,
    JoinGroup,
    LeaveGroup,
    OffsetCommit,
    OffsetFetch,
    OffsetFetchGroup,
    SyncGroup,
)


def join(member="", group="readers"):
    return JoinGroup(
        group, 10_000, 30_000, member, "consumer", (GroupProtocol("range", b"meta"),),
        requires_member_id=True,
    )  # fmt: skip


def commit(offset, group="readers", topic="orders", generation=-1, member="", metadata=""):
    part = CommitPartition(0, offset, -1, metadata)
    return OffsetCommit(group, generation, member, (CommitTopic(topic, (part,)),))


async def member_of(broker, name="admin"):
    """A member in generation 1, synced; the only one."""
    first = await broker.ask(name, join())
    assert first.error is ErrorCode.MEMBER_ID_REQUIRED
    joined = await broker.ask(name, join(first.member_id))
    assert joined.error is ErrorCode.NONE
    synced = await broker.ask(
        name, SyncGroup("readers", 1, joined.member_id, ((joined.member_id, b"all"),))
    )
    assert synced.assignment == b"all"
    return joined.member_id


async def offsets(broker, name="admin", topics=(("orders", (0,)),), group="readers"):
    request = OffsetFetch((OffsetFetchGroup(group, topics),))
    (result,) = (await broker.ask(name, request)).groups
    return result


def test_a_member_joins_syncs_beats_and_leaves(world, run):
    async def main():
        async with world.running() as broker:
            member = await member_of(broker)
            assert member.startswith("test-client-")
            beat = await broker.ask("admin", Heartbeat("readers", 1, member))
            assert beat.error is ErrorCode.NONE
            left = await broker.ask("admin", LeaveGroup("readers", ((member, None),)))
            assert [error for _, _, error in left.members] == [ErrorCode.NONE]
            beat = await broker.ask("admin", Heartbeat("readers", 1, member))
            assert beat.error is ErrorCode.UNKNOWN_MEMBER_ID

    run(main)


def test_what_a_member_brought_is_told_once_an_assignor_is_chosen_for_good(world, run):
    async def described(broker):
        (group,) = (await broker.ask("admin", DescribeGroups(("readers",)))).groups
        return group.state, [each.metadata for each in group.members]

    async def main():
        async with world.running() as broker:
            first = await broker.ask("admin", join())
            joined = await broker.ask("admin", join(first.member_id))
            assert await described(broker) == ("CompletingRebalance", [b""])
            everything = ((joined.member_id, b"all"),)
            await broker.ask("admin", SyncGroup("readers", 1, joined.member_id, everything))
            assert await described(broker) == ("Stable", [b"meta"])

    run(main)


def test_a_silent_member_is_lost_without_anybody_asking(world, run):
    async def main():
        async with world.running() as broker:
            member = await member_of(broker)
            await trio.sleep(11)
            beat = await broker.ask("admin", Heartbeat("readers", 1, member))
            assert beat.error is ErrorCode.UNKNOWN_MEMBER_ID

    run(main)


def test_a_join_waits_until_its_generation_is_durable(world, run):
    async def main():
        async with world.running() as broker:
            gate = broker.disk.gates[GROUPS_LOG] = trio.Event()
            first = await broker.ask("admin", join())
            got = []

            async def joining():
                got.append(await broker.ask("admin", join(first.member_id)))

            broker.nursery.start_soon(joining)
            await trio.sleep(5)
            assert not got
            gate.set()
            await trio.sleep(1)
            assert got[0].generation_id == 1

    run(main)


def test_a_join_whose_generation_cannot_be_made_durable_is_refused(world, run):
    async def main():
        async with world.running() as broker:
            first = await broker.ask("admin", join())
            broker.disk.broken.add(GROUPS_LOG)
            refused = await broker.ask("admin", join(first.member_id))
            assert refused.error is ErrorCode.COORDINATOR_NOT_AVAILABLE

    run(main)


def test_a_parked_join_is_judged_again_before_its_reply(world, run):
    async def main():
        async with world.running() as broker:
            first = await broker.ask("reader", join())
            got = []

            async def joining():
                got.append(await broker.ask("reader", join(first.member_id)))

            broker.nursery.start_soon(joining)
            await trio.testing.wait_all_tasks_blocked()
            await broker.node.policies.set_policy(
                "p, User:admin, *, *, *, allow\n", expected_version=1
            )
            await trio.sleep(5)
            assert got[0].error is ErrorCode.GROUP_AUTHORIZATION_FAILED
            assert got[0].members == ()

    run(main)


def test_a_parked_join_that_is_cancelled_leaves_no_ticket(world, run):
    async def main():
        async with world.running() as broker:
            first = await broker.ask("admin", join())
            with trio.move_on_after(0.1):
                await broker.ask("admin", join(first.member_id))
            assert not broker.node._coordinator._parked
            await trio.sleep(60)
            again = await broker.ask("admin", join(first.member_id))
            assert again.error is ErrorCode.UNKNOWN_MEMBER_ID

    run(main)


def test_offsets_survive_a_crash_and_are_durable_when_acknowledged(world, run):
    async def main():
        disk = world.Disk()
        async with world.running(disk, crash=True) as broker:
            await broker.create()
            result = await broker.ask("admin", commit(41, metadata="note"))
            assert result.topics[0].partitions == ((0, ErrorCode.NONE),)
        async with world.running(disk) as broker:
            ((_, (part,)),) = (await offsets(broker)).topics
            assert (part.offset, part.metadata) == (41, "note")
            ((name, (part,)),) = (await offsets(broker, topics=None)).topics
            assert (name, part.offset) == ("orders", 41)

    run(main)


def test_a_commit_that_is_not_durable_is_not_acknowledged(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            broker.disk.broken.add(GROUPS_LOG)
            result = await broker.ask("admin", commit(1))
            ((_, error),) = result.topics[0].partitions
            assert error is ErrorCode.COORDINATOR_NOT_AVAILABLE

    run(main)


def test_commits_are_fenced_by_member_and_generation(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            member = await member_of(broker)
            errors = []
            for generation, who in ((1, member), (0, member), (1, "other"), (-1, "")):
                result = await broker.ask("admin", commit(5, generation=generation, member=who))
                errors.append(result.topics[0].partitions[0][1])
            assert errors == [
                ErrorCode.NONE,
                ErrorCode.ILLEGAL_GENERATION,
                ErrorCode.UNKNOWN_MEMBER_ID,
                ErrorCode.UNKNOWN_MEMBER_ID,
            ]

    run(main)


def test_generations_go_on_after_a_restart(world, run):
    async def main():
        disk = world.Disk()
        async with world.running(disk, crash=True) as broker:
            await member_of(broker)
        async with world.running(disk) as broker:
            first = await broker.ask("admin", join())
            joined = await broker.ask("admin", join(first.member_id))
            assert joined.generation_id == 2

    run(main)


def test_offsets_are_read_by_the_topics_id_and_what_is_unknown_or_refused_looks_alike(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            await broker.create("secret")
            for topic in ("orders", "secret"):
                await broker.ask("admin", commit(7, topic=topic))
            topics = broker.node.policies.state.topics
            known, secret = topics["orders"].topic, topics["secret"].topic
            absent = UUID(int=99)
            asked = tuple((topic, (0,)) for topic in (known, secret, absent, None))

            async def found(name):
                request = OffsetFetch((OffsetFetchGroup("readers", (), asked),), by_id=True)
                (group,) = (await broker.ask(name, request)).groups
                assert tuple(topic for topic, _ in group.topic_ids) == (
                    known, secret, absent, None,
                )  # fmt: skip
                return [(part.offset, part.error) for _, (part,) in group.topic_ids]

            unknown, read = (-1, ErrorCode.UNKNOWN_TOPIC_ID), (7, ErrorCode.NONE)
            assert await found("admin") == [read, read, unknown, unknown]
            assert await found("reader") == [read, unknown, unknown, unknown]
            everything = OffsetFetch((OffsetFetchGroup("readers", None),), by_id=True)
            (group,) = (await broker.ask("reader", everything)).groups
            assert [topic for topic, _ in group.topic_ids] == [known]

    run(main)


def test_offsets_of_a_deleted_topic_are_forgotten(world, run):
    async def main():
        disk = world.Disk()
        async with world.running(disk) as broker:
            await broker.create()
            await broker.ask("admin", commit(41))
            await broker.ask("admin", DeleteTopics(("orders",), 1000))
            await broker.create()
            ((_, (part,)),) = (await offsets(broker)).topics
            assert part.offset == -1
            assert broker.node._coordinator.topics_with_offsets() == frozenset()

    run(main)


def test_what_cannot_be_committed_is_refused_part_by_part(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create()
            cases = (
                (commit(1, topic="absent"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
                (commit(-5), ErrorCode.INVALID_REQUEST),
                (commit(1, metadata="x" * 5000), ErrorCode.OFFSET_METADATA_TOO_LARGE),
                (commit(1, group=""), ErrorCode.INVALID_GROUP_ID),
            )
            for request, error in cases:
                result = await broker.ask("admin", request)
                assert result.topics[0].partitions == ((0, error),)

    run(main)


def test_a_group_and_a_topic_are_refused_each_by_its_own_code(world, run):
    async def main():
        async with world.running() as broker:
            await broker.create("payments")
            refused = await broker.ask("reader", commit(1, topic="payments"))
            assert refused.topics[0].partitions == ((0, ErrorCode.TOPIC_AUTHORIZATION_FAILED),)
            other = await broker.ask("reader", commit(1, group="others"))
            assert other.topics[0].partitions == ((0, ErrorCode.GROUP_AUTHORIZATION_FAILED),)
            await broker.ask("admin", commit(3, topic="payments"))
            assert (await offsets(broker, "reader", topics=None)).topics == ()
            named = await offsets(broker, "reader", topics=(("payments", (0,)),))
            assert named.topics[0][1][0].error is ErrorCode.TOPIC_AUTHORIZATION_FAILED
            whole = await offsets(broker, "reader", group="others")
            assert whole.error is ErrorCode.GROUP_AUTHORIZATION_FAILED

    run(main)


def test_a_stop_sends_parked_members_away(world, run):
    async def main():
        got = []
        async with world.running() as broker:
            first = await broker.ask("admin", join())

            async def joining():
                got.append(await broker.ask("admin", join(first.member_id)))

            broker.nursery.start_soon(joining)
            await trio.testing.wait_all_tasks_blocked()
        assert got[0].error is ErrorCode.COORDINATOR_NOT_AVAILABLE

    run(main)
