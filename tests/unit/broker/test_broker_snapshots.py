"""A snapshot and what follows it amount to the same as the whole log."""

from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from appliance.broker.partition import PartitionState
from appliance.broker.partition_commands import SetLogStart, encode
from appliance.broker.peer_codec import encode_configuration
from appliance.broker.recovering import recover
from appliance.broker.snapshots import GroupSnapshot, decode, members_at
from appliance.broker.snapshots import encode as encode_snapshot
from appliance.errors import DamageDetected
from appliance.limits import PRODUCER_EXPIRY_MS
from appliance.ports import HardState
from appliance.raft.configuration import Configuration, Placed
from appliance.types import Entry, EntryHeader, EntryKind, Index, Offset, Position, Term
from appliance.wire.kafka.records import NO_PRODUCER, Producer, Record, encode_batch

PLACED = Placed(Index(3), Configuration(frozenset({1, 2}), learners=frozenset({3})))

steps = st.one_of(
    st.tuples(st.just("batch"), st.integers(-1, 3), st.integers(0, 2), st.integers(0, 5)),
    st.tuples(st.just("start"), st.integers(0, 40)),
)
gaps_ms = st.sampled_from((0, 1, 1000, PRODUCER_EXPIRY_MS // 2, PRODUCER_EXPIRY_MS + 1))


def entries_of(history):
    """Batches of a few producers, in their epochs, and commands that raise the start."""
    found, offset, time_ms, sequences = [], 0, 1_000_000, {}
    for index, (step, gap_ms) in enumerate(history, 1):
        time_ms += gap_ms
        if step[0] == "start":
            payload, delta, kind = encode(SetLogStart(Offset(step[1]))), -1, EntryKind.COMMAND
        else:
            _, producer, epoch, age_ms = step
            sequence = sequences.get((producer, epoch), 0)
            sequences[producer, epoch] = sequence + 1
            made_by = Producer(producer, epoch, sequence) if producer >= 0 else NO_PRODUCER
            record = Record(b"k", b"v", timestamp_ms=time_ms - age_ms)
            batch = encode_batch([record], producer=made_by)
            payload, delta, kind = batch, 0, EntryKind.BATCH
        header = EntryHeader(kind, index, 1, time_ms, offset, delta, len(payload))
        found.append(Entry(header, memoryview(payload)))
        offset = header.next_offset
    return found


def amounts_to(entries, state=None):
    machine = PartitionState()
    if state is not None:
        machine.restore(state)
    for entry in entries:
        machine.apply(entry)
    return machine


@given(st.lists(st.tuples(steps, gaps_ms), max_size=40), st.data())
def test_a_state_that_is_taken_up_anywhere_goes_on_to_the_same(history, data):
    entries = entries_of(history)
    cut = data.draw(st.integers(0, len(entries)))
    whole = amounts_to(entries)
    taken_up = amounts_to(entries[cut:], amounts_to(entries[:cut]).snapshot())
    assert taken_up.snapshot() == whole.snapshot()


@given(st.binary(max_size=60), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_a_snapshot_comes_out_as_it_went_in_and_nothing_else_is_believed(state, index, offset):
    later = (Placed(Index(9), PLACED.configuration),)
    snapshot = GroupSnapshot(Index(index), Offset(offset), 7, PLACED, state, later, Index(index))
    content = encode_snapshot(snapshot)
    assert decode(content) == snapshot
    for cut in range(len(content)):
        with pytest.raises(DamageDetected):
            decode(content[:cut])
    with pytest.raises(DamageDetected):
        decode(content + b"\0")
    with pytest.raises(DamageDetected):
        PartitionState().restore(content)


def test_the_members_at_an_entry_are_those_of_the_last_configuration_up_to_it():
    placed = tuple(Placed(Index(n), Configuration(frozenset({n}))) for n in (0, 4, 9))
    assert [members_at(placed, Index(n)).index for n in (0, 3, 4, 8, 9, 20)] == [0, 0, 4, 4, 9, 9]
    assert members_at(placed[1:], Index(2)).index == 4
    kept = GroupSnapshot(Index(30), Offset(3), 7, placed[2], b"")
    assert kept.at(Index(5)) == Placed(Index(5), placed[2].configuration)
    assert kept.at(Index(12)) == placed[2]


def test_what_a_snapshot_says_of_members_is_not_read_from_the_log_again():
    placed = [Placed(Index(n), Configuration(frozenset({1, n + 2}))) for n in (0, 4, 9, 14)]
    snapshot = GroupSnapshot(
        Index(12), Offset(3), 7, placed[0], b"", (placed[1], placed[2]), Index(10)
    )
    assert snapshot.within(Index(0), Index(20)) == placed[:3]
    assert snapshot.within(Index(0), Index(8)) == placed[:2]
    assert [each.index for each in snapshot.within(Index(6), Index(20))] == [0, 9]

    class Log:
        first_index, last, asked = Index(1), Position(Term(0), Index(20)), []

        def term_at(self, index):
            return None

        async def entries(self, first, last, max_bytes):
            await trio.lowlevel.checkpoint()
            self.asked.append((first, last))
            kinds = {14: EntryKind.CONFIGURATION}
            content = encode_configuration(placed[3].configuration)
            return [
                Entry(EntryHeader(kinds.get(n, EntryKind.NO_OP), n, 1, 0, 0, -1, 0), content)
                for n in range(first, last + 1)
            ]

    recovered = trio.run(
        partial(recover, Log(), HardState(), placed[0].configuration, scan=True, snapshot=snapshot)
    )
    assert Log.asked == [(11, 20)]
    assert list(recovered.configurations) == placed
