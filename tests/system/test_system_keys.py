"""A node lives without its Vault for a while, and waits for it sealed when it has none to start.

The node runs on its own configuration, as in production; OpenBao is started and stopped beside it.
"""

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
import trio
from certs_tooling.authority import Authority

from appliance import config
from appliance.cli.quickstart.openbao import running_openbao

from .conftest import Program, until

pytestmark = pytest.mark.system

TOPIC = "kept-while-vault-is-away"


@pytest.fixture(scope="module")
def stopped(quickstart):
    """The shared appliance, stopped for these tests and running again after them."""
    quickstart.stop()
    yield quickstart
    quickstart.start()


@contextmanager
def vault(appliance):
    """The quickstart's OpenBao, in its directory, on its port, running without the quickstart."""
    node = config.parse((appliance.node / "node.toml").read_text(), base=appliance.node)
    authority = Authority.open(appliance.directory / "certs" / "ca")
    port = urlsplit(node.keys.vault.address).port
    started, stop = threading.Event(), threading.Event()

    async def main():
        folder, cluster = appliance.directory / "openbao", node.node.cluster
        async with running_openbao(folder, authority, cluster=cluster, nodes=[1], port=port):
            started.set()
            await trio.to_thread.run_sync(stop.wait)

    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(trio.run, main)
        until(lambda: started.is_set() or running.done(), "OpenBao")
        try:
            yield
        finally:
            stop.set()
            running.result()


def _run(appliance):
    return Program("node", "run", "--config", appliance.node / "node.toml")


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _waits_sealed(program, appliance):
    line = program.says("waiting sealed", program.errors)
    assert '"advice"' in line
    assert program.out == []
    assert not _listens(appliance.kafka)
    assert not _listens(appliance.native)


def _produce(appliance, topic, line):
    ended = appliance.command("produce", topic, input=line, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, b"")


def _consume(appliance, topic):
    return appliance.command("consume", topic, "--exit-at-end", timeout=30).stdout


def test_what_was_acknowledged_without_vault_is_there_when_it_is_back(stopped):
    """Vault away before the start, back, away while the node serves, and after a kill -9."""
    program = _run(stopped)
    _waits_sealed(program, stopped)
    with vault(stopped):
        program.says("ready ")
        _produce(stopped, TOPIC, b"with\n")
    # Neither a topic that is there nor one that has to be made waits for Vault.
    _produce(stopped, TOPIC, b"without\n")
    _produce(stopped, f"{TOPIC}-since", b"new\n")
    assert _consume(stopped, TOPIC) == b"with\nwithout\n"
    assert program.kill()[0] == -signal.SIGKILL
    program = _run(stopped)
    _waits_sealed(program, stopped)
    with vault(stopped):
        program.says("ready ")
        assert _consume(stopped, TOPIC) == b"with\nwithout\n"
        assert _consume(stopped, f"{TOPIC}-since") == b"new\n"
        code, seconds = program.stop()
    assert (code, seconds < 5) == (0, True)


def test_a_node_that_waits_sealed_stops_as_any_other(stopped):
    program = _run(stopped)
    _waits_sealed(program, stopped)
    code, seconds = program.stop(signal.SIGINT)
    assert (code, seconds < 5) == (0, True)


def test_the_quickstart_says_that_its_key_server_ended_and_goes_on(fresh):
    """First it answers nothing any more, then it is gone; neither holds up what is written."""
    fresh.start()
    _produce(fresh, TOPIC, b"with\n")
    server = int((fresh.directory / "openbao" / "pid").read_text())
    os.kill(server, signal.SIGSTOP)
    _produce(fresh, TOPIC, b"stalled\n")
    os.kill(server, signal.SIGKILL)
    fresh.program.says("OpenBao ended by signal 9", fresh.program.errors)
    _produce(fresh, TOPIC, b"gone\n")
    assert _consume(fresh, TOPIC) == b"with\nstalled\ngone\n"
