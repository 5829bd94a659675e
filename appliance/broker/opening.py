"""Looking into batches on the way in and out: in threads, few at a time, within bounds of memory.

Rules: a batch is a stranger's, and may become many times what it was. What a producer sends may
become DECODED_BYTES_PER_FRAME_BYTE times as large, or as large as the largest batch if that is
more (clients bound a batch before it is compressed), and what is stored already
MAX_DECOMPRESSED_BYTES. MAX_BATCHES_OPENED_AT_ONCE are open at a time, on the whole node;
others wait their turn.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import trio

from appliance.limits import (
    DECODED_BYTES_PER_FRAME_BYTE,
    MAX_BATCH_BYTES,
    MAX_BATCHES_OPENED_AT_ONCE,
    MAX_DECOMPRESSED_BYTES,
)
from appliance.wire.kafka.records import Record, decode_batch

T = TypeVar("T")

_openers: Final = trio.CapacityLimiter(MAX_BATCHES_OPENED_AT_ONCE)


async def with_records_of(
    batch: memoryview, look: Callable[[list[Record]], T], *, stored: bool
) -> T:
    """What `look` makes of a batch's records, in a thread; only that outlives the call.

    Raises RequestError for a batch that cannot be opened, or not within its bound.
    """
    bound = MAX_DECOMPRESSED_BYTES
    if not stored:
        bound = min(bound, max(MAX_BATCH_BYTES, DECODED_BYTES_PER_FRAME_BYTE * len(batch)))

    def open_and_look() -> T:
        return look(decode_batch(batch, max_decompressed_bytes=bound))

    return await trio.to_thread.run_sync(open_and_look, limiter=_openers)
