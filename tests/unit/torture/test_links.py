"""The proxies between nodes: what is held passes later, whole, and the other direction goes on."""

import socket

import pytest

from tests.torture.cluster.links import Links, address_of

DIALER, NODE = 2, 1


@pytest.fixture(name="ends")
def ends_fixture():
    """The links, and both ends of a connection that node 2 has opened to node 1."""
    links = Links()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = links.open(NODE, server.getsockname()[1])
        with socket.create_connection(
            ("127.0.0.1", port), source_address=(address_of(DIALER), 0)
        ) as near:
            far = server.accept()[0]
            with far:
                for end in (near, far):
                    end.settimeout(10)
                yield links, near, far
    links.close()


def test_one_direction_is_held_and_goes_on_when_it_is_mended(ends):
    links, near, far = ends
    links.cut_off(DIALER, [NODE], back=False)
    near.sendall(b"held")
    far.sendall(b"passes")
    assert near.recv(64) == b"passes"
    far.settimeout(0.1)
    with pytest.raises(TimeoutError):
        far.recv(64)
    links.mend()
    far.settimeout(10)
    assert far.recv(64) == b"held"


def test_the_end_of_a_process_behind_a_cut_is_not_seen_before_the_cut_is_mended(ends):
    links, near, far = ends
    links.cut_off(DIALER, [NODE])
    near.close()
    far.settimeout(0.1)
    with pytest.raises(TimeoutError):
        far.recv(64)
    links.mend()
    far.settimeout(10)
    assert far.recv(64) == b""


def test_links_that_break_end_both_ways(ends):
    links, near, far = ends
    near.sendall(b"passes")
    assert far.recv(64) == b"passes"
    links.break_off(NODE)
    assert near.recv(64) == b""
    assert far.recv(64) == b""


def test_of_two_troubles_the_end_of_one_is_not_the_end_of_the_other(ends):
    links, near, far = ends
    first = links.cut_off(DIALER, [NODE], back=False)
    second = links.cut_off(NODE, [DIALER], to=False)
    near.sendall(b"held twice")
    first()
    far.settimeout(0.1)
    with pytest.raises(TimeoutError):
        far.recv(64)
    second()
    far.settimeout(10)
    assert far.recv(64) == b"held twice"
