"""`storage inspect` shows what files are made of, and nothing of what is in them.

Whatever words records, keys, headers, topics, policies, snapshots and journals are made of: none of
them is in anything that the command prints.
"""

from pathlib import Path

import msgspec
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.cli import storage as commands
from appliance.coordination.commands import CreateTopic, SetPolicy
from appliance.ports import Snapshot
from appliance.storage import anatomy
from appliance.storage.examination import Examination
from appliance.types import Entry, EntryHeader, EntryKind, Index, Offset, TimestampMs
from appliance.wire.kafka.records import Record, encode_batch
from tests.simulation import threads
from tests.simulation.disk import SimulatedDisk
from tests.simulation.node import SimulatedNode, small_segments

WORDS = st.lists(
    st.text("ghijkmnopqrsuvwxyz", min_size=8, max_size=20), min_size=2, max_size=6, unique=True
)
"""Of letters that are no hexadecimal digits: no id is taken for one."""


def append(log, kind, payload):
    delta = 0 if kind is EntryKind.BATCH else -1
    header = EntryHeader(
        kind, Index(log.last.index + 1), 1, TimestampMs(1), log.end_offset, delta, len(payload)
    )
    log.append([Entry(header, payload)])


async def written(words):
    """A node whose log, snapshot and journal hold every word."""
    node = SimulatedNode("inspect")
    await node.create()
    for word, other in zip(words, words[1:] + words[:1], strict=True):
        record = Record(word.encode(), other.encode() * 50, ((word, other.encode()),))
        topic = CreateTopic(node.node.cluster, word, (), ((word, other),))
        append(node.log, EntryKind.BATCH, encode_batch([record]))
        append(node.log, EntryKind.COMMAND, msgspec.msgpack.encode(topic))
        append(node.log, EntryKind.COMMAND, msgspec.msgpack.encode(SetPolicy(other * 50, 0)))
        await node.log.flush(lambda _: None)
        await node.journal.append([word.encode()])
    state = " ".join(words).encode()
    await node.log.raise_start(Offset(0), snapshot=lambda base: Snapshot(base, state))
    append(node.log, EntryKind.COMMAND, state)
    await node.log.flush(lambda _: None)
    await node.stop()
    return node


def printed(node, monkeypatch, capsys):
    """All that the command prints of a directory: the list of files, and each of them."""
    disk = SimulatedDisk.holding(node.disk.files())

    def examine(_directory, _config, _passphrase_fd, action):
        async def examined():
            await action(await Examination.open(disk, node.keys))

        with threads.inline():
            trio.run(examined)

    monkeypatch.setattr(commands, "_examine", examine)
    commands.inspect(Path(), as_json=True)
    listed = msgspec.json.decode(capsys.readouterr().out)
    commands.inspect(Path())
    for each in listed:
        commands.inspect(Path(), each["file"])
        commands.inspect(Path(), each["file"], as_json=True)
    out, err = capsys.readouterr()
    assert len(listed) >= 3
    return out + err


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8, deadline=None
)
@given(words=WORDS)
def test_nothing_that_is_printed_is_of_a_record_a_key_or_a_name(words, monkeypatch, capsys):
    with threads.inline(), small_segments():
        node = trio.run(written, words)
    text = printed(node, monkeypatch, capsys)
    assert '"1 batch, 2 command' in text
    assert not [word for word in words if word in text.replace("\n", "")]


def test_a_word_of_a_record_that_is_printed_is_found(monkeypatch, capsys):
    """The canary: rows that show what is in their frames."""
    row = anatomy._row

    def telling(frame):
        return msgspec.structs.replace(row(frame), entries=bytes(frame.content).decode("latin1"))

    monkeypatch.setattr(anatomy, "_row", telling)
    words = ["wonderful", "something"]
    with threads.inline(), small_segments():
        node = trio.run(written, words)
    text = printed(node, monkeypatch, capsys)
    assert all(word in text for word in words)
