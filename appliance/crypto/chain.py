"""The chain of tags: each frame's additional data holds the tag of the frame before it.

So frames cannot be reordered, left out, repeated or moved to another place without one tag being
wrong. The first frame of an extent binds the last valid tag before it, the first frame of a file
the final tag of the file before; the first file of all begins at `GENESIS`.
"""

import hashlib

from appliance.crypto.aead import TAG_BYTES
from appliance.invariant import invariant

GENESIS = bytes(TAG_BYTES)
"""What the first frame of a first file has before it."""


def anchor(header: bytes) -> bytes:
    """A beginning for a chain that binds a header which itself stands in the clear."""
    return hashlib.sha256(header).digest()[:TAG_BYTES]


class TagChain:
    """The last tag, as one writer or one reader has come to it."""

    __slots__ = ("_tag",)

    def __init__(self, tag: bytes) -> None:
        """Begins after the frame whose tag this is, or at `GENESIS`."""
        invariant(len(tag) == TAG_BYTES, "a tag has 16 bytes")
        self._tag = tag

    @property
    def tag(self) -> bytes:
        """The tag that the next frame binds."""
        return self._tag

    def link(self, tag: bytes) -> None:
        """Goes on to the next frame, whose own tag this is."""
        invariant(len(tag) == TAG_BYTES, "a tag has 16 bytes")
        self._tag = tag
