"""What three nodes in one process promise: acknowledgements, administration, members, versions."""

from collections import Counter

import trio

from appliance.broker import peer_codec
from appliance.broker.foundation import CATALOGUE_LOG
from appliance.broker.outbox import Channel
from appliance.coordination.cluster_commands import NEWEST_LEVEL
from appliance.errors import ErrorCode
from appliance.raft.ready import Role
from appliance.wire.requests import (
    AddNode,
    AlterPartitionReassignments,
    AlterUserScramCredentials,
    CreateTopics,
    DeleteRecords,
    DeleteRecordsPartition,
    DeleteRecordsTopic,
    DescribeLogDirs,
    DescribeNodes,
    DescribeQuorum,
    DescribeUserScramCredentials,
    DrainNode,
    LeadPartition,
    ListPartitionReassignments,
    Metadata,
    MovePartition,
    NamedPartitions,
    NewTopic,
    ReassignedPartition,
    ReassignedTopic,
    RemoveNode,
    ScramUpsertion,
)
from tests.unit.broker.three_nodes import Cluster


def test_what_is_acknowledged_is_applied_on_every_node(play):
    async def body(cluster):
        await cluster.create()
        for value in (b"a", b"b", b"c"):
            await cluster.produce_surely(value)
        await cluster.until(
            lambda: [cluster.held(n) for n in (1, 2, 3)] == [3, 3, 3], "three batches everywhere"
        )

    play(body)


def test_each_entry_goes_to_each_follower_once_however_slow_bulk_is(play, monkeypatch):
    """What tells a commit must not overtake the entries that it follows on: it would be refused."""
    sent = Counter()
    encode = peer_codec.encode

    def counted(group, message, entries=(), offered=None):
        for entry in entries:
            sent[group, message.to, entry.header.index] += 1
        return encode(group, message, entries, offered)

    async def body(cluster):
        await cluster.create()
        await cluster.produce_surely(b"first")
        await trio.sleep(1)
        slow = next(n for n in (1, 2, 3) if n != cluster.leader(cluster.group()))
        cluster.carried_s[Channel.BULK, slow] = 0.15
        monkeypatch.setattr(peer_codec, "encode", counted)
        async with trio.open_nursery() as nursery:
            for value in range(20):
                nursery.start_soon(cluster.produce_surely, b"%d" % value)
                await trio.sleep(0.04)
        group = cluster.group()
        counts = {count for (of, _, _), count in sent.items() if of == group}
        assert len([1 for of, _, _ in sent if of == group]) >= 2 * 20
        assert counts == {1}

    play(body)


def test_a_node_that_does_not_lead_says_who_does_and_where(play):
    async def body(cluster):
        await cluster.create()
        leader = cluster.leader(cluster.group())
        other = next(n for n in (1, 2, 3) if n != leader)
        batch = cluster.world.batch(b"x")
        reply = await cluster.ask(other, cluster.world.produce_request(batch), "kafka")
        part = reply.topics[0].partitions[0]
        assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert part.leader.node_id == leader
        assert [(b.node_id, b.host) for b in reply.endpoints] == [(leader, f"n{leader}")]

    play(body)


def test_metadata_is_the_same_on_every_node_and_names_real_leaders(play):
    async def body(cluster):
        await cluster.create(partitions=3)
        await cluster.until(
            lambda: all(cluster.leader(cluster.group(index=i)) for i in range(3)), "leaders"
        )
        await trio.sleep(1)
        told = []
        for number in (1, 2, 3):
            reply = await cluster.ask(number, Metadata(("orders",)), "kafka")
            told.append([(p.index, p.leader_id, p.replicas) for p in reply.topics[0].partitions])
            assert [broker.node_id for broker in reply.brokers] == [1, 2, 3]
        assert told[0] == told[1] == told[2]
        assert {leader for _, leader, _ in told[0]} == {1, 2, 3}

    play(body)


def test_every_node_tells_the_sizes_of_what_it_holds_whoever_leads_it(play):
    async def body(cluster):
        await cluster.create()
        await cluster.produce_surely(b"a")
        await cluster.until(
            lambda: [cluster.held(n) for n in (1, 2, 3)] == [1, 1, 1], "the batch everywhere"
        )
        for number in (1, 2, 3):
            told = await cluster.ask(number, DescribeLogDirs(None), "kafka")
            (part,) = told.directories[0].topics[0].partitions
            assert part.size_bytes > 0

    play(body)


