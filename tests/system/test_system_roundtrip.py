"""Lines go in through a stock client and come back the same, after a restart and after kill -9."""

import hashlib
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from confluent_kafka import Consumer

pytestmark = pytest.mark.system

TEXT_BYTES = 50 * 1024 * 1024
TOPIC = "lines-of-the-library"
needs_kcat = pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """At least 50 MB of real text: Python's own library and what is installed beside it."""
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    paths = sysconfig.get_paths()
    size = 0
    with path.open("wb") as out:
        for root in (paths["stdlib"], paths["purelib"]) * 8:
            for source in sorted(Path(root).rglob("*.py")):
                for line in source.read_bytes().splitlines():
                    if line and b"\0" not in line and len(line) < 100_000:
                        out.write(line + b"\n")
                        size += len(line) + 1
                if size >= TEXT_BYTES:
                    return path
    pytest.fail("this machine holds too little text")


def _kcat(appliance, principal, *arguments, **options):
    command = ["kcat", "-q", "-F", appliance.client(principal), "-t", TOPIC, *arguments]
    return subprocess.run(command, check=True, timeout=300, **options)


def _digest_by_kcat(appliance, tmp_path):
    with (tmp_path / "kcat").open("w+b") as out:
        _kcat(appliance, "consumer", "-C", "-e", "-o", "beginning", stdout=out)
        out.seek(0)
        return hashlib.file_digest(out, "sha256").hexdigest()


def _digest_by_confluent(appliance, lines):
    settings = dict(
        line.split("=", 1)
        for line in Path(appliance.client("consumer")).read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    consumer = Consumer(settings | {"group.id": "readers", "auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC])
    digest, left = hashlib.sha256(), lines
    try:
        while left:
            messages = consumer.consume(10_000, timeout=30)
            assert messages, f"{left} lines did not come"
            for message in messages:
                assert message.error() is None
                digest.update(message.value() + b"\n")
            left -= len(messages)
    finally:
        consumer.close()
    return digest.hexdigest()


@needs_kcat
def test_fifty_megabytes_survive_a_restart_and_a_kill(quickstart, text, tmp_path):
    wanted = hashlib.sha256(text.read_bytes()).hexdigest()
    lines = text.read_bytes().count(b"\n")
    with text.open("rb") as source:
        _kcat(quickstart, "producer", "-P", "-z", "none", stdin=source)
    assert _digest_by_kcat(quickstart, tmp_path) == wanted
    assert _digest_by_confluent(quickstart, lines) == wanted
    code, seconds = quickstart.stop()
    assert (code, seconds < 5) == (0, True)
    assert quickstart.start() < 30
    assert _digest_by_kcat(quickstart, tmp_path) == wanted
    quickstart.kill_node()
    assert _digest_by_kcat(quickstart, tmp_path) == wanted


@needs_kcat
def test_no_line_no_topic_and_no_group_is_readable_in_the_data(quickstart, text):
    sample = [line for line in text.read_bytes().splitlines() if len(line) >= 24][::997][:1_000]
    assert len(sample) >= 500
    wanted = [*sample, TOPIC.encode(), b"readers"]
    for path in (quickstart.directory / "nodes" / "1" / "data").rglob("*"):
        if path.is_file():
            stored = path.read_bytes()
            assert not any(secret in stored for secret in wanted), path.name


@needs_kcat
def test_nobody_learns_of_the_topic(quickstart):
    for arguments in (["-C", "-e", "-o", "beginning"], ["-P"]):
        command = ["kcat", "-q", "-F", quickstart.client("nobody"), "-t", TOPIC, *arguments]
        ended = subprocess.run(
            [*command, "-X", "message.timeout.ms=3000"],
            input=b"x\n",
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert ended.stdout == b""
        assert ended.returncode != 0
    listing = subprocess.run(
        ["kcat", "-F", quickstart.client("nobody"), "-L"], capture_output=True, check=True
    )
    assert TOPIC.encode() not in listing.stdout
    refused = quickstart.command("topic", "list", principal="nobody")
    assert TOPIC.encode() not in refused.stdout
