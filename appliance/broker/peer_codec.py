"""Consensus messages between nodes, encoded: what a delivery holds.

    delivery = version 1 | item*
    item     = length 4 | kind 1 | group 16 | header length 4 | header | columns | payloads

The header is the message of `raft.messages` in msgpack. An append carries for each entry a row of
20 bytes (leader time, base offset, last offset delta) and then the payloads, in order; what the
core needs to know of them stands in the header's runs. An offer of a snapshot carries the next
offset behind it, in 8 bytes, and the state of the group (`snapshots`). Liveness is an item of its
own kind whose body is columns (`liveness`).

Rules: a delivery is of the version that the greeting settled; one that does not add up closes the
connection, because a node that verified its neighbour's certificate must find sense in its words.
"""

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from appliance.broker.snapshots import Offered
from appliance.errors import DamageDetected, ProtocolViolation
from appliance.limits import MAX_BATCH_BYTES
from appliance.raft import messages as raft
from appliance.raft.configuration import Configuration
from appliance.types import (
    Buffer,
    Entry,
    EntryHeader,
    EntryKind,
    Index,
    Offset,
    PartitionId,
    TimestampMs,
)

VERSION: Final = 1
LIVENESS: Final = 255
"""The kind of the item that is not of one group."""

_HEAD: Final = Struct(">IB16sI")
_ROW: Final = Struct(">QQi")
_OFFSET: Final = Struct(">Q")
_LENGTH_BYTES: Final = 4
_NO_GROUP: Final = bytes(16)

KINDS: Final[tuple[type[raft.PeerMessage], ...]] = (
    raft.PreVote, raft.PreVoteReply, raft.Vote, raft.VoteReply, raft.Append, raft.AppendReply,
    raft.Heartbeat, raft.HeartbeatReply, raft.SnapshotOffer, raft.SnapshotReply, raft.TimeoutNow,
)  # fmt: skip
"""The number of a message is its place here; a new one goes to the end, under a new version."""

_encoder: Final = msgspec.msgpack.Encoder()
_decoders: Final[tuple[msgspec.msgpack.Decoder[raft.PeerMessage], ...]] = tuple(
    msgspec.msgpack.Decoder(kind) for kind in KINDS
)
_configurations: Final = msgspec.msgpack.Decoder(Configuration)

M = TypeVar("M", bound=raft.Message)


class Item(msgspec.Struct, frozen=True, gc=False):
    """One message of one group, with the entries that it carries."""

    group: PartitionId
    message: raft.PeerMessage
    entries: tuple[Entry, ...] = ()
    offered: Offered | None = None
    """What goes with a snapshot that is offered."""


def encode(
    group: PartitionId,
    message: raft.PeerMessage,
    entries: Sequence[Entry] = (),
    offered: Offered | None = None,
) -> bytes:
    """One item; an offer of a snapshot has its content with it."""
    header = _encoder.encode(message)
    columns = b"".join(
        _ROW.pack(e.header.leader_time_ms, e.header.base_offset, e.header.last_offset_delta)
        for e in entries
    )
    if offered is not None:
        columns = _OFFSET.pack(offered.offset) + offered.content
    size = sum(e.header.payload_bytes for e in entries)
    head = _HEAD.pack(
        _HEAD.size - _LENGTH_BYTES + len(header) + len(columns) + size,
        KINDS.index(type(message)),
        group.bytes,
        len(header),
    )
    return b"".join((head, header, columns, *(e.payload for e in entries)))


def encode_liveness(body: bytes) -> bytes:
    """Liveness as an item."""
    return _HEAD.pack(_HEAD.size - _LENGTH_BYTES + len(body), LIVENESS, _NO_GROUP, 0) + body


def join(items: Sequence[Buffer]) -> bytes:
    """A delivery of these items."""
    return b"".join((bytes((VERSION,)), *items))