def test_killing_the_leader_loses_nothing_and_a_retry_is_written_once(play):
    async def body(cluster):
        await cluster.create()
        for sequence in range(5):
            await cluster.produce_surely(b"x", producer=(7, 0, sequence))
        leader = cluster.leader(cluster.group())
        cluster.kill(leader)
        began = trio.current_time()
        assert await cluster.produce_surely(b"x", producer=(7, 0, 5)) == 5
        assert trio.current_time() - began < 1.5
        assert await cluster.produce_surely(b"x", producer=(7, 0, 5)) == 5
        await cluster.start(leader)
        await cluster.until(lambda: cluster.held(leader) == 6, "the killed node to catch up")

    play(body)


def test_a_leader_that_is_cut_off_acknowledges_nothing_and_steps_down(play):
    async def body(cluster):
        await cluster.create()
        await cluster.produce_surely(b"a")
        leader = cluster.leader(cluster.group())
        cluster.isolate(leader)
        await trio.sleep(0.1)
        part = await cluster.produce(leader, b"lost")
        assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        replica = cluster.members[leader].consensus.replica(cluster.group())
        assert replica.role is not Role.LEADER
        assert await cluster.produce_surely(b"b") == 1
        cluster.cut = set()
        await cluster.until(
            lambda: [cluster.held(n) for n in (1, 2, 3)] == [2, 2, 2], "all nodes to agree"
        )

    play(body)


def test_a_leader_that_is_cut_off_does_not_say_what_others_may_have_changed(play):
    async def body(cluster):
        await cluster.create()
        await cluster.produce_surely(b"a")
        leader = cluster.leader(cluster.group())
        cluster.isolate(leader)
        await trio.sleep(0.1)  # what was under way has arrived; the leader knows of nothing yet
        reply = await cluster.ask(leader, cluster.world.fetch_request(2), "kafka")
        error = reply.topics[0].partitions[0].error
        assert error is ErrorCode.NOT_LEADER_OR_FOLLOWER, "offset 2 may be held elsewhere"

    play(body)


def test_a_catalogue_leader_that_is_cut_off_does_not_say_what_topics_there_are(play):
    async def body(cluster):
        leader = cluster.leader(CATALOGUE_LOG)
        cluster.isolate(leader)
        await trio.sleep(0.1)
        new = NewTopic("orders", 1, 1)
        reply = await cluster.ask(leader, CreateTopics((new,), 1000, validate_only=True))
        assert reply.topics[0].error is ErrorCode.NOT_CONTROLLER

    play(body)


def test_an_offset_above_the_end_is_out_of_range_where_a_quorum_confirms_the_leader(play):
    async def body(cluster):
        await cluster.create()
        await cluster.produce_surely(b"a")
        leader = cluster.leader(cluster.group())
        reply = await cluster.ask(leader, cluster.world.fetch_request(2), "kafka")
        assert reply.topics[0].partitions[0].error is ErrorCode.OFFSET_OUT_OF_RANGE

    play(body)


def test_a_whole_cluster_that_falls_comes_back_with_everything(play):
    async def body(cluster):
        await cluster.create()
        for value in (b"a", b"b"):
            await cluster.produce_surely(value)
        for number in (1, 2, 3):
            cluster.kill(number)
        await trio.sleep(1)
        for number in (3, 2, 1):
            await cluster.start(number)
        await cluster.until(
            lambda: (
                len(cluster.members) == 3
                and all(m.joined.is_set() for m in cluster.members.values())
            ),
            "every node to serve",
        )
        assert await cluster.produce_surely(b"c") == 2

    play(body)


