"""Counts TLS records in ciphertext, from their five-byte headers alone (RFC 8446 section 5.1).

OpenSSL decrypts one record a call and says by an exception that there is no more. Who knows how
many whole records went in asks that many times and spares the exception, once for every wake-up.
Nothing rests on the count but speed: OpenSSL parses and judges the same bytes by itself.
"""

from struct import Struct
from typing import Final

HEADER_BYTES: Final = 5
MAX_PLAINTEXT_BYTES: Final = 1 << 14
OVERHEAD_BYTES: Final = HEADER_BYTES + 1 + 16
"""Header, content type and tag of a TLS 1.3 record."""

_LENGTH = Struct(">3xH")


def sealed_bytes(plaintext_bytes: int) -> int:
    """Ciphertext that as many bytes of plaintext become, without padding."""
    records = -(-plaintext_bytes // MAX_PLAINTEXT_BYTES)
    return plaintext_bytes + records * OVERHEAD_BYTES


class RecordMeter:
    """Where record boundaries lie in one direction of one connection."""

    __slots__ = ("_end", "_head")

    def __init__(self) -> None:
        """Begins where the stream does."""
        self._end = 0
        self._head = b""

    def feed(self, data: memoryview) -> int:
        """How many records these next bytes of the stream complete."""
        size = len(data)
        end = self._end  # Of the record under way; 0 means that a header comes first.
        complete = 0
        if self._head:
            missing = HEADER_BYTES - len(self._head)
            self._head += bytes(data[:missing])
            if size < missing:
                return 0
            end = missing + int(_LENGTH.unpack(self._head)[0])
            self._head = b""
            if end <= size:
                complete = 1
        elif end and end <= size:
            complete = 1
        while end <= size:
            if size - end < HEADER_BYTES:
                self._head = bytes(data[end:])
                self._end = 0
                return complete
            end += HEADER_BYTES + int(_LENGTH.unpack_from(data, end)[0])
            complete += end <= size
        self._end = end - size
        return complete
