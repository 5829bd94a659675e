"""The socket for a node's health: who may ask, what is answered, and what it costs at most."""

import os
import socket
import stat

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from appliance.errors import ConfigurationError
from appliance.limits import MAX_HEALTH_HEAD_BYTES
from appliance.observe.metrics import Metrics
from appliance.ports import DomainStanding, ReplicationStanding
from appliance.server import health as health_module
from appliance.server.health import HealthSocket


class Node:
    ready = False


@pytest.fixture
def path(tmp_path):
    return tmp_path / "health.sock"


def served(path, body, *, metrics=lambda: b"figures\n"):
    node = Node()
    health = HealthSocket(path, is_ready=lambda: node.ready, metrics=metrics)

    async def main():
        async with trio.open_nursery() as nursery:
            await nursery.start(health.run)
            await body(node)
            nursery.cancel_scope.cancel()

    trio.run(main)


async def ask(path, request):
    """(status, body) of one request, given as a target or as raw bytes."""
    if isinstance(request, str):
        request = b"GET %s HTTP/1.1\r\nHost: node\r\n\r\n" % request.encode()
    received = bytearray()
    async with await trio.open_unix_socket(path) as stream:
        try:
            await stream.send_all(request)
            async for chunk in stream:
                received += chunk
        except trio.BrokenResourceError:
            pass
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else None), body


def test_alive_ready_and_figures_are_told(path):
    async def body(node):
        assert await ask(path, "/livez") == (200, b"alive\n")
        assert (await ask(path, "/readyz"))[0] == 503
        node.ready = True
        assert await ask(path, "/readyz") == (200, b"ready\n")
        assert await ask(path, "/metrics") == (200, b"figures\n")
        assert (await ask(path, "/nodes"))[0] == 404

    served(path, body)
    assert not path.exists()


def test_only_the_nodes_user_and_root_may_open_it(path, monkeypatch):
    async def body(_):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        monkeypatch.setattr(health_module.os, "geteuid", lambda: os.getuid() + 1)
        monkeypatch.setattr(health_module, "_ROOT", -1)
        assert await ask(path, "/metrics") == (None, b"")

    served(path, body)


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /livez HTTP/1.1\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\nmore",
        b"\x16\x03\x01\r\n\r\n",
        b"GET /" + b"x" * MAX_HEALTH_HEAD_BYTES,
    ],
)
def test_what_is_no_single_get_is_refused(path, request_):
    async def body(_):
        assert (await ask(path, request_))[0] == 400
        assert (await ask(path, "/livez"))[0] == 200

    served(path, body)


def test_those_who_say_nothing_are_few_and_not_for_long(path, monkeypatch):
    monkeypatch.setattr(health_module, "HEALTH_PATIENCE_S", 1.0)
    monkeypatch.setattr(health_module, "MAX_HEALTH_CONNECTIONS", 2)

    async def body(_):
        silent = [await trio.open_unix_socket(path) for _ in range(2)]
        assert await ask(path, "/livez") == (None, b"")
        for stream in silent:
            assert await stream.receive_some() == b""
            await stream.aclose()
        assert (await ask(path, "/livez"))[0] == 200

    served(path, body)


def test_a_socket_of_a_life_before_is_taken_over_and_a_file_is_not(path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    async def body(_):
        assert (await ask(path, "/livez"))[0] == 200

    served(path, body)
    path.write_text("kept")
    with pytest.RaisesGroup(ConfigurationError):
        served(path, body)
    assert path.read_text() == "kept"


def figures_of(metrics):
    text = metrics.text().decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {(s.name, *s.labels.values()): s.value for s in samples}


def test_replicas_are_measured_while_there_are_any():
    metrics, now = Metrics(), None
    metrics.follow_replication(lambda: now)
    assert figures_of(metrics) == {}
    now = ReplicationStanding(held=9, led=4, under_replicated=2, leaderless=1, shrunk=3, damaged=5)
    assert figures_of(metrics) == {
        ("memorystreamer_replicas_held",): 9,
        ("memorystreamer_replicas_led",): 4,
        ("memorystreamer_replicas_under_replicated",): 2,
        ("memorystreamer_replicas_leaderless",): 1,
        ("memorystreamer_replicas_shrunk_total",): 3,
        ("memorystreamer_replicas_damaged_total",): 5,
    }


def test_keys_are_measured_by_domain_and_their_refusals_by_cause():
    metrics, refusals = Metrics(), {"unavailable": 2}
    metrics.follow_keys(
        lambda: [DomainStanding("one", 12.5, 3), DomainStanding("two", 0.0, 0)], refusals
    )
    refusals["no_spare"] = 1

    assert figures_of(metrics) == {
        ("memorystreamer_keys_lease_seconds", "one"): 12.5,
        ("memorystreamer_keys_lease_seconds", "two"): 0.0,
        ("memorystreamer_keys_spare_data_keys", "one"): 3.0,
        ("memorystreamer_keys_spare_data_keys", "two"): 0.0,
        ("memorystreamer_keys_sealed", "one"): 0.0,
        ("memorystreamer_keys_sealed", "two"): 1.0,
        ("memorystreamer_keys_refusals_total", "no_spare"): 1.0,
        ("memorystreamer_keys_refusals_total", "unavailable"): 2.0,
    }
