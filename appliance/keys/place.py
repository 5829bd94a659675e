"""A key's place in bytes, as every provider binds it.

Rules: fixed-width, so no two places share an encoding; the label and its version come first, so no
other use of the same key can meet it. Changing a byte here orphans every wrap that exists.
"""

import hashlib
import struct

from appliance.ports import KeyPlace

_LABEL = b"memorystreamer key place 1\x00"
_FIELDS = struct.Struct(">27s16s16s16sIH")


def encoded(place: KeyPlace) -> bytes:
    """81 bytes: label, cluster, partition, key domain, key epoch, format."""
    return _FIELDS.pack(
        _LABEL,
        place.cluster.bytes,
        place.partition.bytes,
        place.domain.bytes,
        place.epoch,
        place.format,
    )


def context(place: KeyPlace) -> bytes:
    """SHA-256 of the encoding: Transit's derivation context (DESIGN section 6)."""
    return hashlib.sha256(encoded(place)).digest()