def test_an_old_disk_that_comes_back_raises_the_alarm_and_is_filled_again(play):
    async def body(cluster):
        await cluster.create()
        for value in (b"a", b"b", b"c"):
            await cluster.produce_surely(value)
        group = cluster.group()
        leader = cluster.leader(group)
        follower = next(number for number in (1, 2, 3) if number != leader)
        await cluster.until(lambda: cluster.held(follower) == 3, "the follower's copy")
        cluster.kill(follower)
        held = cluster.disks[follower].logs[group]
        acknowledged = held[-1].header.index
        del held[-2:]
        await cluster.start(follower)
        await cluster.until(lambda: cluster.held(follower) == 3, "the records again")
        sink = cluster.members[leader].sink
        await cluster.until(lambda: sink.of("LogShrunk"), "the alarm")
        (alarm,) = sink.of("LogShrunk")
        assert (alarm.node, alarm.partition) == (follower, str(group))
        assert (alarm.acknowledged, alarm.held) == (acknowledged, acknowledged - 2)
        assert cluster.members[leader].node.standing().shrunk == 1

    play(body)


def test_a_node_tells_how_its_replicas_stand(play):
    async def body(cluster):
        await cluster.create(partitions=2)
        groups = [cluster.group(index=index) for index in (0, 1)]
        await cluster.until(lambda: all(map(cluster.leader, groups)), "leaders")
        gone = cluster.leader(groups[0])
        left = [number for number in (1, 2, 3) if number != gone]

        def total(name):
            return sum(getattr(cluster.members[n].node.standing(), name) for n in left)

        assert total("under_replicated") == total("leaderless") == 0
        cluster.kill(gone)
        await cluster.until(lambda: total("leaderless") > 0, "the loss to be noticed", 5)
        await cluster.until(lambda: total("leaderless") == 0, "other leaders", 10)
        assert total("held") == 2 * (2 + 2)  # the catalogue and the groups are replicas too
        assert total("led") == total("under_replicated") == 4

    play(body)


def test_administration_asked_of_any_node_is_decided_by_the_leader_and_shows_at_once(play):
    async def body(cluster):
        leader = cluster.leader(CATALOGUE_LOG)
        other = next(n for n in (1, 2, 3) if n != leader)
        reply = await cluster.ask(other, CreateTopics((NewTopic("made"),), 1000), "kafka")
        assert reply.topics[0].error is ErrorCode.NONE
        assert reply.topics[0].replication_factor == 3
        assert "made" in cluster.members[other].node.policies.state.topics

    play(body)


def test_a_drained_node_hands_its_leadership_over(play):
    async def body(cluster):
        await cluster.create(partitions=3)
        await cluster.ask(1, DrainNode(2, True))
        await cluster.until(
            lambda: all(cluster.leader(cluster.group(index=i)) in {1, 3} for i in range(3)),
            "leadership elsewhere",
        )
        await cluster.ask(1, DrainNode(2, False))
        await cluster.until(
            lambda: 2 in {cluster.leader(cluster.group(index=i)) for i in range(3)},
            "leadership to return",
        )

    play(body)


def test_a_partition_moves_to_another_node_while_it_is_written(play):
    async def body(cluster):
        await cluster.create(replication=1)
        for value in (b"a", b"b"):
            await cluster.produce_surely(value)
        holder = cluster.leader(cluster.group())
        to = next(n for n in (1, 2, 3) if n != holder)
        reply = await cluster.ask(1, MovePartition("orders", 0, (to,)))
        assert reply.error is ErrorCode.NONE, reply
        for _ in range(5):
            await cluster.produce_surely(b"c")
        await cluster.until(lambda: cluster.leader(cluster.group()) == to, "the new leader")
        await cluster.until(
            lambda: cluster.group() not in cluster.disks[holder].logs, "the old log to be removed"
        )
        assert await cluster.produce_surely(b"d") == 7

    play(body)


def test_the_quorum_and_credentials_are_the_leaders_to_tell_and_to_change(play):
    async def body(cluster):
        leader = cluster.leader(CATALOGUE_LOG)
        elsewhere = next(n for n in (1, 2, 3) if n != leader)
        asked = DescribeQuorum((NamedPartitions("__cluster_metadata", (0,)),))
        told = await cluster.ask(elsewhere, asked, listener="kafka")
        (quorum,) = told.topics[0].partitions
        assert quorum.leader_id == leader
        assert [voter.replica_id for voter in quorum.voters] == [1, 2, 3]
        assert quorum.observers == ()
        assert all(0 < voter.log_end_offset <= quorum.high_watermark for voter in quorum.voters)
        assert all(voter.last_fetch_ms > 0 for voter in quorum.voters)
        (own,) = [voter for voter in quorum.voters if voter.replica_id == leader]
        assert own.log_end_offset == quorum.high_watermark
        assert own.last_caught_up_ms == own.last_fetch_ms

        password = ScramUpsertion("alice", 1, 4096, b"salt", bytes(32))
        change = AlterUserScramCredentials((), (password,))
        altered = await cluster.ask(elsewhere, change, listener="kafka")
        assert altered.users[0].error is ErrorCode.NONE
        kept = await cluster.ask(elsewhere, DescribeUserScramCredentials(None), listener="kafka")
        assert [user.name for user in kept.users] == ["alice"]

    play(body)


