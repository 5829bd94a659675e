"""Where a log should begin by its retention: a plan, made from its files alone.

The rules are Kafka's: whole files go, the oldest first, and none that holds anything at or above
the high watermark. By time, a file goes once its newest batch is older than `retention.ms`, the
active file too (it is ended then). By size, a file goes while those after it still hold
`retention.bytes`.
"""

from collections.abc import Sequence
from typing import Final

from appliance.ports import SegmentInfo
from appliance.types import Offset, TimestampMs

UNLIMITED: Final = -1


def new_start(
    segments: Sequence[SegmentInfo],
    *,
    start: Offset,
    high_watermark: Offset,
    now_ms: TimestampMs,
    retention_ms: int,
    retention_bytes: int,
) -> Offset:
    """The offset at which the log should begin: `start`, or one further up.

    Args:
        segments: the log's files, oldest first, the active one among them.
        start: where the log begins now.
        high_watermark: nothing at or above it goes.
        now_ms: the leader's time.
        retention_ms: see the rules above; UNLIMITED keeps everything.
        retention_bytes: as `retention_ms`.
    """
    left = sum(segment.size_bytes for segment in segments)
    for place, segment in enumerate(segments):
        is_active = place == len(segments) - 1
        left -= segment.size_bytes
        expired = retention_ms != UNLIMITED and segment.max_time_ms < now_ms - retention_ms
        in_excess = retention_bytes != UNLIMITED and left >= retention_bytes and not is_active
        if not (expired or in_excess) or segment.next_offset > high_watermark:
            break
        start = max(start, segment.next_offset)
    return start
