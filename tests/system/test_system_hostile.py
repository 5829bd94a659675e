"""A few hundred connections that go nowhere; `make hostile` plays ten thousand, and measures."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.limits import MAX_HANDSHAKE_S, MAX_HANDSHAKES_PER_ADDRESS

from .conftest import until
from .talking import Client, requests

pytestmark = pytest.mark.system


def _resident_kib(appliance):
    status = Path(f"/proc/{appliance.node_pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def _is_ended(connection):
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("listener", ["kafka", "native"])
def test_silent_connections_are_bounded_by_address_and_cost_little(quickstart, listener):
    before = _resident_kib(quickstart)
    folder = quickstart.directory / "client"
    files = {"certificate": folder / "nobody.pem", "key": folder / "nobody.key"}
    with (
        Client(quickstart.kafka, ca=folder / "ca.pem", **files) as honest,
        ExitStack() as opened,
    ):
        silent, begun = [], time.monotonic()
        for number in range(4 * (MAX_HANDSHAKES_PER_ADDRESS + 10)):
            address = f"127.0.{70 + number % 4}.1"
            port = getattr(quickstart, listener)
            one = socket.create_connection(("127.0.0.1", port), 20, (address, 0))
            one.setblocking(False)
            silent.append(opened.enter_context(one))
        until(lambda: sum(map(_is_ended, silent)) >= 4 * 10, "an end of those beyond the bound")
        assert time.monotonic() - begun < MAX_HANDSHAKE_S, "they were ended for their number"
        honest.ask(*requests("a-topic")["metadata"])
        assert _resident_kib(quickstart) - before < 16 * 1024
