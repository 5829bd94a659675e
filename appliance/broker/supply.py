"""Entries for followers: what consensus says to send, read and cut into messages.

Rules: whoever keeps up is served from memory, at once. Whoever lags is read for from the log, by
one task a follower while there is something to read, in order, so that a slow disk or a slow
follower never holds up the others. What cannot be read any more is not sent; consensus finds that
out and offers a snapshot.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import trio

from appliance.broker.peer_codec import runs_of
from appliance.broker.tail import EntryTail
from appliance.errors import ApplianceError, DamageDetected
from appliance.limits import MAX_APPEND_BYTES
from appliance.ports import PartitionLog
from appliance.raft.messages import Append
from appliance.raft.ready import SendEntries
from appliance.types import Entry, Index, NodeId, Position

MAX_LAGGING_SENDS = 64
"""That wait for one follower's reader; more are dropped, and probed for again."""


class Supply:
    """What one group's leader sends."""

    def __init__(
        self,
        node: NodeId,
        log: PartitionLog,
        tail: EntryTail,
        nursery: trio.Nursery,
        *,
        damaged: Callable[[], None],
        send: Callable[[Append, Sequence[Entry]], None],
        still_leads: Callable[[SendEntries], bool],
        held_back: Callable[[NodeId, int], Awaitable[None]],
    ) -> None:
        """`send` hands a message to the queue of its node; `still_leads` is asked after a wait.

        `damaged` is told when the log cannot be read. `held_back` returns when so many bytes that
        were read may go to a node.
        """
        self._node = node
        self._log = log
        self._tail = tail
        self._nursery = nursery
        self._send = send
        self._still_leads = still_leads
        self._damaged = damaged
        self._held_back = held_back
        self._lagging: dict[NodeId, deque[SendEntries]] = {}

    def supply(self, order: SendEntries) -> None:
        """Sends a range now, or has it read."""
        waiting = self._lagging.get(order.to)
        if waiting is None:
            entries = self._at_hand(order.first, order.last)
            if entries is not None:
                self._send(order.message(self._node, runs_of(entries)), entries)
                return
            waiting = self._lagging[order.to] = deque()
            self._nursery.start_soon(self._read_for, order.to, waiting)
        if len(waiting) < MAX_LAGGING_SENDS:
            waiting.append(order)

    def _at_hand(self, first: Index, last: Index) -> list[Entry] | None:
        return self._tail.between(first, last) if first <= last else []

    async def _read_for(self, node: NodeId, waiting: deque[SendEntries]) -> None:
        try:
            while waiting:
                await self._read_one(waiting.popleft())
        except DamageDetected:
            waiting.clear()
            self._damaged()
        except ApplianceError:
            waiting.clear()  # not there any more, or not readable: the follower gets a snapshot
        finally:
            del self._lagging[node]

    async def _read_one(self, order: SendEntries) -> None:
        previous, first = order.previous, order.first
        while self._still_leads(order):
            entries = self._at_hand(first, order.last)
            if entries is None:
                entries = await self._log.entries(first, order.last, MAX_APPEND_BYTES)
                await self._held_back(order.to, sum(len(entry.payload) for entry in entries))
                if not self._still_leads(order):
                    return
            self._send(order.message(self._node, runs_of(entries), previous), entries)
            if not entries or entries[-1].header.index >= order.last:
                return
            header = entries[-1].header
            previous = Position(header.term, header.index)
            first = Index(header.index + 1)
