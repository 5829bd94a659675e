"""The audit log: events become records of a sealed, chained journal before anything is answered.

Rules: `record` returns when its events are durable, and raises otherwise; whoever called it then
refuses the operation, so nothing happens that the log does not hold. Concurrent calls share the
journal's sync. Order, chain and secrecy are the journal's; number, time and safety of the text are
given here.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from appliance.audit.events import Denial, Login, LoginRefused, LogShrunk, Mutation, Recorded
from appliance.audit.redact import redacted
from appliance.errors import DamageDetected
from appliance.invariant import InvariantViolation
from appliance.ports import Clock, SealedJournal

EVENT_TYPES: Final = (Login, LoginRefused, Denial, Mutation, LogShrunk)


class AuditLog:
    """Implements `ports.AuditSink` over a sealed journal."""

    def __init__(self, journal: SealedJournal, clock: Clock) -> None:
        """The journal is the log's own; nothing else writes to it."""
        self._journal = journal
        self._clock = clock
        self._encoder = msgspec.msgpack.Encoder()
        self._next_sequence: int | None = None
        self._starting = trio.Lock()

    async def start(self) -> None:
        """Reads on from what the journal holds; the first `record` does it if nobody did.

        Raises DamageDetected when the journal holds something else than an audit log.
        """
        async with self._starting:
            if self._next_sequence is None:
                recorded = await read_events(self._journal)
                self._next_sequence = recorded[-1].sequence + 1 if recorded else 1

    async def record(self, events: Sequence[msgspec.Struct]) -> None:
        """Returns when the events are durable, in their order; raises StorageError otherwise."""
        if not events:
            return
        if self._next_sequence is None:
            await self.start()
        records = [self._encode(event) for event in events]
        # No checkpoint lies between the numbers and the journal, so their order is one.
        await self._journal.append(records)

    def _encode(self, event: msgspec.Struct) -> bytes:
        if not isinstance(event, EVENT_TYPES) or self._next_sequence is None:
            raise InvariantViolation("a started audit log records audit events, and only those")
        sequence = self._next_sequence
        self._next_sequence = sequence + 1
        return self._encoder.encode(Recorded(sequence, self._clock.now_ms(), redacted(event)))


async def read_events(journal: SealedJournal) -> list[Recorded]:
    """Every event from the first, verified by the journal.

    Raises DamageDetected when a record is no event, or the numbers do not grow.
    """
    decoder = msgspec.msgpack.Decoder(Recorded)
    events: list[Recorded] = []
    for place, record in enumerate(await journal.read_all()):
        try:
            event = decoder.decode(record)
        except msgspec.DecodeError:
            raise DamageDetected(f"audit log: record {place} is not an event") from None
        if events and event.sequence <= events[-1].sequence:
            raise DamageDetected(f"audit log: record {place} is out of its order")
        events.append(event)
    return events
