"""Commands in a partition's own log, and its state: what its replicas agree on besides batches.

Rules: an encoding is msgpack with a tag that names command and version; bytes that are no command
of this release are damage or a newer feature level, and are not skipped.
"""

import msgspec

from appliance.broker.producers import Producer
from appliance.errors import DamageDetected
from appliance.types import Buffer, Offset


class SetLogStart(msgspec.Struct, frozen=True, tag="set-log-start/1"):
    """The log begins at `offset` from here on, unless it begins further up; files go later."""

    offset: Offset


class KeptState(msgspec.Struct, frozen=True, tag="partition/1"):
    """What the entries of a partition amount to: its producers, its largest time, its start."""

    producers: tuple[tuple[int, Producer], ...]
    """The longest silent first."""
    max_timestamp_ms: int
    max_timestamp_offset: Offset
    log_start: Offset


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SetLogStart)
_states = msgspec.msgpack.Decoder(KeptState)


def encode_state(state: KeptState) -> bytes:
    """The state as a snapshot holds it."""
    return _encoder.encode(state)


def decode_state(state: bytes) -> KeptState:
    """The state in a snapshot; raises DamageDetected."""
    try:
        return _states.decode(state)
    except msgspec.MsgspecError:
        raise DamageDetected("a snapshot holds no state that is known here") from None


def encode(command: SetLogStart) -> bytes:
    """The payload of the command's entry."""
    return _encoder.encode(command)


def decode(payload: Buffer) -> SetLogStart:
    """The command in an entry; raises DamageDetected."""
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError:
        raise DamageDetected("an entry holds no command that is known here") from None
