"""Whatever an owner of the disk changes below the durable marks is found and named.

A node's directory, stopped cleanly, so that everything in it is marked; then one thing is changed,
and `verify` looks. It must name the file. The engine itself, opening the same files, must refuse or
give back exactly what was written. What no single directory can notice has its tests here too.
"""

import itertools
import random

import pytest
import trio

from appliance.crypto.sealed import NO_FRAME
from appliance.errors import ApplianceError, DamageDetected, KeyProviderError
from appliance.storage.examination import Examination
from appliance.storage.node import NodeDirectory
from appliance.storage.segment import Tail
from appliance.storage.verification import Verification, Weight
from appliance.types import PartitionId
from tests.simulation import threads
from tests.simulation.disk import SimulatedDisk
from tests.simulation.keys import SeededEntropy
from tests.simulation.node import AUDIT, PARTITION, SimulatedNode, small_segments, stamp

LARGE = b"large" * 300
STRIDE = 23
ENGINE_STRIDE = 61


class Written:
    """A directory as it was stopped, and a copy of it from an earlier stop."""

    def __init__(self, seed="tampering"):
        self.node = SimulatedNode(seed)
        with threads.inline(), small_segments():
            trio.run(self._write)

    async def _write(self):
        node = self.node
        await node.create()
        await node.append(b"one", b"two", term=1)
        await node.append(LARGE, LARGE, term=1)
        await node.append(LARGE, term=1)
        await node.raise_start(2, applied=2, state=b"what two entries amount to")
        await node.record(b"who did what")
        await node.stop()
        self.older = node.disk.files()
        await node.open(node.disk.image().after_a_kill())
        await node.append(b"three" + LARGE, term=1)
        await node.append(LARGE, term=1)
        await node.append(b"four" + LARGE, b"five", b"six", term=2)
        await node.truncate(node.log.last.index - 1)
        await node.append(b"seven", term=3)
        await node.vote(4)
        await node.record(b"and who else", b"again")
        await node.stop()
        self.files = node.disk.files()
        self.ledger = node.ledger
        entries = node.node._open[PARTITION][1].manifest.files
        *closed, active = [f"{PARTITION}/{entry.file}" for entry in entries]
        self.closed = closed, active

    def frames(self, name):
        """(begin, end) of each frame of a data file, extent headers with the frame behind them."""
        found = []
        with threads.inline():
            trio.run(self._frames, name, found)
        return found

    async def _frames(self, name, found):
        examination = await Examination.open(SimulatedDisk.holding(self.files), self.node.keys)
        log = await examination.log(PARTITION)
        (entry,) = [e for e in log.manifest.files if name.endswith(str(e.file))]
        sealed = examination.data_file(log, entry)
        begin = 0
        for frame in sealed.reader.scan(Tail(0, entry.first_tag, NO_FRAME, 0), sealed.file.size()):
            found.append((begin, frame.end))
            begin = frame.end

    def report(self, files, keys=None):
        """What `verify` finds in a directory with these files."""
        with threads.inline():
            return trio.run(self._report, files, keys or self.node.keys)

    async def _report(self, files, keys):
        examination = await Examination.open(SimulatedDisk.holding(files), keys)
        return await Verification(examination, lambda _: None).run()

    def named(self, files):
        """Whether damage is found, and in which files; an identity that does not open is that."""
        try:
            report = self.report(files)
        except DamageDetected as error:
            return {"identity"} if "identity" in str(error) else set()
        except KeyProviderError:
            return {"identity"}
        assert all(finding.cause for finding in report.findings)
        return {found.file for found in report.findings if found.weight is Weight.DAMAGE}

    def opens_whole(self, files):
        """Whether the engine opens these files, and then holds exactly what was written."""
        with threads.inline(), small_segments():
            try:
                trio.run(self._open, files)
            except ApplianceError:
                return False
        return True

    async def _open(self, files):
        self.node.ledger = self.ledger
        await self.node.open(SimulatedDisk.holding(files))


@pytest.fixture(scope="module")
def written():
    return Written()


def last_flush(written, name):
    """Where a journal's stop frame begins, of which nothing is acknowledged."""
    stop_bytes = 4 + 12 + 16 + 16
    return len(written.files[name].rstrip(b"\x00")) - stop_bytes


def is_journal(name):
    return name.startswith(("node-", "journals/"))


def is_marked(written, name, at):
    """Whether a byte was durable by a mark, a later frame, or a manifest."""
    if is_journal(name):
        return at < last_flush(written, name)
    return at < len(written.files[name].rstrip(b"\x00"))


def positions(written, stride):
    for name, content in sorted(written.files.items()):
        for at in range(0, len(content), stride):
            if is_marked(written, name, at):
                yield name, at


def with_bit_flipped(files, name, at):
    content = bytearray(files[name])
    content[at] ^= 1 << (at % 8)
    return {**files, name: bytes(content)}


def test_what_was_not_touched_is_whole(written):
    report = written.report(written.files)
    assert not report.findings
    assert report.files >= 5
    assert written.opens_whole(written.files)


def test_a_flipped_bit_anywhere_is_found_and_its_file_named(written):
    missed = [
        (name, at)
        for name, at in positions(written, STRIDE)
        if name not in written.named(with_bit_flipped(written.files, name, at))
    ]
    assert missed == []


def test_the_engine_gives_back_what_was_written_or_refuses(written):
    for name, at in positions(written, ENGINE_STRIDE):
        written.opens_whole(with_bit_flipped(written.files, name, at))


