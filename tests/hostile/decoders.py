"""The decoders in this process, measured: the most memory that a hostile frame takes."""

import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from msgspec import Struct

from appliance.errors import ProtocolViolation, RequestError
from appliance.limits import KIB, MAX_BATCH_BYTES, MIB, SPARE_DECODED_BYTES
from appliance.wire.kafka import codec as kafka
from appliance.wire.kafka.records import decode_batch
from appliance.wire.native import codec as native
from tests.hostile import hammer

PER_FRAME_BYTE: Final = 8
_FIXED_BYTES: Final = 16 * KIB
"""Of an exception and the objects around it, whatever the frame."""


class Measured(Struct, frozen=True):
    """One kind of frames: how many, how many were refused, and the worst of them."""

    what: str
    frames: int
    refused: int
    worst_peak_bytes: int
    worst_frame_bytes: int
    spare_bytes: int

    @property
    def holds(self) -> bool:
        """Whether the worst took at most eight times its frame, and what is spared beside."""
        return self.worst_peak_bytes <= PER_FRAME_BYTE * self.worst_frame_bytes + self.spare_bytes


def _bomb(frame: memoryview) -> object:
    batch = frame[bytes(frame).index(hammer.COMPACTED.encode()) + len(hammer.COMPACTED) + 12 :]
    bound = max(MAX_BATCH_BYTES, PER_FRAME_BYTE * len(batch))
    return decode_batch(batch, max_decompressed_bytes=bound)


def measured() -> Iterable[Measured]:
    """Each way of `hammer`, against the decoder that it is meant for."""
    yield _measure("counts and lengths", hammer.counts(), kafka.decode, _FIXED_BYTES)
    yield _measure("narrow elements", hammer.narrow(), kafka.decode, SPARE_DECODED_BYTES)
    depths = [each for each in hammer.depths() if each[0] == "native"]
    yield _measure("native counts and depths", depths, native.decode, _FIXED_BYTES)
    yield _measure("bombs in batches", hammer.bombs(), _bomb, MAX_BATCH_BYTES + MIB)


def _measure(
    what: str,
    frames: Iterable[hammer.Hostile],
    decode: Callable[[memoryview], object],
    spare_bytes: int,
) -> Measured:
    number = refused = 0
    worst = (float("-inf"), 0, 0)
    for _, _, frame in frames:
        view = memoryview(frame)
        number += 1
        refused += 1
        tracemalloc.start()
        try:
            with suppress(ProtocolViolation, RequestError):
                decode(view)
                refused -= 1
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        worst = max(worst, (peak - PER_FRAME_BYTE * len(view), peak, len(view)))
    return Measured(what, number, refused, worst[1], worst[2], spare_bytes)
