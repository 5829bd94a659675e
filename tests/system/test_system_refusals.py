"""Who is not allowed learns nothing, and who is not known is not even listened to.

A refusal must not tell whether a topic exists: every answer that `nobody` gets about a topic that
is there is, byte for byte, the answer about one that is not.
"""

import os
import shutil
import signal
import ssl
import struct
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certs_tooling.authority import Authority

from appliance.limits import MAX_FRAME_BYTES

from .conftest import COMMAND, until
from .talking import Client, requests

pytestmark = pytest.mark.system

HIDDEN, ABSENT = "a-topic-of-others", "a-topic-of-no-one"
LISTENERS = ("kafka", "native")
COMMANDS = {
    "describe": ("topic", "describe", HIDDEN),
    "create": ("topic", "create", HIDDEN),
    "delete": ("topic", "delete", "--yes", HIDDEN),
    "produce": ("produce", HIDDEN),
    "consume": ("consume", HIDDEN, "--exit-at-end"),
}
needs_kcat = pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")


@pytest.fixture(scope="module")
def appliance(quickstart):
    """The shared appliance with a topic in which one record lies."""
    made = quickstart.command("produce", HIDDEN, input=b"secret\n")
    assert made.returncode == 0, made.stderr
    return quickstart


def _files(appliance, user):
    folder = appliance.directory / "client"
    names = {"ca": "ca.pem", "certificate": f"{user}.pem", "key": f"{user}.key"}
    return {role: folder / name for role, name in names.items()}


# --- nobody, who is known and granted nothing ---------------------------------------------------


@pytest.mark.parametrize("way", requests(HIDDEN))
def test_nobody_gets_the_same_answer_about_what_is_there_and_what_is_not(appliance, way):
    with Client(appliance.kafka, **_files(appliance, "nobody")) as client:
        about_hidden = client.ask(*requests(HIDDEN)[way])
        about_absent = client.ask(*requests(ABSENT)[way])
    assert about_hidden.replace(HIDDEN.encode(), ABSENT.encode()) == about_absent
    with Client(appliance.kafka, **_files(appliance, "admin")) as client:
        assert client.ask(*requests(HIDDEN)["fetch"]).count(b"secret") == 1
        assert ABSENT.encode() not in client.ask(*requests(ABSENT)["metadata of all"])


@pytest.mark.parametrize("way", COMMANDS)
def test_nobody_s_commands_say_the_same_about_what_is_there_and_what_is_not(appliance, way):
    said = []
    for topic in (HIDDEN, ABSENT):
        arguments = [topic if word == HIDDEN else word for word in COMMANDS[way]]
        ended = appliance.command(*arguments, principal="nobody", input=b"x\n", timeout=60)
        assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (1, b"", 1)
        said.append(ended.stderr.decode().replace(topic, "TOPIC"))
    assert said[0] == said[1]
    assert "not allowed" in said[0]


def test_nobody_s_list_of_topics_is_empty(appliance):
    listed = appliance.command("topic", "list", principal="nobody")
    assert (listed.returncode, listed.stdout) == (0, b"")
    assert HIDDEN.encode() in appliance.command("topic", "list").stdout


@needs_kcat
def test_kcat_as_nobody_neither_reads_nor_writes_nor_lists(appliance):
    read = appliance.kcat("nobody", "-t", HIDDEN, "-C", "-e", "-o", "beginning")
    assert (read.returncode != 0, read.stdout) == (True, b"")
    patience = ("-X", "message.timeout.ms=2000")
    wrote = appliance.kcat("nobody", "-t", HIDDEN, "-P", *patience, input=b"x\n")
    assert wrote.returncode != 0
    assert HIDDEN.encode() not in appliance.kcat("nobody", "-L").stdout
    held = appliance.kcat("consumer", "-t", HIDDEN, "-C", "-e", "-o", "beginning")
    assert held.stdout == b"secret\n"


# --- limits, the same on each listener ------------------------------------------------------------


