"""Whether bytes that cannot be read are a torn tail or damage (DESIGN section 5).

A flush is written only after the sync of the flush before it returned, and each frame names the
last frame of the flush before. So a frame that verifies, and names the unreadable one or a later
one, proves that the unreadable one had been durable: damage. Without such a frame (and without a
mark in the node's journal, which the caller looks at first) it is the torn end of the last flush,
of which nothing was acknowledged.

Lengths behind an unreadable frame cannot be trusted, so every position is tried where a frame of a
possible length and number could begin; only a tag that verifies counts.
"""

import re
from collections.abc import Iterator

from appliance.crypto.aead import TAG_BYTES, TagMismatch
from appliance.crypto.sealed import (
    EXTENT_HEADER_BYTES,
    FRAME_HEADER_BYTES,
    MAGIC,
    MIN_LENGTH,
    ExtentReader,
    FrameRef,
    Place,
    read_extent_header,
    read_frame_header,
    read_preamble,
)
from appliance.ports import SecretKey

MAX_TRIALS = 65_536
"""Tags that are tried before what looks like nothing but frames is called damage."""

# A length below 2^24 that is not zero, then a number below 2^25 (48 bytes or more a frame).
_POSSIBLE_FRAME = re.compile(rb"(?=\x00(?!\x00\x00\x00)[\x00-\x81][\s\S]{2}[\x00\x01])")
_MIN_FRAME_BYTES = FRAME_HEADER_BYTES + MIN_LENGTH


class _Extent:
    """An extent that frames may belong to, and where its frames begin at the earliest."""

    __slots__ = ("first_number", "position", "reader")

    def __init__(self, reader: ExtentReader, position: int, first_number: int) -> None:
        self.reader = reader
        self.position = position
        self.first_number = first_number

    def may_hold(self, number: int, position: int) -> bool:
        fits = (position - self.position) // _MIN_FRAME_BYTES
        return self.first_number <= number <= self.first_number + fits


class TailJudge:
    """Looks through what follows an unreadable frame, window by window, for proof of damage."""

    def __init__(
        self, *, place: Place, key: SecretKey, bad: FrameRef, reader: ExtentReader | None
    ) -> None:
        """For the frame `bad` at position 0; `reader` opens its extent, if that is known."""
        self._place = place
        self._key = key
        self._bad = bad
        self._trials = 0
        self._first_extent = bad.extent if reader is None else bad.extent + 1
        """Whose header may stand in what is looked through: a file's first frame takes it along."""
        self._extents = [] if reader is None else [_Extent(reader, 0, bad.number + 1)]

    def proves_damage(self, window: bytes | bytearray, position: int) -> bool:
        """Whether a frame in `window`, which begins at `position`, proves that `bad` was durable.

        Windows overlap by at least the largest frame and an extent header, so that each frame lies
        whole in one of them, with the tag before it.
        """
        for plaintext in self.frames(window, position):
            if read_preamble(plaintext).durable >= self._bad:
                return True
        return self._trials > MAX_TRIALS

    def frames(self, window: bytes | bytearray, position: int) -> Iterator[bytearray]:
        """The plaintext of every frame in `window` that verifies; see `proves_damage`."""
        self._find_extents(window, position)
        not_zero = len(window.rstrip(b"\x00"))  # what follows is mostly reserved space
        for match in _POSSIBLE_FRAME.finditer(window, 0, not_zero + FRAME_HEADER_BYTES):
            if self._trials > MAX_TRIALS:
                return
            if match.start() >= TAG_BYTES:
                plaintext = self._opened(window, match.start(), position)
                if plaintext is not None:
                    yield plaintext

    def _find_extents(self, window: bytes | bytearray, position: int) -> None:
        at = window.find(MAGIC)
        while at >= 0:
            header = read_extent_header(window, at)
            if header is not None and header.number >= self._first_extent:
                reader = ExtentReader(place=self._place, key=self._key, header=header)
                first = position + at + EXTENT_HEADER_BYTES
                self._extents.append(_Extent(reader, first, 0))
            at = window.find(MAGIC, at + 1)

    def _opened(self, window: bytes | bytearray, at: int, position: int) -> bytearray | None:
        """The plaintext of a frame that begins at `at`, if one does."""
        header = read_frame_header(window, at)
        if header is None or at + header.frame_bytes > len(window):
            return None
        begin = at + FRAME_HEADER_BYTES
        sealed = memoryview(window)[begin : begin + header.length]
        for extent in self._extents:
            if not extent.may_hold(header.number, position + at):
                continue
            self._trials += 1
            if self._trials > MAX_TRIALS:
                return None
            first = position + at == extent.position and header.number == 0
            tag_at = at - TAG_BYTES - (EXTENT_HEADER_BYTES if first else 0)
            if tag_at < 0:
                continue
            prior_tag = bytes(window[tag_at : tag_at + TAG_BYTES])
            plaintext = bytearray(header.plaintext_bytes)
            try:
                extent.reader.open_frame(header, sealed, prior_tag, memoryview(plaintext))
            except TagMismatch:
                continue
            return plaintext
        return None