def test_kafkas_tools_move_a_partition_see_it_move_and_call_it_off(play):
    def move(*replicas, factor=True, topic="orders", index=0):
        nodes = replicas if replicas != (None,) else None
        part = ReassignedPartition(index, nodes)
        return AlterPartitionReassignments(1000, (ReassignedTopic(topic, (part,)),), factor)

    async def asked(cluster, request):
        result = await cluster.ask(2, request, listener="kafka")
        assert result.error is ErrorCode.NONE
        return result.topics[0].partitions[0].error

    async def ongoing(cluster):
        result = await cluster.ask(3, ListPartitionReassignments(1000, None), listener="kafka")
        return [(t.name, p) for t in result.topics for p in t.partitions]

    async def body(cluster):
        await cluster.create(replication=1)
        group = cluster.group()
        (holder,) = cluster.members[1].node.policies.state.membership.assignment(group).replicas
        others = tuple(n for n in (1, 2, 3) if n != holder)
        await cluster.produce_surely(b"one")
        codes = ErrorCode
        assert await asked(cluster, move(None)) is codes.NO_REASSIGNMENT_IN_PROGRESS
        assert await asked(cluster, move()) is codes.INVALID_REPLICA_ASSIGNMENT
        assert await asked(cluster, move(1, 1)) is codes.INVALID_REPLICA_ASSIGNMENT
        assert await asked(cluster, move(9)) is codes.INVALID_REPLICA_ASSIGNMENT
        assert await asked(cluster, move(*others, factor=False)) is codes.INVALID_REPLICATION_FACTOR
        unknown = codes.UNKNOWN_TOPIC_OR_PARTITION
        assert await asked(cluster, move(1, topic="absent")) is unknown
        assert await asked(cluster, move(1, index=7)) is unknown
        assert await ongoing(cluster) == []

        leader = cluster.leader(CATALOGUE_LOG)
        lost = next(n for n in others if n != leader)
        cluster.isolate(lost)  # It cannot learn, so the move stays under way.
        result = await cluster.ask(holder, move(*others), listener="kafka")
        assert result.topics[0].partitions[0].error is codes.NONE
        listed = await cluster.ask(holder, ListPartitionReassignments(1000, None), listener="kafka")
        ((name, part),) = [(t.name, p) for t in listed.topics for p in t.partitions]
        assert (name, part.adding, part.removing) == ("orders", others, (holder,))
        assert part.replicas == (*others, holder)
        result = await cluster.ask(holder, move(None), listener="kafka")
        assert result.topics[0].partitions[0].error is codes.NONE
        listed = await cluster.ask(holder, ListPartitionReassignments(1000, None), listener="kafka")
        assert listed.topics == ()
        cluster.cut = []

        state = cluster.members[holder].node.policies.state
        await cluster.until(
            lambda: state.membership.assignment(group).target is None, "the move is called off"
        )
        assert state.membership.assignment(group).replicas == (holder,)
        assert await asked(cluster, move(*others)) is codes.NONE
        await cluster.until(
            lambda: state.membership.assignment(group).replicas == others, "the partition has moved"
        )
        await cluster.until(
            lambda: not any(True for _ in state.membership.assignment(group).target or ()), "done"
        )
        assert await ongoing(cluster) == []

    play(body)


