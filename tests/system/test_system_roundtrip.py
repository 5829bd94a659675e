"""Lines go in through a stock client and come back the same, after a restart and after kill -9.

Each stage is read by five clients at once, each with a group of its own: kcat, confluent-kafka,
kafka-python, aiokafka and our own command. What lies on the disk afterwards is searched for what
went in.
"""

import hashlib
import mmap
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import re2

from .conftest import COMMAND

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed"),
]

TEXT_BYTES = 50 * 1024 * 1024
TOPIC = "lines-of-the-library"
LIBRARIES = ("confluent-kafka", "kafka-python", "aiokafka")
STAGES = ("written", "restarted", "killed")
LINE = re.compile(rb"[^\r\n\0]{40,100000}")
"""What is taken of each source: lines so long that finding one on the disk is no coincidence."""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """At least 50 MB of real text: lines of Python's own library and of what is installed."""
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    roots = [Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib")]
    with path.open("wb") as out:
        for root in roots * 8:
            for source in root.rglob("*.py"):
                out.write(b"".join(line + b"\n" for line in LINE.findall(source.read_bytes())))
                if out.tell() >= TEXT_BYTES:
                    return path
    pytest.fail("this machine holds too little text")


def _readers(appliance, stage, lines):
    """A command for each client."""
    yield "kcat", ["kcat", "-q", "-F", appliance.client("consumer"), "-t", TOPIC, "-C", "-e"]
    profile = ["--profile", appliance.client("consumer", "toml")]
    yield "memorystreamer", [COMMAND, "consume", TOPIC, "--exit-at-end", *profile]
    script = Path(__file__).with_name("reading.py")
    for library in LIBRARIES:
        arguments = [appliance.client("consumer"), TOPIC, _group(stage, library), str(lines)]
        yield library, [sys.executable, script, library, *arguments]


def _group(stage, library):
    return f"readers-with-{library}-once-{stage}"


def _digests(appliance, stage, lines, folder):
    """What each client read, as SHA-256; all read at once."""
    running = []
    for name, command in _readers(appliance, stage, lines):
        path = folder / f"{stage}-{name}"
        with path.open("wb") as out:
            running.append((name, path, subprocess.Popen(command, stdout=out)))
    found = {}
    for name, path, process in running:
        assert process.wait(240) == 0, name
        with path.open("rb") as out:
            digest = hashlib.file_digest(out, "sha256").hexdigest()
        found[name] = path.read_text().strip() if name in LIBRARIES else digest
        path.unlink()
    return found


@pytest.fixture(scope="module")
def fed(quickstart, text):
    """The text, once every line of it has been acknowledged."""
    with text.open("rb") as source:
        ended = quickstart.kcat("producer", "-t", TOPIC, "-P", "-z", "none", stdin=source)
    assert (ended.returncode, ended.stderr) == (0, b"")
    return text


def _all_five_read(appliance, stage, text, folder):
    content = text.read_bytes()
    wanted = hashlib.sha256(content).hexdigest()
    found = _digests(appliance, stage, content.count(b"\n"), folder)
    assert found == dict.fromkeys(("kcat", "memorystreamer", *LIBRARIES), wanted)


def test_five_clients_read_what_was_fed(quickstart, fed, tmp_path):
    _all_five_read(quickstart, "written", fed, tmp_path)


def test_five_clients_read_it_after_a_restart(quickstart, fed, tmp_path):
    code, seconds = quickstart.stop()
    assert (code, seconds < 5) == (0, True)
    quickstart.start()
    assert quickstart.spent_s < 5
    _all_five_read(quickstart, "restarted", fed, tmp_path)


def test_five_clients_read_it_after_a_kill(quickstart, fed, tmp_path):
    quickstart.kill_node()
    _all_five_read(quickstart, "killed", fed, tmp_path)


def _stored(directory):
    """Every file under DIR but those that are there to name users: certificates and policy."""
    for path in sorted(directory.rglob("*")):
        by_nature = path.parent == directory / "client" or path in {
            directory / "certs" / "ca" / "ledger.json",
            directory / "policy.csv",
        }
        if path.is_file() and not by_nature:
            yield path


def _found(pattern, path):
    if path.stat().st_size == 0:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stored:
        hit = pattern.search(stored)
        return hit and bytes(hit.group())


def test_no_line_no_name_and_no_user_is_readable_in_anything_that_is_stored(quickstart, fed):
    lines = fed.read_bytes().splitlines()
    sample = lines[:: len(lines) // 1_200]
    assert len(sample) >= 1_000
    assert min(map(len, sample)) >= 16
    names = [TOPIC, *(_group(stage, library) for stage in STAGES for library in LIBRARIES)]
    users = [f"{form}{user}" for user in ("producer", "consumer") for form in ("User:", "user/")]
    wanted = [*sample, *(name.encode() for name in (*names, *users))]
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 256 * 1024 * 1024
    pattern = re2.compile(b"|".join(map(re2.escape, wanted)), options)
    assert _found(pattern, fed) is not None, "the search finds what is there"
    stored = list(_stored(quickstart.directory))
    assert sum(path.stat().st_size for path in stored) > TEXT_BYTES
    for path in stored:
        assert _found(pattern, path) is None, path
