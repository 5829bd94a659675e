"""Commands in a partition's own log: what its replicas must agree on besides batches.

Rules: an encoding is msgpack with a tag that names command and version; bytes that are no command
of this release are damage or a newer feature level, and are not skipped.
"""

import msgspec

from appliance.errors import DamageDetected
from appliance.types import Buffer, Offset


class SetLogStart(msgspec.Struct, frozen=True, tag="set-log-start/1"):
    """The log begins at `offset` from here on, unless it begins further up; files go later."""

    offset: Offset


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SetLogStart)


def encode(command: SetLogStart) -> bytes:
    """The payload of the command's entry."""
    return _encoder.encode(command)


def decode(payload: Buffer) -> SetLogStart:
    """The command in an entry; raises DamageDetected."""
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError:
        raise DamageDetected("an entry holds no command that is known here") from None
