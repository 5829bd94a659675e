"""A gap that a node has made by a refusal is not told as the producer's (KIP-98).

A client that hears OUT_OF_ORDER_SEQUENCE_NUMBER for a batch that is not its oldest takes a new
epoch, and writes twice what it has no answer for.
"""

import trio

from appliance.broker.foundation import CATALOGUE_LOG
from appliance.broker.outbox import Channel
from appliance.broker.refusals import Refusals, SentBehind
from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_POLICY_STALENESS_S
from appliance.raft.ready import Role
from appliance.types import TopicName
from appliance.wire.kafka.records import BatchHeader
from appliance.wire.requests import LeadPartition
from tests.unit.broker.three_nodes import in_cluster

NOT_LEADER = RequestError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "elsewhere")
ORDERS = TopicName("orders")


def header(first, producer=7, epoch=0):
    return BatchHeader(0, 100, 0, 2, 0, 0, 0, 0, 0, producer, epoch, first, 1)


def told(refusals, first, expected, **changes):
    try:
        refusals.check(ORDERS, 0, header(first, **changes), expected)
    except SentBehind as error:
        return error.code
    return ErrorCode.NONE


def refused(first):
    refusals = Refusals()
    refusals.note(ORDERS, 0, header(first), NOT_LEADER)
    return refusals


def test_what_was_sent_behind_a_refused_batch_is_refused_alike():
    refusals = refused(5)
    assert told(refusals, 6, 5) is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert told(refusals, 6, 5, producer=8) is ErrorCode.NONE
    assert told(refusals, 6, 5, epoch=1) is ErrorCode.NONE
    assert told(refusals, 5, 5) is ErrorCode.NONE
    assert told(refusals, 7, 5) is ErrorCode.NONE, "from then on a gap is the producer's own"


def test_a_gap_is_a_gap_once_nothing_can_be_under_way_behind_the_refused_batch():
    refusals = refused(5)
    for first in (6, 7, 8, 9):
        try:
            refusals.check(ORDERS, 0, header(first), 5)
        except SentBehind as error:
            refusals.note(ORDERS, 0, header(first), error)
    assert told(refusals, 10, 5) is ErrorCode.NONE
    assert not len(refusals)


def test_each_refusal_is_followed_by_as_many_as_may_be_under_way():
    refusals = refused(5)
    assert [told(refusals, first, 5) for first in (6, 7, 8)] == 3 * [NOT_LEADER.code]
    refusals.note(ORDERS, 0, header(20), NOT_LEADER)  # up to there another leader wrote
    assert [told(refusals, first, 20) for first in (21, 22, 23, 24)] == 4 * [NOT_LEADER.code]
    assert told(refusals, 25, 20) is ErrorCode.NONE


def test_what_was_written_elsewhere_meanwhile_is_no_reason_to_refuse():
    assert told(refused(5), 9, 9) is ErrorCode.NONE
    assert told(refused(5), 4, 5) is ErrorCode.NONE


def test_a_refusal_at_the_largest_sequence_is_followed_by_zero():
    top = (1 << 31) - 1
    assert told(refused(top), 0, top) is ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_only_what_is_sent_again_as_it_is_leaves_a_refusal():
    refusals = Refusals()
    refusals.note(ORDERS, 0, header(5), RequestError(ErrorCode.CORRUPT_MESSAGE, "no"))
    refusals.note(ORDERS, 0, header(-1, producer=-1), NOT_LEADER)
    assert not len(refusals)


def test_refusals_are_bounded():
    refusals = Refusals(bound=2)
    for producer in (1, 2, 3):
        refusals.note(ORDERS, 0, header(5, producer), NOT_LEADER)
    assert len(refusals) == 2
    assert told(refusals, 6, 5, producer=1) is ErrorCode.NONE
    assert told(refusals, 6, 5, producer=3) is ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_a_batch_behind_one_that_found_no_leader_waits_its_turn(world, run):
    async def body(cluster):
        await cluster.create()
        group = cluster.group()
        leader = cluster.leader(group)
        next_leader = next(number for number in (1, 2, 3) if number != leader)
        assert await cluster.produce_surely(b"a", producer=(7, 0, 0)) == 0
        part = await cluster.produce(next_leader, b"b", producer=(7, 0, 1))
        assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        part = await cluster.produce(next_leader, b"x", producer=(8, 0, 0))
        assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        cluster.members[leader].consensus.replica(group).hand_over(next_leader)
        await cluster.until(lambda: cluster.leader(group) == next_leader, "the next leader")
        for producer in ((7, 0, 2), (8, 0, 1)):
            part = await cluster.produce(next_leader, b"c", producer=producer)
            assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        written = ((7, 0, 1), (7, 0, 2), (8, 0, 0), (8, 0, 1))
        parts = [await cluster.produce(next_leader, b"d", producer=each) for each in written]
        assert [part.base_offset for part in parts] == [1, 2, 3, 4]
        part = await cluster.produce(next_leader, b"e", producer=(7, 0, 9))
        assert part.error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    in_cluster(world, run)(body)


