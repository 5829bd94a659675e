"""Requests to other nodes: how long their answers are waited for."""

from uuid import UUID

import pytest
import trio
import trio.testing

from appliance.broker import peer_codec
from appliance.broker.consensus import Consensus
from appliance.broker.liveness import encode
from appliance.broker.outbox import Channel, Outbox
from appliance.broker.peering import Identity, Peers
from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_PEER_CALL_S, RAFT_ELECTION_TICKS, RAFT_TICK_MS
from appliance.server.peer_link import PeerLink
from appliance.server.peers import PeerConnections
from appliance.types import ClusterId, NodeId
from appliance.wire.requests.peer import Address, Enact, Enacted

CLUSTER = ClusterId(UUID(int=7))
OTHER = NodeId(2)
SILENT_S = (RAFT_ELECTION_TICKS + 2) * RAFT_TICK_MS / 1000


@pytest.fixture
def peers():
    known = Peers(Identity(CLUSTER, NodeId(1), 1, Address("n1", 1)))
    known.know({OTHER: Address("n2", 2)})
    return known


def hear(consensus):
    """The other node says that it lives, once."""
    lives = peer_codec.encode_liveness(encode(1, 1, (), full=True))
    consensus.receive(OTHER, memoryview(peer_codec.join([lives])))


async def refusal_of_unanswered(peers, nursery):
    """What a request comes to whose node took it, and says nothing more; and after how long."""
    connections = PeerConnections(peers, lambda: None, lambda _: None, None)
    here, _there = trio.testing.memory_stream_pair()
    link = PeerLink(here, Outbox(), peer_codec.join, CLUSTER)
    connections._links[OTHER, Channel.BULK] = link
    nursery.start_soon(link.run)
    began = trio.current_time()
    with pytest.raises(RequestError) as refusal:
        await peers.caller.call(OTHER, Enact(memoryview(b"command")), Enacted)
    nursery.cancel_scope.cancel()
    return refusal.value.code, trio.current_time() - began


def test_nobody_waits_for_a_node_that_is_taken_for_dead(peers):
    async def main():
        consensus = Consensus(peers)
        hear(consensus)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consensus.run)
            code, waited_s = await refusal_of_unanswered(peers, nursery)
        assert code is ErrorCode.REQUEST_TIMED_OUT
        assert waited_s <= SILENT_S

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_what_waits_for_a_node_that_is_taken_for_dead_is_not_kept_beside_its_next_copy(peers):
    async def main():
        consensus = Consensus(peers)
        outbox = peers.outbox(OTHER, Channel.BULK)
        outbox.open = True
        hear(consensus)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consensus.run)
            assert outbox.put(b"entries")
            await trio.sleep(SILENT_S / 2)
            assert outbox.put(b"more entries")
            await trio.sleep(SILENT_S)
            assert outbox.take() == []
            assert outbox.put(b"the same entries again")
            assert outbox.take() == [b"the same entries again"]
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_node_that_lives_is_waited_for_within_a_bound(peers):
    async def main():
        async with trio.open_nursery() as nursery:
            code, waited_s = await refusal_of_unanswered(peers, nursery)
        assert code is ErrorCode.REQUEST_TIMED_OUT
        assert waited_s == pytest.approx(MAX_PEER_CALL_S)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
