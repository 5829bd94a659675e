"""Reading every file once in a while, so that damage is found before it is needed.

Rules: a file that is written is read as far as it is durable when its turn comes. A whole round
takes a period of days, whatever there is to read: after each slice the scrubber sleeps for that
slice's part of it. What it finds is said, once, and told to whoever repairs. The file stays where
it is: a reader of it is told of damage, everybody else is served, and nothing is deleted.
"""

from collections.abc import Callable, Iterable, Iterator

import structlog
import trio

from appliance.errors import DamageDetected, StorageError
from appliance.limits import SCRUB_PERIOD_S, SCRUB_REST_S, SCRUB_SLICE_BYTES
from appliance.storage.logfile import LogFile
from appliance.storage.segment import Frame
from appliance.types import PartitionId

_log = structlog.get_logger()

Files = Callable[[], Iterable[tuple[PartitionId, LogFile]]]
"""The files of all open logs, as they are now."""


class Scrubber:
    """One node's."""

    def __init__(self, files: Files) -> None:
        """Reads what `files` gives."""
        self._files = files
        self.damaged: dict[PartitionId, str] = {}
        """What was found, by partition; the newest of each."""
        self.verified_bytes = 0
        self.on_damage: Callable[[PartitionId], None] = lambda _: None
        """Told of a log in which damage was found, each time that it is."""

    async def run(self, period_s: float = SCRUB_PERIOD_S) -> None:
        """Round after round, each in `period_s`, until cancelled."""
        while True:
            files = list(self._files())
            total = sum(file.end for _, file in files)
            for partition, file in files:
                await self._verify(partition, file, period_s / max(total, 1))
            await trio.sleep(SCRUB_REST_S)

    async def _verify(self, partition: PartitionId, file: LogFile, rest_s_per_byte: float) -> None:
        """Reads one file from end to end, resting in between."""
        try:
            frames = await trio.to_thread.run_sync(file.frames_before_index, file.entry.first_index)
            while size := await trio.to_thread.run_sync(_read_slice, frames):
                self.verified_bytes += size
                await trio.sleep(size * rest_s_per_byte)
        except DamageDetected as damage:
            if self.damaged.get(partition) != str(damage):
                _log.error("damage found in a file: it is kept, and not read any more",
                           partition=str(partition), reason=str(damage))  # fmt: skip
            self.damaged[partition] = str(damage)
            self.on_damage(partition)
        except StorageError:
            return  # let go of meanwhile, by retention or compaction


def _read_slice(frames: Iterator[Frame]) -> int:
    """Verifies a few megabytes; how many bytes those were, 0 at the end. Raises DamageDetected."""
    size = 0
    for frame in frames:
        size += frame.end - frame.position
        if size >= SCRUB_SLICE_BYTES:
            break
    return size
