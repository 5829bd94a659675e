"""One sealed data file on a disk: frames are sealed into flushes, found again, and verified.

Rules (DESIGN section 5):

- Opening for append starts a new extent, and so does going on after a write that failed.
- A flush is written with one call; what it holds is known durable only after the sync, and each
  frame names the last frame of the flush before it.
- A frame is opened where it was read: ciphertext becomes plaintext in place, once its tag verified.
- A scan stops at the first frame that cannot be read. What a later frame or a mark proves durable
  is damage; anything else is a torn tail, which is kept aside and cut.
- What a scan can read and nothing proves durable is written again before anything rests on it: the
  process before may have been killed ahead of its sync, or its sync may have failed.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from appliance.crypto.aead import NONCE_RANDOM_BYTES, TAG_BYTES, TagMismatch
from appliance.crypto.chain import TagChain
from appliance.crypto.keyring import SALT_BYTES
from appliance.crypto.sealed import (
    EXTENT_HEADER_BYTES,
    FRAME_HEADER_BYTES,
    NO_FRAME,
    PREAMBLE_BYTES,
    ExtentHeader,
    ExtentReader,
    ExtentWriter,
    FrameKind,
    FrameRef,
    Place,
    Preamble,
    read_extent_header,
    read_frame_header,
    read_preamble,
    sealed_bytes,
)
from appliance.crypto.verdict import TailJudge
from appliance.errors import DamageDetected
from appliance.limits import MAX_SEALED_FRAME_BYTES, MIB
from appliance.ports import Entropy, SecretKey
from appliance.storage.buffers import FlushBuffers
from appliance.storage.disk import BlockFile
from appliance.storage.window import Window

_WINDOW_BYTES = 8 * MIB


class Tail(msgspec.Struct, frozen=True):
    """Where a file ends: what the next frame is chained to, and where it goes."""

    position: int
    tag: bytes
    frame: FrameRef
    """The last frame that verified, or NO_FRAME."""
    next_extent: int


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A verified frame: where it stands, and its plaintext without the preamble."""

    ref: FrameRef
    position: int
    end: int
    preamble: Preamble
    content: memoryview


class Flush(msgspec.Struct, frozen=True, gc=False):
    """Frames laid out for one write, in one buffer or several that follow one another."""

    position: int
    buffers: tuple[memoryview, ...]
    befores: tuple[Tail, ...]
    """What each frame follows."""
    last: FrameRef
    end: int

    def followed_by(self, other: "Flush") -> "Flush":
        """Both, for one write; `other` was laid out next, `joined` to this one."""
        return Flush(
            self.position,
            (*self.buffers, *other.buffers),
            (*self.befores, *other.befores),
            other.last,
            other.end,
        )