def test_a_finding_names_extent_frame_and_cause(written):
    closed, _ = written.closed
    name = closed[0]
    for _, end in written.frames(name):
        report = written.report(with_bit_flipped(written.files, name, end - 16))
        (found,) = [f for f in report.findings if f.file == name]
        assert found.frame is not None
        assert found.cause
        assert "the manifest says that it was durable" in found.cause


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_file_that_ends_early_is_found(written, share):
    for name, content in written.files.items():
        whole = last_flush(written, name) if is_journal(name) else len(content.rstrip(b"\x00"))
        shorter = {**written.files, name: content[: int(whole * share)]}
        if is_journal(name) and share > 0:
            continue  # a journal's own end: see the test of older copies
        assert name in written.named(shorter), name


def test_bytes_behind_a_closed_file_or_a_document_are_found(written):
    closed, _ = written.closed
    documents = [name for name in written.files if name == "identity" or name.endswith("manifest")]
    for name in (*closed, *documents):
        longer = {**written.files, name: written.files[name] + b"more"}
        assert name in written.named(longer), name


def test_frames_reordered_repeated_or_left_out_are_found(written):
    for name in (*written.closed[0], written.closed[1]):
        frames, content = written.frames(name), written.files[name]
        parts = [content[begin:end] for begin, end in frames]
        rest = content[frames[-1][1] :]
        for at in range(len(parts) - 1):
            swapped = [*parts[:at], parts[at + 1], parts[at], *parts[at + 2 :]]
            repeated = [*parts[: at + 1], *parts[at:]]
            left_out = [*parts[:at], *parts[at + 1 :]]
            for changed in (swapped, repeated, left_out):
                files = {**written.files, name: b"".join(changed) + rest}
                assert name in written.named(files), (name, at)


def test_frames_spliced_in_from_another_file_are_found(written):
    names = [*written.closed[0], written.closed[1]]
    for name, other in itertools.pairwise(names):
        begin, end = written.frames(name)[0]
        from_begin, from_end = written.frames(other)[0]
        spliced = (
            written.files[name][:begin]
            + written.files[other][from_begin:from_end]
            + written.files[name][end:]
        )
        assert name in written.named({**written.files, name: spliced})


def test_the_header_of_another_file_is_found(written):
    names = [*written.closed[0], written.closed[1]]
    for name, other in itertools.pairwise(names):
        with_header = written.files[other][:44] + written.files[name][44:]
        assert name in written.named({**written.files, name: with_header})


def test_a_file_moved_to_the_place_of_another_is_found(written):
    names = [name for name in written.files if not is_journal(name)]
    for one in names:
        for other in names:
            if one != other:
                assert one in written.named({**written.files, one: written.files[other]})


def test_a_file_moved_from_another_cluster_is_found(written):
    foreign = Written("another cluster")
    for name in written.files:
        kind = name.rpartition("/")[2]
        twins = [n for n in foreign.files if n.rpartition("/")[2] == kind] or [foreign.closed[0][0]]
        if is_journal(name):
            twins = [n for n in foreign.files if is_journal(n)]
        moved = {**written.files, name: foreign.files[twins[0]]}
        assert name in written.named(moved), name


def test_a_log_moved_to_the_place_of_another_partition_is_found(written):
    elsewhere = PartitionId(AUDIT)
    moved = {
        name.replace(str(PARTITION), str(elsewhere), 1): content
        for name, content in written.files.items()
    }
    assert f"{elsewhere}/manifest" in written.named(moved)


def test_a_file_that_is_gone_is_found(written):
    for name in written.files:
        if name.endswith(".index"):
            continue  # it is made anew when it is needed
        rest = {other: content for other, content in written.files.items() if other != name}
        if name == "identity":
            with pytest.raises(ApplianceError):
                written.report(rest)
        elif name.endswith("manifest") or name.startswith("journals/"):
            assert not written.opens_whole(rest)
        else:
            assert name in written.named(rest), name


def test_an_older_copy_of_one_file_is_found(written):
    changed = [
        name
        for name, content in written.older.items()
        if name in written.files and written.files[name] != content
    ]
    assert len(changed) >= 3
    for name in changed:
        files = {**written.files, name: written.older[name]}
        if name == "identity":
            assert written.opens_whole(files)  # it vouches for less, and says nothing else
        else:
            assert written.named(files), name


def test_a_whole_directory_put_back_looks_whole_and_its_last_entry_gives_it_away(written):
    """No single directory can notice; a peer can: it knows a later term and index of this log."""
    report = written.report(written.older)
    assert not report.damaged
    with threads.inline(), small_segments():
        last = trio.run(_last_position, written.node, written.older)
    assert last < written.ledger.base.last


async def _last_position(node, files):
    directory = await NodeDirectory.open(
        SimulatedDisk.holding(files),
        keys=node.keys,
        entropy=SeededEntropy(random.Random(1)),
        stamp=stamp,
    )
    return (await directory.open_log(PARTITION)).last


def test_beyond_the_marks_a_tail_is_named_as_a_tail(written):
    _, active = written.closed
    content = written.files[active].rstrip(b"\x00")
    files = {**written.files, active: content + b"torn" * 30}
    findings = [f for f in written.report(files).findings if f.file == active]
    assert [f.weight for f in findings] == [Weight.TAIL]
    assert "no mark covers them" in findings[0].cause


def test_a_wrong_key_is_told_from_damaged_data(written):
    class OtherKeys(type(written.node.keys)):
        async def unwrap(self, place, wrapped):
            secret = await super().unwrap(place, wrapped)
            if place.partition == PARTITION:
                secret.reveal()[0] ^= 1
            return secret

    other = OtherKeys(random.Random(0))
    other._cipher = written.node.keys._cipher
    report = written.report(written.files, other)
    (found,) = report.findings
    assert found.file == f"{PARTITION}/manifest"
    assert "not the one that this data was sealed with" in found.cause