def test_a_new_member_begins_behind_what_was_deleted_before_it_came(play):
    async def body(cluster):
        await cluster.create(replication=1)
        for value in (b"a", b"b", b"c", b"d"):
            await cluster.produce_surely(value)
        holder = cluster.leader(cluster.group())
        gone = DeleteRecordsTopic("orders", (DeleteRecordsPartition(0, 3),))
        reply = await cluster.ask(holder, DeleteRecords((gone,), 1000), "kafka")
        assert reply.topics[0].partitions[0].error is ErrorCode.NONE
        assert cluster.disks[holder].bases, "entries have been removed"
        to = next(n for n in (1, 2, 3) if n != holder)
        await cluster.ask(1, MovePartition("orders", 0, (to,)))
        await cluster.until(lambda: cluster.leader(cluster.group()) == to, "the new leader")
        assert await cluster.produce_surely(b"e") == 4
        assert cluster.disks[to].bases[cluster.group()][1] == 3
        reply = await cluster.ask(to, cluster.world.fetch_request(3), "kafka")
        assert reply.topics[0].partitions[0].high_watermark == 5

    play(body)


def test_a_member_whose_log_was_removed_and_made_anew_in_one_life_is_filled_again(play):
    """It held what its leader knows it to hold, and was told otherwise before its members were."""

    async def body(cluster):
        await cluster.create(replication=1)
        await cluster.produce_surely(b"a")
        holder = cluster.leader(cluster.group())
        to = next(n for n in (1, 2, 3) if n != holder)
        group = cluster.group()
        await cluster.ask(1, MovePartition("orders", 0, (to,)))
        leading = cluster.members[holder].consensus.replica(group).core
        await cluster.until(lambda: leading.matched(to), "a learner")
        await cluster.ask(1, MovePartition("orders", 0, (holder,)))
        await cluster.until(lambda: group not in cluster.disks[to].logs, "the log to be removed")
        await cluster.ask(1, MovePartition("orders", 0, (to,)))
        await cluster.until(lambda: cluster.leader(group) == to, "the move to be through")

    play(body)


def test_leadership_is_transferred_on_request(play):
    async def body(cluster):
        await cluster.create()
        leader = cluster.leader(cluster.group())
        to = next(n for n in (1, 2, 3) if n != leader)
        reply = await cluster.ask(to, LeadPartition("orders", 0, to))
        assert reply.error is ErrorCode.NONE, reply
        await cluster.until(lambda: cluster.leader(cluster.group()) == to, "the transfer", 3)

    play(body)


def test_a_node_that_comes_takes_the_catalogue_s_vote_of_one_that_is_drained(play):
    async def body(cluster):
        await cluster.ask(1, DrainNode(2, True))
        await cluster.start(4)
        await cluster.ask(1, AddNode(4, "n4", 9293))

        def voters():
            leader = cluster.leader(CATALOGUE_LOG)
            replica = cluster.members[leader or 1].consensus.replica(CATALOGUE_LOG)
            return replica.configuration

        await cluster.until(lambda: voters().voters == {1, 3, 4} and not voters().joint, "its vote")

    play(body)


def test_a_removed_node_holds_nothing_and_its_id_is_used_up(play):
    async def body(cluster):
        await cluster.create(replication=2)

        async def removed():
            reply = await cluster.ask(1, RemoveNode(3))
            return reply.message is not None and reply.message.startswith("removed")

        with trio.fail_after(60):
            while not await removed():  # noqa: ASYNC110
                await trio.sleep(0.2)
        status = await cluster.ask(1, DescribeNodes())
        assert [node.node for node in status.nodes] == [1, 2]
        reply = await cluster.ask(1, AddNode(3, "n3", 9293))
        assert reply.error is not ErrorCode.NONE
        assert "once for all time" in reply.message

    play(body)


def test_two_versions_in_one_cluster_keep_to_what_both_know(world, run):
    async def main():
        async with trio.open_nursery() as nursery:
            cluster = Cluster(world, nursery)
            await cluster.start(1)
            await cluster.members[1].joined.wait()
            membership = cluster.members[1].node.policies.state.membership
            assert membership.level == NEWEST_LEVEL
            await cluster.start(2, newest_level=1)
            await cluster.ask(1, AddNode(2, "n2", 9293))
            await trio.sleep(5)
            assert not cluster.members[2].joined.is_set()
            cluster.kill(2)
            await cluster.start(2)
            with trio.fail_after(30):
                await cluster.members[2].joined.wait()
            nursery.cancel_scope.cancel()

    run(main)