class SegmentWriter:
    """Appends to one file; begins with a new extent."""

    def __init__(
        self,
        file: BlockFile,
        *,
        place: Place,
        key: SecretKey,
        tail: Tail,
        entropy: Entropy,
        extents: dict[int, ExtentReader] | None = None,
        buffers: FlushBuffers | None = None,
    ) -> None:
        """Goes on at `tail`, which a scan has found, or where an empty file begins.

        `extents` learns of each extent that is begun, for the file's readers. Flushes are sealed
        into `buffers`, or into memory of their own.
        """
        self._file = file
        self._place = place
        self._key = key
        self._entropy = entropy
        self._chain = TagChain(tail.tag)
        self._position = tail.position
        self._durable = tail.frame
        self._last = tail.frame
        self._after = tail.frame
        self._next_extent = tail.next_extent
        self._extent: ExtentWriter | None = None
        self._extents = extents
        self._buffers = buffers

    @property
    def position(self) -> int:
        """Where the next flush will begin: the length of the file without reserved space."""
        return self._position

    @property
    def durable(self) -> FrameRef:
        """The last frame that is known to be durable."""
        return self._durable

    @property
    def tail(self) -> Tail:
        """Where the next flush will begin, as a reader would come to it."""
        return Tail(self._position, self._chain.tag, self._last, self._next_extent)

    def lay_out(
        self, frames: Sequence[tuple[FrameKind, int, bytearray]], *, joined: bool = False
    ) -> Flush:
        """Seals frames for one write, in this order.

        Each names the last frame of the flush before as durable: true wherever it is found, since
        it is written only after the sync of that flush has returned. It may be sealed sooner.

        Args:
            frames: (kind, entry count, plaintext), where the plaintext's first PREAMBLE_BYTES are
                left free for the preamble.
            joined: whether these go into the same write as the frames that were laid out last.
        """
        if not joined:
            self._after = self._last
        begin = self.tail
        extent, head = self._open_extent()
        size = len(head) + sum([sealed_bytes(len(plaintext)) for _, _, plaintext in frames])
        buffer = memoryview(bytearray(size)) if self._buffers is None else self._buffers.take(size)
        at = len(head)
        buffer[:at] = head
        befores: list[Tail] = []
        for kind, count, plaintext in frames:
            befores.append(self.tail if befores else begin)
            self._last = extent.next_frame
            plaintext[:PREAMBLE_BYTES] = Preamble(kind, count, self._after).encode()
            random = self._entropy.random_bytes(NONCE_RANDOM_BYTES)
            at = extent.seal_frame(plaintext, random, buffer, at)
            self._position = begin.position + at
        return Flush(begin.position, (buffer,), tuple(befores), self._last, self._position)

    def take_back(self, tail: Tail) -> None:
        """Forgets flushes that were laid out after `tail` and not written: there was no space.

        Their numbers are spent, so the next flush begins a new extent.
        """
        self._chain = TagChain(tail.tag)
        self._position = tail.position
        self._last = tail.frame
        self._extent = None

    def synced(self, last: FrameRef) -> None:
        """Learns that a flush ending in this frame is durable."""
        self._durable = last

    def _open_extent(self) -> tuple[ExtentWriter, bytes]:
        """The extent to seal in, and its header if it begins here."""
        if self._extent is not None and not self._extent.spent:
            return self._extent, b""
        self._extent = ExtentWriter(
            place=self._place,
            key=self._key,
            number=self._next_extent,
            salt=self._entropy.random_bytes(SALT_BYTES),
            chain=self._chain,
        )
        self._next_extent += 1
        header = self._extent.header
        if self._extents is not None:
            reader = ExtentReader(place=self._place, key=self._key, header=header)
            self._extents[header.number] = reader
        return self._extent, header.encode()