def test_a_batch_behind_one_that_the_gate_refused_waits_its_turn(world, monkeypatch):
    """Where the policy is too old to go by, it says the same as a node that does not lead."""

    async def body():
        async with world.running() as broker:
            await broker.create()
            await broker.produce(world.batch(b"a", producer=(7, 0, 0)))
            with monkeypatch.context() as patched:
                patched.setattr(broker.gate, "_is_stale", lambda: True)
                (part,) = await broker.produce(world.batch(b"b", producer=(7, 0, 1)))
                assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
            (part,) = await broker.produce(world.batch(b"c", producer=(7, 0, 2)))
            assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
            parts = await broker.produce(
                world.batch(b"b", producer=(7, 0, 1)), world.batch(b"c", producer=(7, 0, 2))
            )
            assert [part.base_offset for part in parts] == [1, 2]

    trio.run(body)


def test_a_node_that_is_elected_goes_on_by_what_it_heard_until_it_serves(play):
    """Or it refuses everything for as long as the entry that begins its term takes."""

    async def body(cluster):
        await cluster.create()
        await cluster.produce_surely(b"a")
        first = cluster.leader(CATALOGUE_LOG)
        others = [n for n in (1, 2, 3) if n != first]
        for node in others:
            cluster.carried_s[Channel.BULK, node] = 0.5
        cluster.kill(first)
        seen = []
        with trio.fail_after(60):
            while True:
                for node in others:
                    member = cluster.members[node]
                    replica = member.consensus.replica(CATALOGUE_LOG)
                    age_s = member.node.policies.contact_age_s()
                    if replica.role is Role.LEADER:
                        seen.append((replica.serving, age_s))
                    assert age_s < MAX_POLICY_STALENESS_S
                if seen and seen[-1][0]:
                    break
                await trio.sleep(0.01)
        assert not seen[0][0]

    play(body)


def test_a_batch_behind_one_that_was_taken_and_given_up_waits_its_turn_when_its_node_leads_again(
    play,
):
    """The first was under way when its leader was cut off; the second comes once it leads again."""

    async def body(cluster):
        await cluster.create()
        group = cluster.group()
        first = cluster.leader(group)
        other = next(n for n in (1, 2, 3) if n != first)
        cluster.silence(first)
        part = await cluster.produce(first, b"one", producer=(7, 0, 0))
        assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        await cluster.until(lambda: cluster.leader(group) not in {None, first}, "another leader")
        cluster.silenced.clear()

        with trio.fail_after(60):
            while cluster.leader(group) != first:
                asked = cluster.leader(group) or other
                await cluster.ask(asked, LeadPartition("orders", 0, first))
                await trio.sleep(0.1)
        second = await cluster.produce(first, b"two", producer=(7, 0, 1))
        assert second.error is ErrorCode.NOT_LEADER_OR_FOLLOWER, second
        for place, value in enumerate((b"one", b"two")):
            again = await cluster.produce(first, value, producer=(7, 0, place))
            assert (again.error, again.base_offset) == (ErrorCode.NONE, place)

    play(body)


def test_a_leader_that_was_cut_off_calls_nothing_out_of_order(world, run):
    """It does not know what its successor took: what seems to be a gap may be the next batch."""

    async def body(cluster):
        await cluster.create()
        leader = cluster.leader(cluster.group())
        assert await cluster.produce_surely(b"a", producer=(7, 0, 0)) == 0
        cluster.isolate(leader)
        await trio.sleep(0.1)  # what was under way has arrived; the leader knows of nothing yet
        part = await cluster.produce(leader, b"c", producer=(7, 0, 2))
        assert part.error is ErrorCode.NOT_LEADER_OR_FOLLOWER

    in_cluster(world, run)(body)
