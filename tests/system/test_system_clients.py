"""Ordinary clients, doing what applications do with them."""

import struct
import sys
from pathlib import Path

import pytest

from .conftest import Program, until
from .talking import Client

pytestmark = pytest.mark.system

LIBRARIES = ("confluent-kafka", "kafka-python", "aiokafka")
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
