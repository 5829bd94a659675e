"""What a newcomer meets: the first start, what it leaves, the next one, its end, and its refusals.

Most of it runs with a local keystore, which needs no key server; the shared appliance runs with a
real OpenBao.
"""

import os
import signal
import socket
import stat
import time
from pathlib import Path

import pytest

from .conftest import COMMAND, Program, spent_s, until

pytestmark = pytest.mark.system

PASSPHRASE = "correct horse battery staple"
USERS = ("admin", "producer", "consumer", "nobody")
SECOND_START_S = 5
IDLE_S = 5


@pytest.fixture
def passphrase(tmp_path):
    path = tmp_path / "passphrase"
    path.touch(mode=0o600)
    path.write_text(PASSPHRASE + "\n")
    return ("--passphrase-file", str(path))


def _one_line(program, *words):
    """That a program ended with one line that holds each word, and a code that is not 0."""
    code, out, errors = program.ended()
    assert code not in {0, 70}
    assert out == []
    assert len(errors) == 1, errors
    for word in words:
        assert word in errors[0]


# --- what is there when it serves -----------------------------------------------------------------


def test_the_last_line_on_stdout_says_where_it_serves(quickstart):
    ready = quickstart.program.out[-1]
    admin = quickstart.client("admin")
    addresses = f"kafka=127.0.0.1:{quickstart.kafka} native=127.0.0.1:{quickstart.native}"
    assert ready == f"ready {addresses} admin={admin}"
    assert not [line for line in quickstart.program.errors if line.startswith("memorystreamer:")]


def test_nobody_else_may_read_what_it_makes(quickstart):
    """Folders and files are the owner's alone; certificates and lists of them may be public."""
    for path in (quickstart.directory, *quickstart.directory.rglob("*")):
        others = stat.S_IMODE(path.stat().st_mode) & 0o077
        is_public = path.suffix == ".pem" and b"PRIVATE" not in path.read_bytes()
        assert others == 0 or (is_public and others == 0o044), path


def test_every_command_of_the_banner_is_there_to_copy(quickstart):
    shown = "\n".join(quickstart.program.out)
    for words in ("kcat -F", "producer.properties -t demo -P", "MEMORYSTREAMER_PROFILE=", "try"):
        assert words in shown


def test_a_profile_is_named_by_option_or_environment(quickstart):
    profile = quickstart.client("admin", "toml")
    environment = {"PATH": os.defpath}
    by_option = Program("topic", "list", "--profile", profile, env=environment)
    by_name = Program("topic", "list", env={**environment, "MEMORYSTREAMER_PROFILE": profile})
    assert by_option.ended()[0] == by_name.ended()[0] == 0
    _one_line(Program("topic", "list", env=environment), "--profile", "MEMORYSTREAMER_PROFILE")


def test_an_idle_node_needs_little_memory_and_hardly_any_time(quickstart):
    """Under 150 MB and under 1% of a core, once what a start leaves to do is done."""

    def share():
        before = spent_s(quickstart.node_pid)
        time.sleep(IDLE_S)  # the measure is of a span of time
        return (spent_s(quickstart.node_pid) - before) / IDLE_S

    until(lambda: share() < 0.01, "a node at rest", seconds=30)
    status = Path(f"/proc/{quickstart.node_pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    assert int(resident.split()[1]) < 150_000


# --- again, and its end ---------------------------------------------------------------------------


def test_a_life_on_a_local_keystore(fresh, passphrase, tmp_path):
    """Ctrl-C ends it cleanly, the next start has every record, another passphrase opens nothing."""
    fresh.start("--keys", "local", *passphrase)
    assert fresh.command("produce", "demo", input=b"one\ntwo\n").returncode == 0
    code, seconds = fresh.program.stop(signal.SIGINT)
    assert (code, seconds < 5) == (0, True)
    assert not (fresh.node / "pid").exists()
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("something else\n")
    _one_line(fresh.launch("--passphrase-file", str(wrong)), "passphrase")
    # Counted in processor time, because other processes must not fail this test.
    fresh.start(*passphrase, "--no-restart")
    assert fresh.spent_s < SECOND_START_S
    assert fresh.command("consume", "demo", "--exit-at-end").stdout == b"one\ntwo\n"
    os.kill(fresh.node_pid, signal.SIGKILL)
    said = fresh.program.says("ended by signal 9", fresh.program.errors)
    assert "memorystreamer node run --config" in said
    assert not (fresh.node / "pid").exists()
    # A terminal that is closed ends it as well as Ctrl-C.
    assert fresh.program.stop(signal.SIGHUP)[0] == 0


# --- refusals -------------------------------------------------------------------------------------


def test_a_port_in_use_is_one_line_that_names_the_option(fresh):
    with socket.create_server(("127.0.0.1", fresh.native)):
        _one_line(fresh.launch(), str(fresh.native), "--native-port")


def test_a_directory_in_use_or_that_may_not_be_used_is_one_line(quickstart, tmp_path):
    _one_line(Program("quickstart", "--dir", quickstart.directory), "another quickstart", "--dir")
    taken = tmp_path / "file"
    taken.touch()
    _one_line(Program("quickstart", "--dir", taken / "data"), str(taken), "--dir")


def test_a_passphrase_is_asked_for_on_a_terminal_only(fresh):
    _one_line(fresh.launch("--keys", "local"), "--passphrase-file")


def test_help_names_every_command():
    code, out, _ = Program("--help").ended()
    assert code == 0
    for noun in ("quickstart", "node", "topic", "produce", "consume", "policy"):
        assert any(line.split()[:1] == [noun] for line in out), noun
    assert COMMAND.exists()