class SegmentReader:
    """Verifies frames of one file, from its beginning or from a place that is known."""

    def __init__(
        self,
        file: BlockFile,
        *,
        place: Place,
        key: SecretKey,
        extents: dict[int, ExtentReader] | None = None,
    ) -> None:
        """`extents` are known openers by extent number, shared by the readers of one file."""
        self._file = file
        self._place = place
        self._key = key
        self._extents: dict[int, ExtentReader] = {} if extents is None else extents
        self._window = Window(file)

    def scan(self, start: Tail, end: int) -> Iterator[Frame]:
        """Frames from `start` on, in order, until `end` or one that cannot be read.

        The last value of `tail` then says where reading stopped.
        """
        self.tail = start
        self._window.forget()
        self._last_flush = start.position
        self._reader = self._extents.get(start.next_extent - 1)
        durable = NO_FRAME
        while self.tail.position < end:
            begin = self.tail.position
            frame = self._next(end)
            if frame is None:
                return
            if frame.preamble.durable != durable:
                durable = frame.preamble.durable
                self._last_flush = begin
            yield frame

    def _next(self, end: int) -> Frame | None:
        position = self.tail.position
        head = self._window.look(position, EXTENT_HEADER_BYTES, end)
        extent = read_extent_header(head, 0)
        if extent is not None:
            return self._enter(extent, position, end)
        header = read_frame_header(head, 0)
        if header is None or self._reader is None or position + header.frame_bytes > end:
            return None
        if header.number != self.tail.frame.number + 1 and self.tail.frame.extent == (
            self._reader.header.number
        ):
            return None
        sealed = self._window.take(position + FRAME_HEADER_BYTES, header.length)
        if sealed is None:
            return None
        tag = bytes(sealed[-TAG_BYTES:])
        plaintext = memoryview(sealed)[: header.plaintext_bytes]
        try:
            self._reader.open_frame(header, sealed, self.tail.tag, plaintext)
            preamble = read_preamble(plaintext)
        except (TagMismatch, ValueError):
            return None
        ref = FrameRef(self._reader.header.number, header.number)
        after = position + header.frame_bytes
        self.tail = Tail(after, tag, ref, ref.extent + 1)
        return Frame(ref, position, after, preamble, plaintext[PREAMBLE_BYTES:])

    def _enter(self, header: ExtentHeader, position: int, end: int) -> Frame | None:
        """Goes into the extent whose header stands at `position`, and reads its first frame."""
        number = header.number
        if number < self.tail.next_extent:
            return None
        before, reader = self.tail, self._reader
        self._reader = self._extents.get(number)
        if self._reader is None:
            self._reader = ExtentReader(place=self._place, key=self._key, header=header)
            self._extents[number] = self._reader
        self.tail = Tail(
            position + EXTENT_HEADER_BYTES, before.tag, FrameRef(number, -1), number + 1
        )
        if self.tail.position < end:
            frame = self._next(end)
            if frame is not None:
                return frame
        self.tail, self._reader = before, reader
        self._extents.pop(number, None)
        return None

    def unreadable(self) -> DamageDetected:
        """What to raise where reading stopped, if it must not have."""
        frame = self.tail.frame
        return DamageDetected(
            f"file {self._place.file}: extent {frame.extent}, frame {frame.number + 1} "
            "cannot be read"
        )

    def frames_seem_to_follow(self, end: int) -> bool:
        """Whether lengths in the clear say that another frame stands behind the unreadable one.

        Only for files whose flushes are one frame each: there a crash leaves one at the most.
        """
        return any(
            self._two_frames_at(self.tail.position + skipped, end)
            for skipped in (0, EXTENT_HEADER_BYTES)
        )

    def _two_frames_at(self, position: int, end: int) -> bool:
        for _ in range(2):
            header = read_frame_header(self._read(position, FRAME_HEADER_BYTES), 0)
            if header is None or position + header.frame_bytes > end:
                return False
            position += header.frame_bytes
        return True

    def settle(self, durable_end: int) -> None:
        """Makes the last flush that was scanned durable; every one before it is proven to be.

        Syncing would not do: where a sync has failed, pages that never reached the disk are read
        back from memory, and the next sync succeeds. The same bytes go where they are.

        Args:
            durable_end: the length that the journal's mark attests, 0 if there is none.
        """
        start, end = self._last_flush, self.tail.position
        if end > durable_end:
            self._file.write(start, [self._read(start, end - start)])
            self._file.sync()

    def _read(self, position: int, count: int) -> bytearray:
        buffer = bytearray(count)
        filled = self._file.read_into(position, memoryview(buffer))
        return buffer[:filled] if filled < count else buffer

    def judge_tail(self, end: int, durable_end: int) -> None:
        """Raises DamageDetected if what follows the last good frame had been durable.

        Args:
            end: the file's length.
            durable_end: the length that the journal's mark attests, 0 if there is none.
        """
        tail = self.tail
        if tail.position < durable_end:
            raise DamageDetected(
                f"file {self._place.file}: extent {tail.frame.extent}, "
                f"frame {tail.frame.number + 1} cannot be read, and was durable"
            )
        bad = (
            FrameRef(tail.frame.extent, tail.frame.number + 1)
            if tail.frame != NO_FRAME
            else FrameRef(0, 0)
        )
        judge = self._judge(bad)
        for window, at in self._windows(end):
            if judge.proves_damage(window, at):
                raise DamageDetected(
                    f"file {self._place.file}: extent {bad.extent}, frame {bad.number} "
                    "cannot be read, and a later frame proves that it was durable"
                )

    def beyond(self, end: int) -> Iterator[memoryview]:
        """The contents of later frames that verify, with their preambles; some may come twice."""
        tail = self.tail
        judge = self._judge(FrameRef(tail.frame.extent, tail.frame.number + 1))
        for window, at in self._windows(end):
            for plaintext in judge.frames(window, at):
                yield memoryview(plaintext)

    def _judge(self, bad: FrameRef) -> TailJudge:
        return TailJudge(place=self._place, key=self._key, bad=bad, reader=self._reader)

    def _windows(self, end: int) -> Iterator[tuple[bytearray, int]]:
        """What follows the last good frame, in parts that overlap by a frame, and where from it."""
        start = at = self.tail.position
        end = min(end, self._file.written_end(start))
        overlap = MAX_SEALED_FRAME_BYTES + EXTENT_HEADER_BYTES + TAG_BYTES
        while at < end:
            yield self._read(at, min(_WINDOW_BYTES + overlap, end - at)), at - start
            at += _WINDOW_BYTES


def keep_aside(file: BlockFile, start: int, keep: Callable[[bytes], None]) -> int:
    """Hands a torn tail to `keep`, cuts it off, and returns how many bytes of it were not zero.

    Zeros are reserved space, or the rest of a block of the file system: they may stay.
    """
    written = file.written_end(start) - start
    tail = bytearray(min(written, _WINDOW_BYTES))
    filled = file.read_into(start, memoryview(tail))
    torn = bytes(tail[:filled]).rstrip(b"\x00")
    if torn:
        keep(torn)
    if torn or written > len(tail):
        file.cut(start)
    return len(torn)
