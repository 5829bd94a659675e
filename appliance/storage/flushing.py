"""From entries to durable frames: sealing, writing and syncing, one flush behind the other.

Rules (DESIGN sections 5 and 8):

- A flush is written only after the sync of the one before returned, but sealed while that runs: in
  another thread, frame by frame as they fill, into buffers that are used again.
- Frames are sealed in the order of their entries. Only one thread seals at a time; whoever comes
  next to it is decided on the event loop.
- A small flush is sealed on the event loop and shares its thread with those of other logs; a large
  one that nothing came before is sealed, written and synced in one thread, one hop altogether.
- What found no space is taken back, with everything that was sealed behind it. Numbers that were
  spent on it stay spent.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from appliance.crypto.sealed import FRAME_OVERHEAD_BYTES, FrameKind
from appliance.errors import StorageError, StorageFull
from appliance.invariant import invariant
from appliance.limits import (
    INLINE_SEAL_BYTES,
    MAX_FLUSH_BYTES,
    MAX_FRAME_PAYLOAD_BYTES,
    SEAL_AHEAD_BYTES,
)
from appliance.storage import layout
from appliance.storage.layout import Stamp
from appliance.storage.logfile import LogFile
from appliance.storage.rounds import WriteRounds
from appliance.storage.segment import Flush
from appliance.storage.staging import Group, Staging
from appliance.storage.worker import Call, in_thread


class SealedGroups(msgspec.Struct, frozen=True):
    """Groups of entries, each with the plaintext of its frame, laid out for one write."""

    groups: tuple[Group, ...]
    plaintexts: tuple[bytearray, ...]
    flush: Flush

    @property
    def size_bytes(self) -> int:
        """What they take of the file."""
        return self.flush.end - self.flush.position

    def followed_by(self, other: "SealedGroups") -> "SealedGroups":
        """Both, for one write."""
        return SealedGroups(
            (*self.groups, *other.groups),
            (*self.plaintexts, *other.plaintexts),
            self.flush.followed_by(other.flush),
        )


Synced = Callable[[SealedGroups], None]
"""Learns what is durable now."""


class Unwritten(StorageFull):
    """There was no space: `groups` were not written, and are to wait again."""

    def __init__(self, groups: Sequence[Group], reason: StorageFull) -> None:
        """`reason` says what found no space."""
        super().__init__(str(reason))
        self.groups = groups


class Flusher:
    """How one log's entries reach its active file."""

    __slots__ = ("_call", "_room", "_rounds", "_sealing", "_staging", "_stamp")

    def __init__(self, staging: Staging, stamp: Stamp, rounds: WriteRounds) -> None:
        """Takes what waits in `staging`."""
        self._staging = staging
        self._stamp = stamp
        self._rounds = rounds
        self._sealing = threading.Lock()
        self._call: Call[_Written] | None = None
        self._room = 0

    def arrived(self) -> None:
        """Learns that more waits, and may be sealed while a sync runs."""
        if self._call is not None and self._staging.size_bytes >= SEAL_AHEAD_BYTES:
            self._call.wake()

    async def flush(
        self,
        file: LogFile,
        groups: list[Group],
        room: int,
        goes_on: Callable[[], bool],
        synced: Synced,
    ) -> None:
        """Writes and syncs groups, and what comes meanwhile, until nothing more is sealed.

        Cannot be cancelled.

        Args:
            file: the active file.
            groups: what waited.
            room: how many bytes should go into the file; `groups` do in any case.
            goes_on: whether more than what is sealed may follow now.
            synced: called on the event loop after each sync.

        Raises:
            StorageError: the file is closed for good.
            Unwritten: nothing after what `synced` was told last has been written.
        """
        if sum(map(layout.frame_bytes, groups)) < INLINE_SEAL_BYTES:
            synced(await self._written_with_others(file, groups))
            return
        self._room = room - _bytes_of(groups)
        ahead: SealedGroups | None = None
        try:
            while groups or ahead is not None:
                ahead = await self._flush_large(file, ahead, groups, goes_on, synced)
                groups = self._taken(ahead, goes_on) if ahead is not None else []
        finally:
            self._call = None

    async def _written_with_others(self, file: LogFile, groups: list[Group]) -> SealedGroups:
        sealed = self._seal(file, groups, joined=False)
        try:
            await self._rounds.put(file.file, sealed.flush)
        except StorageFull as full:
            file.take_back(sealed.flush)
            raise Unwritten(groups, full) from None
        return sealed

    async def _flush_large(
        self,
        file: LogFile,
        sealed: SealedGroups | None,
        groups: list[Group],
        goes_on: Callable[[], bool],
        synced: Synced,
    ) -> SealedGroups | None:
        """Writes what is sealed, and `groups` behind it; gives what was sealed meanwhile."""
        free = self._sealing.acquire(blocking=False)
        invariant(free, "one thread seals at a time")
        call = self._call = Call[_Written]()
        await call.begin(partial(self._seal_and_write, file, sealed, groups))
        ahead: SealedGroups | None = None
        while not call.ended:
            more = self._taken(ahead, goes_on, full=True)
            if more:
                ahead = await in_thread(partial(self._seal_next, file, ahead, more))
            else:
                await call.wait()
        written = await call.result()
        if written.full is not None:
            file.take_back(written.sealed.flush)
            behind = () if ahead is None else ahead.groups
            raise Unwritten((*written.sealed.groups, *behind), written.full)
        synced(written.sealed)
        return ahead

    def _taken(
        self, ahead: SealedGroups | None, goes_on: Callable[[], bool], *, full: bool = False
    ) -> list[Group]:
        """What still goes into the flush that `ahead` begins; one frame at a time if `full`."""
        if full and self._staging.size_bytes < SEAL_AHEAD_BYTES:
            return []
        if not self._staging or not goes_on():
            return []
        room = min(self._room, MAX_FLUSH_BYTES - (0 if ahead is None else ahead.size_bytes))
        if full:
            room = min(room, MAX_FRAME_PAYLOAD_BYTES)
        groups = self._staging.take(room)
        self._room -= _bytes_of(groups)
        return groups

    # --- in threads ----------------------------------------------------------------------------

    def _seal_and_write(
        self, file: LogFile, sealed: SealedGroups | None, groups: list[Group]
    ) -> "_Written":
        """The sealing lock was taken for this call."""
        try:
            if groups:
                sealed = self._sealed_behind(file, sealed, groups)
        finally:
            self._sealing.release()
        if sealed is None:
            invariant(sealed is not None, "there is something to write")
            raise StorageError("nothing to write")
        try:
            file.write(sealed.flush)
        except StorageFull as full:
            return _Written(sealed, full)
        return _Written(sealed)

    def _seal_next(
        self, file: LogFile, ahead: SealedGroups | None, groups: list[Group]
    ) -> SealedGroups:
        with self._sealing:
            return self._sealed_behind(file, ahead, groups)

    def _sealed_behind(
        self, file: LogFile, sealed: SealedGroups | None, groups: list[Group]
    ) -> SealedGroups:
        if sealed is None:
            return self._seal(file, groups, joined=False)
        return sealed.followed_by(self._seal(file, groups, joined=True))

    def _seal(self, file: LogFile, groups: Sequence[Group], *, joined: bool) -> SealedGroups:
        plaintexts = tuple([layout.lay_out(group, self._stamp) for group in groups])
        frames = [
            (FrameKind.ENTRIES, len(group), plaintext)
            for group, plaintext in zip(groups, plaintexts, strict=True)
        ]
        return SealedGroups(tuple(groups), plaintexts, file.seal(frames, joined=joined))


class _Written(msgspec.Struct, frozen=True):
    """What became of a flush: durable, or not written at all."""

    sealed: SealedGroups
    full: StorageFull | None = None


def _bytes_of(groups: Sequence[Group]) -> int:
    """About what groups take of a file."""
    return sum([layout.frame_bytes(group) + FRAME_OVERHEAD_BYTES for group in groups])
