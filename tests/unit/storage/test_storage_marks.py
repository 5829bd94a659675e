"""Journal and manifest hold each other to what was durable, and the journal stays small."""

import itertools

import msgspec
import pytest
import trio

from appliance.errors import DamageDetected
from appliance.limits import NUMBERS_PER_LIFE
from appliance.ports import HardState
from appliance.storage import log as log_module
from appliance.storage import node_journal as node_journal_module
from appliance.types import Index, NodeId, Offset, Position, Term

from .conftest import DOMAIN, PARTITION, batch_after


async def written(log, *bodies, term=1):
    for body in bodies:
        log.append([batch_after(log, body, term=term)])
        await log.flush(lambda _: None)


async def stopped(node, log):
    await log.close()
    await node.close()


def journal_of(home):
    (path,) = home.path.glob("node-*")
    return path


def manifest_of(home):
    return home.path / str(PARTITION) / "manifest"


async def refused(home):
    node = await home.open()
    try:
        with pytest.raises(DamageDetected) as damage:
            await node.open_log(PARTITION)
    finally:
        home.abandon(node)
    return str(damage.value)


async def begun(home):
    node = await home.create()
    log = await node.create_log(PARTITION, DOMAIN)
    await written(log, b"a", b"b")
    return node, log


def test_a_manifest_that_was_rolled_back_alone_is_named(home, monkeypatch):
    async def main():
        node, log = await begun(home)
        before = manifest_of(home).read_bytes()
        monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 1)
        await written(log, b"c")
        await stopped(node, log)
        manifest_of(home).write_bytes(before)
        assert "manifest of partition" in await refused(home)

    trio.run(main)


def test_a_journal_that_was_rolled_back_after_a_kill_is_named_by_the_manifest(home, monkeypatch):
    async def main():
        node, log = await begun(home)
        await node.save_hard_state(PARTITION, HardState(Term(1), NodeId(1)))
        before = journal_of(home).read_bytes()
        await node.save_hard_state(PARTITION, HardState(Term(2), NodeId(1)))
        monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 1)
        await written(log, b"c")
        home.abandon(node)
        journal_of(home).write_bytes(before)
        assert "node journal was rolled back" in await refused(home)

    trio.run(main)


def test_a_journal_that_was_rolled_back_after_a_clean_stop_is_named_by_the_identity(home):
    async def main():
        node, log = await begun(home)
        before = journal_of(home).read_bytes()
        await node.save_hard_state(PARTITION, HardState(Term(2), NodeId(1)))
        await stopped(node, log)
        journal_of(home).write_bytes(before)
        with pytest.raises(DamageDetected, match="the identity knows a later one"):
            await home.open()

    trio.run(main)


def test_a_mark_names_the_frame_and_the_entry_that_it_attests(home):
    async def main():
        node, log = await begun(home)
        await log.truncate(Index(1))
        mark = log.mark()
        assert mark.position == Position(Term(1), Index(1))
        assert mark.frame == log._files.active.writer.durable
        assert mark.length == log._files.active.writer.position
        await stopped(node, log)

    trio.run(main)


def test_a_log_that_is_not_what_its_mark_says_is_damage(home):
    async def main():
        node, log = await begun(home)
        wrong = msgspec.structs.replace(log.mark(), position=Position(Term(1), Index(9)))
        await node._journal.record([wrong])
        home.abandon(node)
        assert "not what the journal has marked" in await refused(home)

    trio.run(main)


def test_marks_hold_through_every_change_of_files(home, monkeypatch):
    monkeypatch.setattr(log_module, "MAX_SEGMENT_BYTES", 60_000)

    async def main():
        node, log = await begun(home)
        changes = [
            lambda log: written(log, b"x" * 40_000, b"y" * 40_000, b"z"),
            lambda log: log.truncate(Index(log.last.index - 1)),
            lambda log: log.truncate(Index(2)),
            lambda log: written(log, b"v" * 40_000, b"w" * 40_000, term=2),
            lambda log: log.raise_start(Offset(3)),
            lambda log: log.reset(Position(Term(5), Index(70)), Offset(90)),
            lambda log: written(log, b"end", term=6),
        ]
        for change in changes:
            await node._mark()
            await change(log)
            expected = (log.last, log.start_offset, log.end_offset)
            home.abandon(node)
            node = await home.open()
            log = await node.open_log(PARTITION)
            assert (log.last, log.start_offset, log.end_offset) == expected
            await node._mark()
        await stopped(node, log)
        node = await home.open()
        log = await node.open_log(PARTITION)
        assert (log.last, log.start_offset, log.end_offset) == expected

    trio.run(main)


def test_a_journal_that_has_grown_begins_anew_while_votes_come_in(home, monkeypatch):
    monkeypatch.setattr(node_journal_module, "MAX_JOURNAL_BYTES", 2_000)

    async def main():
        node, log = await begun(home)
        first = journal_of(home)

        async def vote():
            for term in range(1, 60):
                await node.save_hard_state(PARTITION, HardState(Term(term), NodeId(1)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(vote)
            for _ in range(10):
                sequence = node._journal.sequence
                await node._journal.rotate_if_grown(node._name_journal)
                assert node._journal.sequence >= sequence
                await trio.lowlevel.checkpoint()
        await node._journal.rotate_if_grown(node._name_journal)
        assert journal_of(home) != first
        assert node._journal._journal.end < 4_000
        sequence = node._journal.sequence
        home.abandon(node)
        node = await home.open()
        assert node.hard_state(PARTITION) == HardState(Term(59), NodeId(1))
        assert node._journal.sequence == sequence
        log = await node.open_log(PARTITION)
        await stopped(node, log)

    trio.run(main)


def test_each_life_has_a_larger_number_though_the_clock_is_set_back(home, monkeypatch):
    monkeypatch.setattr(node_journal_module, "MAX_JOURNAL_BYTES", 0)

    async def main():
        node = await home.create()
        numbers = []
        for now_ms in (5_000_000_000, 1_000, 1_000, 9_000_000_000, 2_000):
            numbers.append(await node.begin_life(now_ms))
            await node._journal.rotate_if_grown(node._name_journal)
            home.abandon(node)
            node = await home.open()
        assert all(
            later - sooner >= NUMBERS_PER_LIFE for sooner, later in itertools.pairwise(numbers)
        )
        assert numbers[0] == 5_000_000_000
        assert numbers[3] == 9_000_000_000
        home.abandon(node)

    trio.run(main)
