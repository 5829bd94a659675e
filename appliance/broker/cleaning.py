"""One pass of compaction over a partition's log: read, judge, rewrite file by file, remember.

Rules: only closed files below the bound that the caller gives are touched, and the bound is the
commit or, if that is lower, the last stable offset. Records are read and judged in threads, a few
megabytes at a time. Each file is replaced by itself, so a pass may be cut off anywhere: what is
left is done by the next one.
"""

from collections.abc import Collection

import trio

from appliance.broker.compaction import NewestOffsets, Pass, cleanable
from appliance.broker.topic_settings import TopicSettings
from appliance.limits import MIB
from appliance.ports import PartitionLog
from appliance.types import Entry, Index, Offset, TimestampMs

_SLICE_BYTES = 4 * MIB


async def clean(
    log: PartitionLog,
    settings: TopicSettings,
    *,
    bound: Offset,
    keep_headers: Collection[int],
    drops_tombstones: bool,
    now_ms: TimestampMs,
) -> bool:
    """Runs a pass, if there is enough to do; whether there was.

    Raises RequestError for a batch that cannot be decoded, StorageError.

    Args:
        log: the partition's log.
        settings: the topic's.
        bound: nothing at or above it is looked at.
        keep_headers: base offsets of the last batch of each producer that is remembered.
        drops_tombstones: whether no other replica can still lack a tombstone that is dropped here.
        now_ms: the leader's time.
    """
    compacted = log.compacted
    files = cleanable(
        log.segments(),
        compacted=compacted,
        bound=bound,
        newest_ms=TimestampMs(now_ms - settings.min_compaction_lag_ms),
        dirty_ratio=settings.min_dirty_ratio,
    )
    dirty = [file for file in files if file.next_offset > compacted]
    if not dirty:
        return False
    newest = NewestOffsets()
    for file in dirty:
        if not await _note(log, newest, file.first_index, _last_index(log, file.first_index)):
            break
    judge = Pass(
        newest,
        tombstones_below=compacted if drops_tombstones else Offset(0),
        tombstones_before_ms=TimestampMs(now_ms - settings.delete_retention_ms),
        keep_headers=keep_headers,
    )

    def change(entry: Entry, is_last: bool) -> Entry:
        return judge.compacted(entry, is_last=is_last)

    for file in files:
        if file.first_offset < newest.end:
            await log.rewrite(file.first_index, change)
    await log.end_compaction(newest.end)
    return True


def _last_index(log: PartitionLog, first_index: Index) -> Index:
    """Of a closed file, from where the next one begins."""
    return Index(
        min(each.first_index for each in log.segments() if each.first_index > first_index) - 1
    )


async def _note(log: PartitionLog, newest: NewestOffsets, index: Index, last: Index) -> bool:
    """Notes the keys of entries up to `last`; False when there are too many."""
    while index <= last:
        entries = await log.entries(index, last, _SLICE_BYTES)
        if not await trio.to_thread.run_sync(newest.note, entries):
            return False
        index = Index(entries[-1].header.index + 1)
        await trio.lowlevel.checkpoint()
    return True
