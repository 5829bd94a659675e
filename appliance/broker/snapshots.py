"""Snapshots of a group: what its entries up to one of them amount to, kept and offered.

Rules (thesis, chapter 5; DESIGN section 7): a snapshot is of applied state, so everything in it is
committed. It is not bound to where the log begins: files go up to it at most, and a member whose
next entry is gone is started anew where its leader's log begins, with the leader's state of now;
what lies between comes as entries, which that state has in it already. Beside the state stands
what a log without its beginning cannot say: who the members were there, and which offset and
leader time the state had come to; and who they were since, so that a node that starts need not
read the log for it.
"""

import msgspec

from appliance.errors import DamageDetected
from appliance.limits import MAX_SNAPSHOT_BYTES
from appliance.ports import SegmentInfo, Snapshot
from appliance.raft.configuration import Placed
from appliance.types import Buffer, Index, Offset, TimestampMs


class GroupSnapshot(msgspec.Struct, frozen=True, tag="group/1"):
    """The state of a group at `index`, and the members at the last entry that may be gone."""

    index: Index
    offset: Offset
    """The next offset behind `index`."""
    leader_time_ms: TimestampMs
    """The latest leader time up to `index`."""
    placed: Placed
    state: bytes
    """What the group's machine made of it."""
    later: tuple[Placed, ...] = ()
    """Who the members were from entries after that one on, up to `read_to`."""
    read_to: Index = Index(0)

    def at(self, base: Index) -> Placed:
        """The members at the entry before a log's first one, which may know no others."""
        return Placed(min(self.placed.index, base), self.placed.configuration)

    def within(self, base: Index, last: Index) -> list[Placed]:
        """The members of a log that has the entries from `base` to `last`, as far as is known."""
        return [self.at(base), *(each for each in self.later if base < each.index <= last)]


class Offered(msgspec.Struct, frozen=True):
    """What goes with the offer of a snapshot: the next offset behind it, and the state of now."""

    offset: Offset
    snapshot: GroupSnapshot
    content: bytes
    """The snapshot as it is kept and sent."""

    @staticmethod
    def of(offset: Offset, snapshot: GroupSnapshot) -> "Offered | None":
        """What a leader offers; None if the state is larger than any may be."""
        content = kept(snapshot)
        return None if content is None else Offered(offset, snapshot, content.state)

    @staticmethod
    def received(offset: Offset, content: Buffer) -> "Offered":
        """What a leader has offered; raises DamageDetected."""
        return Offered(offset, decode(content), bytes(content))

    def kept(self) -> Snapshot:
        """What the log keeps of it."""
        return Snapshot(self.snapshot.index, self.content)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(GroupSnapshot)


def encode(snapshot: GroupSnapshot) -> bytes:
    """A snapshot as it is kept and sent."""
    return _encoder.encode(snapshot)


def decode(content: Buffer) -> GroupSnapshot:
    """Raises DamageDetected for what is no snapshot of this release."""
    if len(content) > MAX_SNAPSHOT_BYTES:
        raise DamageDetected("a snapshot that is larger than any")
    try:
        found = _decoder.decode(content)
    except (msgspec.MsgspecError, RecursionError):
        raise DamageDetected("no snapshot that is known here") from None
    members = (found.placed, *found.later)
    if min(found.index, found.offset, found.read_to) < 0 or not all(
        placed.configuration.sound() for placed in members
    ):
        raise DamageDetected("a snapshot of no group that could be")
    return found


def kept(snapshot: GroupSnapshot) -> Snapshot | None:
    """What the log keeps of it; None for one that is larger than any may be."""
    content = encode(snapshot)
    return Snapshot(snapshot.index, content) if len(content) <= MAX_SNAPSHOT_BYTES else None


def members_at(configurations: tuple[Placed, ...], base: Index) -> Placed:
    """The members at an entry; the oldest that are known where none stand before it."""
    found = configurations[0]
    for placed in configurations:
        if placed.index <= base:
            found = placed
    return found


def bytes_below(segments: tuple[SegmentInfo, ...], offset: Offset) -> int:
    """Of files that lie below an offset whole."""
    return sum(each.size_bytes for each in segments if each.next_offset <= offset)
