"""Ordinary clients, doing what applications do with them."""

import struct
import sys
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .conftest import Program, until
from .reading import settings
from .talking import Client

pytestmark = pytest.mark.system

LIBRARIES = ("confluent-kafka", "kafka-python", "aiokafka")
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
API_VERSIONS, UNSUPPORTED_VERSION = 18, 35


def test_a_version_of_api_versions_that_is_not_known_gets_the_answer_of_version_0(quickstart):
    folder = quickstart.directory / "client"
    files = {"ca": "ca.pem", "certificate": "nobody.pem", "key": "nobody.key"}
    with Client(quickstart.kafka, **{role: folder / file for role, file in files.items()}) as raw:
        answer = raw.ask(API_VERSIONS, 99, b"whatever that version says")
        error, count = struct.unpack_from(">hi", answer)
        table = list(struct.iter_unpack(">hhh", answer[6:]))
        assert (error, count) == (UNSUPPORTED_VERSION, len(table))
        ((_, _, highest),) = [entry for entry in table if entry[0] == API_VERSIONS]
        assert highest < 99
        # The connection lives on, so that the client can ask again.
        again = raw.ask(API_VERSIONS, 0, b"")
        assert struct.unpack_from(">h", again) == (0,)


def _settings(quickstart, user, **more):
    own = {name.replace("_", "."): str(value) for name, value in more.items()}
    return settings(quickstart.client(user)) | own


def _read(quickstart, topic, count):
    """Values of the first records, by confluent-kafka without a group of its own."""
    consumer = Consumer(_settings(quickstart, "consumer", group_id="reads-once"))
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    values = []
    while len(values) < count:
        messages = consumer.consume(count - len(values), timeout=30)
        assert messages
        assert not any(message.error() for message in messages)
        values += [message.value() for message in messages]
    consumer.close()
    return values


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_written_and_read_by_both_sides(quickstart, codec):
    topic, text = f"packed-by-{codec}", b"a line that repeats itself, a line that repeats itself"
    theirs = [b"%s %d" % (text, number) for number in range(200)]
    wanted = {"enable_idempotence": "true", "compression_codec": codec}
    producer = Producer(_settings(quickstart, "producer", **wanted))
    for value in theirs:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0
    ours = [b"ours " + value for value in theirs]
    sent = quickstart.command("produce", topic, "-z", codec, input=b"\n".join(ours) + b"\n")
    assert sent.returncode == 0, sent.stderr
    assert _read(quickstart, topic, 400) == theirs + ours
    read = quickstart.command("consume", topic, "--exit-at-end")
    assert read.stdout.splitlines() == theirs + ours


def test_topics_are_made_looked_at_and_deleted_by_an_admin_client(quickstart):
    admin = AdminClient(_settings(quickstart, "admin"))
    made = admin.create_topics([NewTopic("made-by-admin", num_partitions=3)])
    assert made["made-by-admin"].result(30) is None
    with pytest.raises(KafkaException, match="TOPIC_ALREADY_EXISTS"):
        admin.create_topics([NewTopic("made-by-admin", num_partitions=3)])["made-by-admin"].result()
    assert (
        len(admin.list_topics("made-by-admin", timeout=30).topics["made-by-admin"].partitions) == 3
    )
    assert admin.delete_topics(["made-by-admin"])["made-by-admin"].result(30) is None
    assert "made-by-admin" not in admin.list_topics(timeout=30).topics


def test_offsets_are_found_by_edge_and_by_time(quickstart):
    producer = Producer(_settings(quickstart, "producer"))
    for number in range(10):
        at_ms = 1_700_000_000_000 + 1_000 * number
        producer.produce("found-by-time", b"%d" % number, partition=0, timestamp=at_ms)
        assert producer.flush(30) == 0
    consumer = Consumer(_settings(quickstart, "consumer", group_id="asks-only"))
    part = TopicPartition("found-by-time", 0)
    assert consumer.get_watermark_offsets(part, timeout=30) == (0, 10)
    later = TopicPartition("found-by-time", 0, 1_700_000_003_500)
    assert consumer.offsets_for_times([later], timeout=30)[0].offset == 4
    consumer.close()


@pytest.fixture
def topic(quickstart):
    made = quickstart.command("topic", "create", "shared-by-three", "--partitions", "3")
    assert made.returncode == 0, made.stderr
    return "shared-by-three"


@pytest.fixture
def members(quickstart, topic):
    """One group of three members, each with another library."""
    script = Path(__file__).with_name("member.py")
    arguments = (quickstart.client("consumer"), topic, "a-group-of-three")
    programs = {
        library: Program(library, *arguments, command=(sys.executable, script))
        for library in LIBRARIES
    }
    yield programs
    for program in programs.values():
        program.kill()


def _given(program):
    """How many partitions a member was given last."""
    counts = [line.split()[1] for line in tuple(program.out) if line.startswith("partitions ")]
    return int(counts[-1]) if counts else 0


def _got(programs):
    lines = [line for program in programs for line in tuple(program.out)]
    return sorted(line.split()[1] for line in lines if line.startswith("got "))


def _sent(quickstart, topic, name):
    """Sends records with keys, so that each partition gets some; their values."""
    values = [f"{name}-{number:03}" for number in range(60)]
    lines = "".join(f"{value}:{value}\n" for value in values)
    sent = quickstart.command("produce", topic, "-K", ":", input=lines.encode())
    assert sent.returncode == 0, sent.stderr
    return values


def test_members_of_three_libraries_share_a_group_and_take_over_from_one_that_died(
    quickstart, topic, members
):
    until(lambda: [_given(member) for member in members.values()] == [1, 1, 1], "an assignment")
    first = _sent(quickstart, topic, "first")
    until(lambda: len(_got(members.values())) >= len(first), "records")
    assert _got(members.values()) == first
    assert all(_got([member]) for member in members.values())
    died = members["kafka-python"]
    died.kill()
    left = [member for member in members.values() if member is not died]
    until(lambda: sum(map(_given, left)) == 3, "another assignment")
    second = _sent(quickstart, topic, "second")
    until(lambda: len(_got(members.values())) >= len(first) + len(second), "records")
    assert _got(members.values()) == first + second
