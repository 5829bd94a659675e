"""What is sent to a replica that is yet to come keeps to a rate; a voter that lags is not held."""

import trio

from appliance.errors import ErrorCode
from appliance.wire.requests import MovePartition

BATCHES, SIZE = 24, 50_000
RATE = "appliance.broker.settings.BrokerSettings.moves_bytes_per_s"


def moved_in_s(play, monkeypatch):
    """How long a third replica takes for a partition of 1.2 MB, of which memory holds half."""
    monkeypatch.setattr("appliance.broker.replica.TAIL_BYTES", SIZE)
    took_s = []

    async def body(cluster):
        await cluster.create(replication=2)
        for _ in range(BATCHES):
            await cluster.produce_surely(b"x" * SIZE)
        membership = cluster.members[1].node.policies.state.membership
        held = membership.assignment(cluster.group()).replicas
        new = next(n for n in (1, 2, 3) if n not in held)
        began = trio.current_time()
        reply = await cluster.ask(1, MovePartition("orders", 0, (*held, new)))
        assert reply.error is ErrorCode.NONE, reply
        await cluster.until(lambda: cluster.held(new) == BATCHES, "all that is to come", 60)
        took_s.append(trio.current_time() - began)

    play(body)
    return took_s[0]


def test_a_move_keeps_to_the_rate(play, monkeypatch):
    unhurried_s = moved_in_s(play, monkeypatch)
    monkeypatch.setattr(RATE, 100_000)
    assert moved_in_s(play, monkeypatch) > unhurried_s + 4


def test_a_voter_that_was_away_catches_up_at_once(play, monkeypatch):
    monkeypatch.setattr("appliance.broker.replica.TAIL_BYTES", SIZE)
    monkeypatch.setattr(RATE, 100_000)

    async def body(cluster):
        await cluster.create(replication=3)
        away = next(n for n in (1, 2, 3) if n != cluster.leader(cluster.group()))
        cluster.silence(away)
        for _ in range(BATCHES):
            await cluster.produce_surely(b"x" * SIZE)
        cluster.silenced.clear()
        began = trio.current_time()
        await cluster.until(lambda: cluster.held(away) == BATCHES, "what it missed", 60)
        assert trio.current_time() - began < 3

    play(body)
