"""What nodes say to each other survives its encoding, and nothing else is believed."""

from uuid import UUID

import pytest

from appliance.broker import liveness, peer_codec
from appliance.broker.snapshots import GroupSnapshot, Offered
from appliance.errors import ProtocolViolation
from appliance.raft import messages as raft
from appliance.raft.configuration import Configuration, Placed
from appliance.types import Entry, EntryHeader, EntryKind, Index, Offset, Position, TimestampMs

GROUP = UUID(int=7)
ENTRIES = (
    Entry(EntryHeader(EntryKind.NO_OP, 5, 3, 1_000, 40, -1, 0), b""),
    Entry(EntryHeader(EntryKind.BATCH, 6, 3, 1_001, 40, 9, 4), b"abcd"),
    Entry(EntryHeader(EntryKind.BATCH, 7, 3, 1_002, 50, 0, 2), b"ef"),
    Entry(EntryHeader(EntryKind.COMMAND, 8, 3, 1_003, 51, -1, 1), b"g"),
)


def an_append(entries=ENTRIES):
    return raft.Append(
        sender=1,
        to=2,
        term=3,
        previous=Position(2, 4),
        commit=4,
        runs=peer_codec.runs_of(entries),
    )


def a_delivery(*items):
    return memoryview(peer_codec.join(items))


def test_an_append_arrives_with_its_entries() -> None:
    message = an_append()
    (item,) = peer_codec.split(a_delivery(peer_codec.encode(GROUP, message, ENTRIES)))
    assert item.group == GROUP
    assert item.message == message
    assert [e.header for e in item.entries] == [e.header for e in ENTRIES]
    assert [bytes(e.payload) for e in item.entries] == [e.payload for e in ENTRIES]


OFFERED = Offered.of(
    Offset(40),
    GroupSnapshot(
        Index(9), Offset(44), TimestampMs(5),
        Placed(Index(1), Configuration(frozenset({1, 2}))), b"it",
    ),
)  # fmt: skip
AN_OFFER = raft.SnapshotOffer(
    sender=1, to=2, term=3, position=Position(1, 2),
    configuration=Configuration(frozenset({1, 2})), configured_at=1,
)  # fmt: skip


def test_every_kind_of_message_arrives_as_it_was() -> None:
    both = {"sender": 1, "to": 2, "term": 3}
    sent = [
        raft.PreVote(**both, last=Position(1, 2)),
        raft.PreVoteReply(**both, granted=True),
        raft.Vote(**both, last=Position(1, 2), transferred=True),
        raft.VoteReply(**both, granted=False),
        an_append(()),
        raft.AppendReply(**both, match=9, commit=8, conflict=raft.Conflict(8, Position(1, 2))),
        raft.Heartbeat(**both, match=Position(1, 2), commit=2, round=4),
        raft.HeartbeatReply(**both, round=4),
        raft.SnapshotOffer(
            **both,
            position=Position(1, 2),
            configuration=Configuration(frozenset({1, 2}), learners=frozenset({3})),
            configured_at=1,
        ),
        raft.SnapshotReply(**both, match=2, taken=True),
        raft.TimeoutNow(**both),
    ]
    assert {type(message) for message in sent} == set(peer_codec.KINDS)
    offers = [OFFERED if isinstance(message, raft.SnapshotOffer) else None for message in sent]
    pairs = zip(sent, offers, strict=True)
    delivery = a_delivery(*(peer_codec.encode(GROUP, m, (), offered) for m, offered in pairs))
    items = list(peer_codec.split(delivery))
    assert [item.message for item in items] == sent
    assert [item.offered for item in items] == offers


def test_an_offer_that_holds_no_snapshot_is_refused() -> None:
    whole = peer_codec.encode(GROUP, AN_OFFER, (), OFFERED)
    list(peer_codec.split(a_delivery(whole)))
    length = len(peer_codec.encode(GROUP, AN_OFFER))
    for content in (b"", b"\0" * 8, b"\0" * 8 + b"\x80", whole[length:-1]):
        item = bytearray(peer_codec.encode(GROUP, AN_OFFER) + content)
        item[:4] = (len(item) - 4).to_bytes(4, "big")
        with pytest.raises(ProtocolViolation):
            list(peer_codec.split(a_delivery(bytes(item))))


def test_runs_are_of_one_kind_and_term_and_a_configuration_stands_alone() -> None:
    payload = peer_codec.encode_configuration(Configuration(frozenset({1})))
    placed = Entry(EntryHeader(EntryKind.CONFIGURATION, 9, 4, 1, 51, -1, len(payload)), payload)
    runs = peer_codec.runs_of((*ENTRIES, placed))
    kinds = [(run.first, run.kind, len(run.sizes)) for run in runs]
    assert kinds == [
        (5, EntryKind.NO_OP, 1),
        (6, EntryKind.BATCH, 2),
        (8, EntryKind.COMMAND, 1),
        (9, EntryKind.CONFIGURATION, 1),
    ]
    assert runs[-1].configuration == Configuration(frozenset({1}))


@pytest.mark.parametrize("cut", range(1, 90))
def test_a_delivery_that_is_cut_is_refused(cut: int) -> None:
    whole = peer_codec.join([peer_codec.encode(GROUP, an_append(), ENTRIES)])
    with pytest.raises(ProtocolViolation):
        list(peer_codec.split(memoryview(whole[:-cut])))


def test_bytes_that_follow_are_refused() -> None:
    whole = peer_codec.join([peer_codec.encode(GROUP, an_append(), ENTRIES)])
    with pytest.raises(ProtocolViolation):
        list(peer_codec.split(memoryview(whole + b"\0")))


def test_another_version_is_refused() -> None:
    whole = bytearray(peer_codec.join([peer_codec.encode(GROUP, an_append(), ENTRIES)]))
    whole[0] = peer_codec.VERSION + 1
    with pytest.raises(ProtocolViolation):
        list(peer_codec.split(memoryview(whole)))


def test_an_entry_that_takes_offsets_it_cannot_take_is_refused() -> None:
    odd = (Entry(EntryHeader(EntryKind.COMMAND, 5, 3, 1, 40, 3, 0), b""),)
    whole = peer_codec.join([peer_codec.encode(GROUP, an_append(odd), odd)])
    with pytest.raises(ProtocolViolation):
        list(peer_codec.split(memoryview(whole)))


def test_liveness_is_columns_and_arrives_as_rows() -> None:
    rows = [liveness.Row(UUID(int=n), n, bool(n % 2)) for n in range(1, 5)]
    body = liveness.encode(9, 2, rows, full=True)
    (packed,) = peer_codec.split(a_delivery(peer_codec.encode_liveness(body)))
    said = liveness.decode(packed)
    assert (said.epoch, said.sequence, said.full) == (9, 2, True)
    assert list(said.rows()) == rows


@pytest.mark.parametrize("cut", range(1, 40))
def test_liveness_that_does_not_add_up_is_refused(cut: int) -> None:
    body = liveness.encode(9, 2, [liveness.Row(UUID(int=1), 1, leads=True)], full=False)
    with pytest.raises(ProtocolViolation):
        liveness.decode(memoryview(body[:-cut]))