def _resident_kib(appliance):
    status = Path(f"/proc/{appliance.node_pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_frame_larger_than_any_ends_the_connection(appliance, listener):
    for size in (MAX_FRAME_BYTES + 1, 0x7FFFFFFF, 0xFFFFFFFF):
        with Client(getattr(appliance, listener), **_files(appliance, "nobody")) as client:
            assert client.end_after(struct.pack(">I", size))


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_size_that_is_declared_costs_no_memory(appliance, listener):
    """Fifty connections that each declare 100 MiB and send a kilobyte."""
    before = _resident_kib(appliance)
    with ExitStack() as opened:
        for _ in range(50):
            client = Client(getattr(appliance, listener), **_files(appliance, "nobody"))
            opened.enter_context(client)
            client.send(struct.pack(">I", MAX_FRAME_BYTES) + bytes(1024))
        with Client(appliance.kafka, **_files(appliance, "nobody")) as honest:
            honest.ask(*requests(HIDDEN)["metadata"])
        assert _resident_kib(appliance) - before < 32 * 1024


# --- who is not known -----------------------------------------------------------------------------


def _issue(authority, folder, name="mallory"):
    files = {"certificate": folder / f"{name}.pem", "key": folder / f"{name}.key"}
    issued = authority.issue_client(name, days=1)
    issued.save(**files)
    return issued, files


def _alert(port, ca, **files):
    """The alert that a request is answered with."""
    with pytest.raises(ssl.SSLError) as refused, Client(port, ca=ca, **files) as client:
        client.ask(*requests(HIDDEN)["metadata"])
    return refused.value.reason


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_certificate_of_another_authority_is_answered_by_an_alert(appliance, tmp_path, listener):
    _, files = _issue(Authority.create(tmp_path / "ca"), tmp_path)
    ca = appliance.directory / "client" / "ca.pem"
    assert _alert(getattr(appliance, listener), ca, **files) == "TLSV1_ALERT_UNKNOWN_CA"


@pytest.mark.parametrize("listener", LISTENERS)
def test_no_certificate_is_answered_by_an_alert(appliance, listener):
    ca = appliance.directory / "client" / "ca.pem"
    alert = _alert(getattr(appliance, listener), ca)
    assert alert == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_certificate_that_has_run_out_is_answered_by_an_alert(appliance, tmp_path, listener):
    # A day, the shortest that is issued, and five minutes ago: valid from the authority's own
    # beginning, which lies ten minutes before it was made, until five minutes ago.
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1, minutes=5)
    past = Authority.open(appliance.directory / "certs" / "ca", now=lambda: yesterday)
    _, files = _issue(past, tmp_path)
    ca = appliance.directory / "client" / "ca.pem"
    alert = _alert(getattr(appliance, listener), ca, **files)
    assert alert == "SSLV3_ALERT_CERTIFICATE_EXPIRED"


def test_a_revoked_certificate_is_answered_by_an_alert_once_the_list_was_read(appliance, tmp_path):
    authority = appliance.directory / "certs" / "ca"
    issued, files = _issue(Authority.open(authority), tmp_path)
    files["ca"] = appliance.directory / "client" / "ca.pem"
    with Client(appliance.kafka, **files) as client:
        client.ask(*requests(HIDDEN)["metadata"])
    revoke = [Path(COMMAND).with_name("memorystreamer-certs"), "revoke", issued.serial]
    subprocess.run([*revoke, "--dir", authority], check=True, capture_output=True)
    os.kill(appliance.node_pid, signal.SIGHUP)

    def refused():
        try:
            with Client(appliance.kafka, **files) as client:
                client.ask(*requests(HIDDEN)["metadata"])
        except ssl.SSLError:
            return True
        return False

    until(refused, "a refusal")
    for listener in LISTENERS:
        alert = _alert(getattr(appliance, listener), **files)
        assert alert == "SSLV3_ALERT_CERTIFICATE_REVOKED"