def split(delivery: memoryview) -> Iterator[Item | memoryview]:
    """The items of a delivery; liveness as its body. Raises ProtocolViolation."""
    if not delivery or delivery[0] != VERSION:
        raise ProtocolViolation("a delivery of a version that was not agreed on")
    at = 1
    while at < len(delivery):
        if len(delivery) - at < _HEAD.size:
            raise _torn()
        length, kind, group, header_bytes = _HEAD.unpack_from(delivery, at)
        body = delivery[at + _HEAD.size : at + _LENGTH_BYTES + length]
        if length < _HEAD.size - _LENGTH_BYTES or at + _LENGTH_BYTES + length > len(delivery):
            raise _torn()
        at += _LENGTH_BYTES + length
        if kind == LIVENESS:
            yield body
        elif kind < len(KINDS) and header_bytes <= len(body):
            message = _message(kind, body[:header_bytes])
            rest = body[header_bytes:]
            if isinstance(message, raft.SnapshotOffer):
                yield Item(PartitionId(UUID(bytes=group)), message, (), _offered(rest))
                continue
            yield Item(PartitionId(UUID(bytes=group)), message, _entries(message, rest))
        else:
            raise ProtocolViolation("a delivery holds a message that is not known")


def _offered(rest: memoryview) -> Offered:
    if len(rest) < _OFFSET.size:
        raise _torn()
    (offset,) = _OFFSET.unpack_from(rest)
    try:
        return Offered.received(Offset(offset), rest[_OFFSET.size :])
    except DamageDetected:
        raise ProtocolViolation("a peer offers a snapshot that is not known here") from None


def _message(kind: int, header: memoryview) -> raft.PeerMessage:
    try:
        return _decoders[kind].decode(header)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"malformed message of a peer ({type(error).__name__})") from None


def _entries(message: raft.PeerMessage, body: memoryview) -> tuple[Entry, ...]:
    if not isinstance(message, raft.Append):
        if body:
            raise _torn()
        return ()
    count = sum(len(run.sizes) for run in message.runs)
    at = count * _ROW.size
    if at > len(body):
        raise _torn()
    rows = _ROW.iter_unpack(body[:at])
    entries = []
    for run in message.runs:
        for index, size in enumerate(run.sizes, run.first):
            if not 0 <= size <= min(MAX_BATCH_BYTES, len(body) - at):
                raise _torn()
            time_ms, base, delta = next(rows)
            header = EntryHeader(
                run.kind, Index(index), run.term, TimestampMs(time_ms), Offset(base), delta, size
            )
            _check_offsets(header)
            entries.append(Entry(header, body[at : at + size]))
            at += size
    if at != len(body):
        raise _torn()
    return tuple(entries)


def _check_offsets(header: EntryHeader) -> None:
    takes_offsets = header.kind in {EntryKind.BATCH, EntryKind.GAP}
    if header.last_offset_delta < (0 if header.kind is EntryKind.BATCH else -1) or (
        not takes_offsets and header.last_offset_delta != -1
    ):
        raise ProtocolViolation("an entry of a peer takes offsets that its kind does not take")


def runs_of(entries: Sequence[Entry]) -> tuple[raft.Run, ...]:
    """What the core is told of entries; raises ProtocolViolation for no configuration."""
    runs: list[raft.Run] = []
    start = 0
    for end in range(1, len(entries) + 1):
        first = entries[start].header
        if end < len(entries):
            header = entries[end].header
            alone = EntryKind.CONFIGURATION in {first.kind, header.kind}
            if (header.kind, header.term) == (first.kind, first.term) and not alone:
                continue
        sizes = tuple(entry.header.payload_bytes for entry in entries[start:end])
        configuration = configuration_in(entries[start])
        runs.append(raft.Run(first.index, first.term, first.kind, sizes, configuration))
        start = end
    return tuple(runs)


def encode_configuration(configuration: Configuration) -> bytes:
    """The payload of a configuration's entry."""
    return _encoder.encode(configuration)


def configuration_in(entry: Entry) -> Configuration | None:
    """The configuration that an entry holds; None for every other kind."""
    if entry.header.kind is not EntryKind.CONFIGURATION:
        return None
    try:
        return _configurations.decode(entry.payload)
    except msgspec.MsgspecError:
        raise ProtocolViolation("an entry holds no configuration that is known here") from None


def _torn() -> ProtocolViolation:
    return ProtocolViolation("a delivery of a peer does not add up")
